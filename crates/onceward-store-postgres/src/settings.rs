//! What can be chosen about a PostgreSQL store, and how a URL says it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onceward_core::store::CALL_BUDGET_MAX;
use percent_encoding::percent_decode_str;

/// The choices of a PostgreSQL store. [`PostgresSettings::from_url`] reads them; what it does not say has its default.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// The schema that has the tables. Default: the first one of the connection's own `search_path` that has them.
    pub schema: Option<String>,
    /// How many connections there are at most. The first is there at once, others when all are busy. 1 to 64,
    /// default 4.
    pub connections: usize,
    /// The longest that one call may take. 100 ms to 5 min, default 5 s.
    pub call_timeout: Duration,
    /// How many calls may wait; more of them are refused. 1 to 65 536, default 8192.
    pub max_queue: usize,
    /// Whether opening makes and updates the tables. Default `true`.
    pub migrate: bool,
    /// Whether the store asks now and then for all records that somebody of this process waits for, so that waiters are
    /// told soon. Default `true`; otherwise each finds out by looking now and then.
    pub hints: bool,
    /// Whether and how the connection is encrypted.
    pub tls: Tls,
    /// Certificates (PEM) that may sign the server's. Default: those that the machine trusts.
    pub tls_roots: Option<PathBuf>,
    /// Where the server is and who asks. The password is in it.
    pub(crate) driver: tokio_postgres::Config,
}

/// Whether and how a connection is encrypted, in the words of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// `disable`: never.
    Disable,
    /// `prefer`, the default: where the server can. Protects from nobody who can change what is sent.
    Prefer,
    /// `require`: always, whoever the server is; where `sslrootcert` is given, like `verify-ca`.
    Require,
    /// `verify-ca`: always, and somebody who is trusted signed the server's certificate.
    VerifyCa,
    /// `verify-full`: always, and the certificate is for the host in the URL.
    VerifyFull,
}

/// A URL that does not describe a PostgreSQL store. Its text says what to write instead, and never the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Another scheme.
    #[error("the store URL does not begin with `postgres://`; write `postgres://user@host/database`")]
    Scheme,
    /// No host.
    #[error(
        "the store URL names no host; write `postgres://user@host/database`, or `?host=/folder` for a socket"
    )]
    Host,
    /// A parameter that does not exist.
    #[error("the store URL has an unknown parameter `{name}`; there are {KNOWN}")]
    Unknown {
        /// The parameter as written.
        name: String,
    },
    /// A parameter that stands there twice.
    #[error("the store URL has the parameter `{name}` twice; write it once")]
    Twice {
        /// The parameter.
        name: String,
    },
    /// A value that the parameter does not take.
    #[error("the store URL has a value for `{name}` that it does not take; write {remedy}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What the parameter takes.
        remedy: &'static str,
    },
    /// Something else that cannot be read.
    #[error("the store URL cannot be read: {cause}")]
    Url {
        /// What is wrong with it.
        cause: String,
    },
}

const KNOWN: &str = "schema, connections, call_timeout, max_queue, hints, migrate, sslmode, sslrootcert, host, hostaddr, port, \
     user, password, dbname, options, application_name, connect_timeout, channel_binding, keepalives_idle, \
     tcp_user_timeout and load_balance_hosts";

/// What the driver reads by itself.
const OF_THE_DRIVER: [&str; 13] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "channel_binding",
    "keepalives_idle",
    "tcp_user_timeout",
    "load_balance_hosts",
];

const CONNECTIONS_MAX: usize = 64;
const QUEUE_MAX: usize = 65_536;
const CALL_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// How long it may take to connect, unless the URL says otherwise.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long without a word the system asks whether the server is still there.
const KEEPALIVES_IDLE: Duration = Duration::from_secs(30);

