//! Where settings come from: flags, variables, a file. The same for every verb that has a gateway's settings.

use std::path::PathBuf;

use onceward_gateway::settings::{Flags, Looked, Read, Settings, SettingsError};

/// The flags that name settings.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// The API to protect, for example http://127.0.0.1:9000
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Where callers connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where health, metrics and records are served [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Where records are kept [default: embedded:./onceward-data]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Source {
    /// The settings that these flags, the environment and the file come to. `log` is the flag that only some
    /// verbs have.
    pub(crate) fn read(&self, log: Option<&str>) -> Result<Read, SettingsError> {
        Settings::read(self.config.as_deref(), environment(), self.flags(log))
    }

    /// The same, as far as it can be read where something is wrong.
    pub(crate) fn look(&self, log: Option<&str>) -> Result<Looked, SettingsError> {
        Settings::look(self.config.as_deref(), environment(), self.flags(log))
    }

    fn flags(&self, log: Option<&str>) -> Flags {
        Flags {
            upstream: self.upstream.clone(),
            listen: self.listen.clone(),
            admin: self.admin.clone(),
            store: self.store.clone(),
            log: log.map(str::to_owned),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment is handed to the settings here, once")]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
