//! A pool of `sqlx` connections by the URL of a store, for commands that have no application around them.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio_postgres::config::{ChannelBinding, Host};

use crate::settings::{CONNECT_TIMEOUT, PostgresSettings, Tls};

/// What a pool of `sqlx` cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connections that are used here cannot have {0}; leave that out of the URL")]
pub struct PoolError(&'static str);

impl PostgresSettings {
    /// A pool of up to `connections` to the server that these settings name, which connects when it is first used. A name or an
    /// address of one server, or a socket; encrypted as the settings say, where this build has the feature `sqlx-tls`. Beside the
    /// certificates of `sslrootcert`, those count that the machine trusts.
    ///
    /// # Errors
    /// [`PoolError`]: the URL has something that these connections cannot have. Nobody was asked.
    pub fn sqlx_pool(&self, connections: u32) -> Result<PgPool, PoolError> {
        let wait =
            self.driver.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT).max(Duration::from_secs(1));
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(wait);
        Ok(pool.connect_lazy_with(self.sqlx_options()?))
    }

    fn sqlx_options(&self) -> Result<PgConnectOptions, PoolError> {
        let it = &self.driver;
        let mut options = PgConnectOptions::new_without_pgpass()
            .application_name(it.get_application_name().unwrap_or("onceward"));
        options = match (it.get_hosts(), it.get_hostaddrs()) {
            ([Host::Tcp(host)], []) => options.host(host),
            ([Host::Unix(folder)], []) => options.host("localhost").socket(folder),
            ([], [address]) => options.host(&address.to_string()),
            (_, []) | ([], _) => return Err(PoolError("several hosts")),
            _ => return Err(PoolError("`hostaddr` beside a host")),
        };
        options = options.port(it.get_ports().first().copied().unwrap_or(5432));
        if let Some(user) = it.get_user() {
            options = options.username(user).database(user);
        }
        if let Some(database) = it.get_dbname() {
            options = options.database(database);
        }
        if let Some(password) = it.get_password() {
            options = options.password(
                std::str::from_utf8(password).map_err(|_| PoolError("a password that is no text"))?,
            );
        }
        if it.get_channel_binding() == ChannelBinding::Require {
            return Err(PoolError("`channel_binding=require`"));
        }
        let set = settings_in(it.get_options().unwrap_or_default());
        options = options.options(set.ok_or(PoolError("other `options` than `-c name=value`"))?);
        options = options.ssl_mode(match self.tls {
            Tls::Disable => PgSslMode::Disable,
            Tls::Prefer => PgSslMode::Prefer,
            // That driver checks nothing for `require`, not even with certificates at hand.
            Tls::Require if self.tls_roots.is_some() => PgSslMode::VerifyCa,
            Tls::Require => PgSslMode::Require,
            Tls::VerifyCa => PgSslMode::VerifyCa,
            Tls::VerifyFull => PgSslMode::VerifyFull,
        });
        if let Some(roots) = &self.tls_roots {
            options = options.ssl_root_cert(roots);
        }
        Ok(sqlx::ConnectOptions::disable_statement_logging(options))
    }
}

/// The settings of a server in `options`: `-c name=value` or `--name=value`, with a backslash before spaces.
fn settings_in(options: &str) -> Option<Vec<(String, String)>> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(it) = characters.next() {
        match it {
            '\\' => words.last_mut()?.push(characters.next()?),
            it if it.is_whitespace() => words.push(String::new()),
            it => words.last_mut()?.push(it),
        }
    }
    let mut words = words.into_iter().filter(|it| !it.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let pair = match word.strip_prefix("-c") {
            Some("") => words.next()?,
            Some(pair) => pair.to_owned(),
            None => word.strip_prefix("--")?.to_owned(),
        };
        let (name, value) = pair.split_once('=')?;
        found.push((name.to_owned(), value.to_owned()));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(rest: &str) -> Result<PgConnectOptions, PoolError> {
        PostgresSettings::from_url(&format!("postgres://pay:s3cret@{rest}")).unwrap().sqlx_options()
    }

    #[test]
    fn a_pool_goes_where_the_store_goes() {
        let it = read("db.example:5433/shop?application_name=till&options=-c%20geqo%3Doff").unwrap();
        assert_eq!((it.get_host(), it.get_port(), it.get_username()), ("db.example", 5433, "pay"));
        assert_eq!((it.get_database(), it.get_application_name()), (Some("shop"), Some("till")));
        assert_eq!(it.get_options(), Some("-c geqo=off"));
        let socket = read("/shop?host=/run/postgresql&dbname=other").unwrap();
        assert_eq!(socket.get_socket().unwrap().to_str(), Some("/run/postgresql"));
        assert_eq!(socket.get_database(), Some("other"));
        assert_eq!(read("db.example").unwrap().get_database(), Some("pay"));
        for (query, mode) in [
            ("sslmode=disable", "Disable"),
            ("", "Prefer"),
            ("sslmode=require", "Require"),
            ("sslmode=require&sslrootcert=/ca.pem", "VerifyCa"),
            ("sslmode=verify-full", "VerifyFull"),
        ] {
            assert_eq!(
                format!("{:?}", read(&format!("db.example/shop?{query}")).unwrap().get_ssl_mode()),
                mode
            );
        }
    }

    #[test]
    fn what_a_pool_cannot_have_is_refused_by_name() {
        for (rest, what) in [
            ("a,b/shop", "several hosts"),
            ("a/shop?hostaddr=10.0.0.1", "`hostaddr`"),
            ("a/shop?channel_binding=require", "`channel_binding=require`"),
            ("a/shop?options=-W", "`options`"),
        ] {
            assert!(read(rest).unwrap_err().to_string().contains(what), "{rest}");
        }
    }

    #[test]
    fn settings_of_a_server_are_read_with_their_spaces() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let read = settings_in(r"-c a=1 -cb=x\ y  --c=\\");
        assert_eq!(read, Some(vec![pair("a", "1"), pair("b", "x y"), pair("c", "\\")]));
        assert_eq!(settings_in(""), Some(vec![]));
        for wrong in ["a=1", "-c", "-c a", "\\"] {
            assert_eq!(settings_in(wrong), None, "{wrong}");
        }
    }
}
