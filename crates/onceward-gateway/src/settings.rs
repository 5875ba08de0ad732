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

pub use self::error::{Place, Problem, SettingsError};
pub use self::policy::{InFlight, KeyRule, Oversize, Policy, Principal, Unresolved};
pub use self::store_url::StoreUrl;
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
    /// The form of the log lines.
    pub log: Log,
    /// How long the gateway still accepts after it was told to stop, so that a load balancer can notice. It
    /// ends early when no connection is open.
    pub drain_delay: Duration,
    /// How long operations may go on after `drain_delay` before their permits are abandoned.
    pub drain: Duration,
    /// How long a caller may take to send the head of a request. Never zero.
    pub header_timeout: Duration,
    /// How long a caller's connection may stay open without a request. Never zero.
    pub idle_timeout: Duration,
    /// `[admin]`: the second listener.
    pub admin: Admin,
    /// `[upstream]`: the API that is made safe to repeat.
    pub upstream: Upstream,
    /// `[policy]`: what holds where no route says otherwise.
    pub policy: Policy,
    /// `[[route]]`: in the order of the file; the first that matches wins.
    pub routes: Vec<Route>,
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
    /// `http://HOST[:PORT][/PATH]`; the path is put before that of each request. Exactly one after
    /// [`Settings::read`].
    pub urls: Vec<Uri>,
    /// The protocol towards the upstream.
    pub protocol: Protocol,
    /// Whose name the upstream sees in `Host` or `:authority`.
    pub host: HostRule,
    /// How long connecting may take. Never zero.
    pub connect_timeout: Duration,
    /// How long an answer may take, and for how long storing it is retried. Never zero.
    pub response_timeout: Duration,
    /// How long a pooled connection may lie idle before it is not used again. Zero keeps none.
    pub idle: Duration,
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

/// The protocol towards the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
}

/// Whose name the upstream sees as the host of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostRule {
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
        let text = match file {
            None => None,
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .map_err(|source| SettingsError::Unreadable { file: file.to_path_buf(), source })?,
            ),
        };
        let name = file.map(|file| file.display().to_string());
        read::merge(text.as_deref(), name.as_deref(), env, &flags)
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