impl PostgresSettings {
    /// Reads `postgres://user:password@host:5432/database?schema=onceward&connections=4&call_timeout=5s&…`.
    /// Every parameter may be left out; several hosts stand side by side with commas.
    ///
    /// # Errors
    /// [`SettingsError`] names the parameter and what to write.
    pub fn from_url(url: &str) -> Result<Self, SettingsError> {
        let (scheme, rest) = url.split_once("://").ok_or(SettingsError::Scheme)?;
        if !["postgres", "postgresql"].contains(&scheme) {
            return Err(SettingsError::Scheme);
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut ours, mut theirs, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for pair in query.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(SettingsError::Twice { name: name.to_owned() });
            }
            seen.push(name);
            if OF_THE_DRIVER.contains(&name) { theirs.push(pair) } else { ours.push((name, value)) }
        }
        let for_driver = format!("postgres://{place}?{}", theirs.join("&"));
        let driver: tokio_postgres::Config = for_driver.parse().map_err(unreadable)?;
        let mut settings = Self::new(driver)?;
        for (name, value) in ours {
            let decoded = percent_decode_str(value).decode_utf8();
            let value = decoded.map_err(|it| SettingsError::Url { cause: it.to_string() })?;
            settings.set(name, &value)?;
        }
        Ok(settings)
    }

    fn new(mut driver: tokio_postgres::Config) -> Result<Self, SettingsError> {
        use tokio_postgres::config::TargetSessionAttrs;
        if driver.get_hosts().is_empty() && driver.get_hostaddrs().is_empty() {
            return Err(SettingsError::Host);
        }
        if driver.get_connect_timeout().is_none() {
            driver.connect_timeout(CONNECT_TIMEOUT);
        }
        if driver.get_application_name().is_none() {
            driver.application_name("onceward");
        }
        // Two hours are the driver's own default.
        if driver.get_keepalives_idle() == Duration::from_secs(2 * 3600) {
            driver.keepalives_idle(KEEPALIVES_IDLE);
        }
        // Of several hosts the one that writes.
        driver.target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self {
            schema: None,
            connections: 4,
            call_timeout: Duration::from_secs(5),
            max_queue: 8192,
            hints: true,
            migrate: true,
            tls: Tls::Prefer,
            tls_roots: None,
            driver,
        })
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        let wrong = |name, remedy| SettingsError::Value { name, remedy };
        match name {
            "schema" => {
                let good = !value.is_empty() && value.len() <= 63 && !value.contains('\0');
                self.schema = Some(
                    good.then(|| value.to_owned()).ok_or_else(|| wrong("schema", "the name of a schema"))?,
                );
            }
            "connections" => {
                self.connections = count(value, CONNECTIONS_MAX)
                    .ok_or_else(|| wrong("connections", "a whole number from 1 to 64"))?;
            }
            "max_queue" => {
                self.max_queue = count(value, QUEUE_MAX)
                    .ok_or_else(|| wrong("max_queue", "a whole number from 1 to 65536"))?;
            }
            "call_timeout" => {
                let timeout = humantime::parse_duration(value).ok();
                self.call_timeout = timeout
                    .filter(|it| (CALL_TIMEOUT_MIN..=CALL_BUDGET_MAX).contains(it))
                    .ok_or_else(|| wrong("call_timeout", "a duration from `100ms` to `5m`"))?;
            }
            "hints" => {
                self.hints = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(wrong("hints", "`on` or `off`")),
                }
            }
            "migrate" => {
                self.migrate = match value {
                    "auto" => true,
                    "off" => false,
                    _ => return Err(wrong("migrate", "`auto` or `off`")),
                }
            }
            "sslmode" => {
                self.tls = match value {
                    "disable" => Tls::Disable,
                    "prefer" => Tls::Prefer,
                    "require" => Tls::Require,
                    "verify-ca" => Tls::VerifyCa,
                    "verify-full" => Tls::VerifyFull,
                    _ => {
                        let remedy = "`disable`, `prefer`, `require`, `verify-ca` or `verify-full`";
                        return Err(wrong("sslmode", remedy));
                    }
                }
            }
            "sslrootcert" => {
                let path = (!value.is_empty()).then(|| PathBuf::from(value));
                self.tls_roots = Some(path.ok_or_else(|| wrong("sslrootcert", "the path of a PEM file"))?);
            }
            _ => return Err(SettingsError::Unknown { name: name.to_owned() }),
        }
        Ok(())
    }

    /// The settings within their bounds: values that were set by hand are moved to the nearest one allowed.
    pub(crate) fn bounded(self) -> Self {
        Self {
            connections: self.connections.clamp(1, CONNECTIONS_MAX),
            max_queue: self.max_queue.clamp(1, QUEUE_MAX),
            call_timeout: self.call_timeout.clamp(CALL_TIMEOUT_MIN, CALL_BUDGET_MAX),
            ..self
        }
    }
}

impl fmt::Debug for PostgresSettings {
    /// The driver's settings are shown without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .field("call_timeout", &self.call_timeout)
            .field("max_queue", &self.max_queue)
            .field("hints", &self.hints)
            .field("migrate", &self.migrate)
            .field("tls", &self.tls)
            .field("tls_roots", &self.tls_roots)
            .field("hosts", &self.driver.get_hosts())
            .field("ports", &self.driver.get_ports())
            .field("user", &self.driver.get_user())
            .field("database", &self.driver.get_dbname())
            .finish_non_exhaustive()
    }
}

