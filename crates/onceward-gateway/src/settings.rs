//! What the gateway can be told, where it is read from, and what it does when told nothing.
//!
//! Flags win over `ONCEWARD_…` variables, variables over the file, the file over the defaults.
//! [`Settings::read`] gives either settings that are checked as a whole or every problem it found; nothing
//! else in this crate looks at the environment or checks a setting again.
//!
//! ```
//! use onceward_gateway::settings::Settings;
//!
//! let settings = Settings::parse_toml(
//!     r#"
//!     [upstream]
//!     urls = ["http://127.0.0.1:9000"]
//!     [[route]]
//!     path = "/payments"
//!     retention = "7d"
//!     "#,
//! )?;
//! assert_eq!(settings.routes[0].policy.retention.as_secs(), 7 * 24 * 3600);
//! assert_eq!(settings.routes[0].policy.lease, settings.policy.lease);
//! # Ok::<(), onceward_gateway::settings::SettingsError>(())
//! ```

mod change;
mod check;
mod defaults;
mod error;
mod keys;
mod kinds;
mod policy;
mod read;
mod show;
mod store_url;
mod units;
mod unknown;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Uri};

pub use self::change::Changes;
pub use self::error::{Place, Problem, SettingsError, reasons};
pub use self::policy::{
    Compare, InFlight, KeyRule, KeySource, Oversize, Policy, Principal, Scheme, Unresolved,
};
pub use self::store_url::StoreUrl;
pub use self::units::duration as parse_duration;
pub(crate) use self::units::{show_bytes, show_duration};
pub use onceward_http::PathPattern;

/// Everything the gateway can be told. The fields bear the names of the keys in the file.
///
/// The default is what an empty file gives, which lacks an upstream and so would not pass [`Settings::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where callers connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where records are kept.
    pub store: StoreUrl,
    /// Where records were kept before: they are moved from there to `store` while the gateway serves.
    pub store_from: Option<StoreUrl>,
    /// The form of the log lines.
    pub log: Log,
    /// Which requests are logged.
    pub access_log: AccessLog,
    /// How long the gateway still accepts after it was told to stop, so that a load balancer can notice. It
    /// ends early when no connection is open.
    pub drain_delay: Duration,
    /// How long operations may go on after `drain_delay` before their permits are abandoned.
    pub drain: Duration,
    /// How long a caller may take to send the head of a request. Never zero.
    pub header_timeout: Duration,
    /// How long a caller's connection may stay open without a request. Never zero.
    pub idle_timeout: Duration,
    /// `[tls]`: the certificate of the first listener.
    pub tls: Tls,
    /// `[admin]`: the second listener.
    pub admin: Admin,
    /// `[upstream]`: the API that is made safe to repeat.
    pub upstream: Upstream,
    /// `[limits]`: how much callers may ask for at once.
    pub limits: Limits,
    /// `[cors]`: which web pages may read our own answers.
    pub cors: Cors,
    /// `[policy]`: what holds where no route says otherwise.
    pub policy: Policy,
    /// `[[route]]`: in the order of the file; the first that matches wins.
    pub routes: Vec<Route>,
}

/// The certificate of the first listener. Both files or none: without them it speaks plain HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// The certificate chain as PEM, the server's own first. Empty: no TLS.
    pub cert: PathBuf,
    /// The private key as PEM. Empty: no TLS.
    pub key: PathBuf,
}

impl Tls {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.cert.as_os_str().is_empty()
    }
}

/// How much callers may ask for at once, and how slowly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of callers at once. Never zero.
    pub connections: u32,
    /// Requests under way at once, over all connections. Zero: no limit.
    pub requests: u32,
    /// Operations of one principal under way at once; the anonymous principal has no limit. Zero: nobody has.
    pub keys_in_flight: u32,
    /// Header lines of a request. 10 to 1000.
    pub header_count: u32,
    /// Bytes of the head of a request. 8 KiB to 1 MiB.
    pub header_bytes: u64,
    /// Requests at once on one HTTP/2 connection. 1 to 10,000.
    pub streams: u32,
    /// How long a caller may be silent in the middle of a body. Never zero.
    pub body_timeout: Duration,
    /// How long a caller may read nothing while bytes wait for it. Never zero.
    pub write_timeout: Duration,
}

/// Which web pages may read our own answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cors {
    /// Origins as browsers send them, or `*` alone. Empty: no CORS headers of our own.
    pub origins: Vec<String>,
    /// Whether those pages may send cookies and credentials. Never together with `*`.
    pub credentials: bool,
}

/// The listener for health, metrics and the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The bearer token, made on first start with mode 0600. A relative path is taken from the store
    /// directory, and from the working directory where the store has none.
    pub token_file: PathBuf,
    /// Whether `/readyz` says 503 while the store is down.
    pub ready_requires_store: bool,
    /// Whether records are listed with a hash of each key instead of the key. It holds for records made from
    /// then on; their identity is the same either way.
    pub hide_keys: bool,
}