/// What the driver says of a URL, without its values: its cause may quote them.
#[expect(clippy::needless_pass_by_value, reason = "this is what `map_err` hands over")]
fn unreadable(error: tokio_postgres::Error) -> SettingsError {
    let inner = std::error::Error::source(&error).map(ToString::to_string);
    SettingsError::Url { cause: inner.unwrap_or_else(|| error.to_string()) }
}

fn count(text: &str, max: usize) -> Option<usize> {
    text.parse().ok().filter(|it| (1..=max).contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "postgres://pay:s3cret@db.example:5433/shop";

    fn read(query: &str) -> Result<PostgresSettings, SettingsError> {
        PostgresSettings::from_url(&format!("{PLAIN}{query}"))
    }

    #[test]
    fn a_url_says_every_setting_and_the_rest_stay_as_they_are() {
        let plain = read("").unwrap();
        assert_eq!((plain.connections, plain.max_queue, plain.migrate), (4, 8192, true));
        assert_eq!((plain.driver.get_user(), plain.driver.get_ports()), (Some("pay"), &[5433][..]));
        let seconds = Duration::from_secs;
        let it = |change: fn(&mut PostgresSettings)| {
            let mut settings = plain.clone();
            change(&mut settings);
            settings
        };
        for (query, expected) in [
            ("?", plain.clone()),
            ("?schema=my%20pay", it(|it| it.schema = Some("my pay".into()))),
            ("?connections=64&max_queue=1", it(|it| (it.connections, it.max_queue) = (64, 1))),
            ("?call_timeout=300s", PostgresSettings { call_timeout: seconds(300), ..plain.clone() }),
            ("?migrate=off&sslmode=verify-full", it(|it| (it.migrate, it.tls) = (false, Tls::VerifyFull))),
            ("?sslrootcert=/etc/ca.pem", it(|it| it.tls_roots = Some("/etc/ca.pem".into()))),
            ("?migrate=auto&sslmode=prefer&hints=on", plain.clone()),
            ("?hints=off", it(|it| it.hints = false)),
            ("?application_name=till", it(|it| _ = it.driver.application_name("till"))),
        ] {
            assert_eq!(read(query), Ok(expected), "{query}");
        }
        let socket = PostgresSettings::from_url("postgresql:///shop?host=/run/postgresql").unwrap();
        assert_eq!(socket.driver.get_hosts().len(), 1);
        assert_eq!(PostgresSettings::from_url("postgres://a,b/shop").unwrap().driver.get_hosts().len(), 2);
    }

    #[test]
    fn a_wrong_url_is_refused_by_parameter_with_what_to_write() {
        for (query, parts) in [
            ("?schemas=x", ["`schemas`", "schema, connections"]),
            ("?target_session_attrs=any", ["`target_session_attrs`", "there are"]),
            ("?connections=1&connections=2", ["`connections` twice", "once"]),
            ("?connections=0", ["`connections`", "1 to 64"]),
            ("?max_queue=x", ["`max_queue`", "1 to 65536"]),
            ("?call_timeout=6m", ["`call_timeout`", "`5m`"]),
            ("?call_timeout=5", ["`call_timeout`", "`5m`"]),
            ("?migrate=no", ["`migrate`", "`off`"]),
            ("?hints=no", ["`hints`", "`off`"]),
            ("?sslmode=allow", ["`sslmode`", "`require`"]),
            ("?sslrootcert=", ["`sslrootcert`", "PEM"]),
            ("?schema=", ["`schema`", "name"]),
            ("?port=x", ["port", "cannot be read"]),
        ] {
            let said = read(query).unwrap_err().to_string();
            assert!(parts.iter().all(|it| said.contains(it)), "{query}: {said}");
        }
        for url in ["redis://x", "embedded:./x", "postgres:x"] {
            assert_eq!(PostgresSettings::from_url(url), Err(SettingsError::Scheme), "{url}");
        }
        assert_eq!(PostgresSettings::from_url("postgres:///shop"), Err(SettingsError::Host));
    }

    #[test]
    fn a_password_stands_in_no_debug_output_and_in_no_error() {
        assert!(!format!("{:?}", read("").unwrap()).contains("s3cret"));
        for query in ["?x=1", "?port=s3cret", "?password=s3cret&password=s3cret", "?connections=s3cret"] {
            let error = read(query).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
        let bad = PostgresSettings::from_url("postgres://pay:s3cret@db.example:s3cret/shop").unwrap_err();
        assert!(!format!("{bad} {bad:?}").contains("s3cret"), "{bad:?}");
    }
}