/// The API behind the gateway and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// `http[s]://HOST[:PORT][/PATH]`; the path is put before that of each request. At least one and each
    /// once after [`Settings::read`].
    pub urls: Vec<Uri>,
    /// Which of several upstreams gets a request.
    pub balance: Balance,
    /// The protocol towards the upstream.
    pub protocol: Protocol,
    /// Whose name the upstream sees in `Host` or `:authority`.
    pub host: HostRule,
    /// Certificates that vouch for upstreams with TLS, as PEM, in place of the system's. Empty: the system's.
    pub ca_file: PathBuf,
    /// Whether `X-Forwarded-Proto` and `X-Forwarded-Host` of callers are passed on. Only behind a proxy that
    /// writes them itself.
    pub trust_forwarded: bool,
    /// How long connecting may take. Never zero.
    pub connect_timeout: Duration,
    /// How long an answer may take, and for how long storing it is retried. Never zero.
    pub response_timeout: Duration,
    /// How long a pooled connection may lie idle before it is not used again. Zero keeps none.
    pub idle: Duration,
    /// Whether an HTTP/2 upstream that refuses a stream is believed not to have processed it.
    pub trust_refused_stream: bool,
    /// Requests under way at once, of each upstream. Zero: no limit.
    pub in_flight: u32,
    /// After how many failures in a row an upstream is left out for a while. Zero: never.
    pub eject_after: u32,
    /// For how long it is left out at first; twice as long each time in a row. Never zero.
    pub eject: Duration,
    /// For how long it is left out at most. At least `eject`.
    pub eject_max: Duration,
    /// The path of active checks. Empty: none.
    pub check: String,
    /// The pause between two active checks of an upstream. At least 1 s.
    pub check_every: Duration,
}

/// A method and path pattern with the policy that holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The metric label; the text of `path` when not given.
    pub name: String,
    /// The methods that are operations here. Never empty, never a safe method.
    pub methods: Vec<Method>,
    /// The paths it covers.
    pub path: PathPattern,
    /// Whether each operation goes over a connection that nothing was sent on before.
    pub fresh_connection: bool,
    /// The policy of this route: `[policy]` with what the route says on top.
    pub policy: Policy,
}

/// The form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// One JSON object per line.
    Json,
    /// Lines for a terminal.
    Human,
}

/// Which requests leave a line in the log. What operators do is logged in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// Each request, and each duplicate once more as an audit line.
    All,
    /// Duplicates, as audit lines.
    Duplicates,
    /// None.
    None,
}

/// Which of several upstreams gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastBusy,
    /// The same key always to the same one, for the sake of its caches.
    KeyHash,
}

/// The protocol towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// With TLS whichever of HTTP/2 and HTTP/1.1 it offers, without TLS HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS and nothing else.
    H2,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
}

/// Whose name the upstream sees as the host of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule {
    /// `Upstream` where the upstream has TLS, else `Preserve`.
    Auto,
    /// The host that the caller asked for.
    Preserve,
    /// The host of the upstream URL.
    Upstream,
}

/// What was said on the command line. `None` means that the flag was not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--upstream URL`
    pub upstream: Option<String>,
    /// `--listen ADDR`
    pub listen: Option<String>,
    /// `--admin ADDR`
    pub admin: Option<String>,
    /// `--store URL`
    pub store: Option<String>,
    /// `--log json|human`
    pub log: Option<String>,
}

/// Settings that may be used, and what the operator should hear about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The checked settings.
    pub settings: Settings,
    /// One line each; nothing that stops a start.
    pub warnings: Vec<String>,
}

/// Settings that perhaps may not be used: for saying everything that is wrong, with them and around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What could be read; a value that is refused is the default here.
    pub settings: Settings,
    /// What is wrong. A gateway starts only when this is empty.
    pub problems: Vec<Problem>,
    /// One line each; nothing that stops a start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads and checks the settings from all their places. Reading `file` is its only input or output;
    /// variables in `env` that do not begin with `ONCEWARD_` are passed over.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`] when the file cannot be read; otherwise [`SettingsError::Refused`] with
    /// every problem found. Keys and values are judged first, and how they go together only when they are
    /// right each for itself.
    pub fn read(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Read, SettingsError> {
        let Looked { settings, problems, warnings } = Self::look(file, env, flags)?;
        if problems.is_empty() {
            Ok(Read { settings, warnings })
        } else {
            Err(SettingsError::Refused(problems))
        }
    }

    /// Like [`Settings::read`], and gives what could be read also where something is wrong.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`] when the file cannot be read.
    pub fn look(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: Flags,
    ) -> Result<Looked, SettingsError> {
        let text = match file {
            None => None,
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .map_err(|source| SettingsError::Unreadable { file: file.to_path_buf(), source })?,
            ),
        };
        let name = file.map(|file| file.display().to_string());
        Ok(read::look(text.as_deref(), name.as_deref(), env, &flags))
    }

    /// Reads and checks settings from the text of a file alone.
    ///
    /// # Errors
    /// [`SettingsError::Refused`] with every problem found.
    pub fn parse_toml(text: &str) -> Result<Self, SettingsError> {
        read::merge(Some(text), None, std::iter::empty(), &Flags::default()).map(|read| read.settings)
    }

    /// The settings in force, as a file that reads back to the same settings. A route shows what differs from
    /// `[policy]`. Passwords in URLs become `***`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        show::to_toml(self)
    }
}
