//! `onceward store`: what is done to a store itself, with no gateway in between.

use std::process::ExitCode;

use onceward_gateway::settings::reasons;

use crate::exit::Exit;
use crate::say::say;

/// Prepare a store
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Bring the tables of a store to what this version needs; safe to repeat, and while gateways run
    Migrate {
        /// The store, for example postgres://user@host/database
        #[arg(env = "ONCEWARD_STORE", hide_env_values = true)]
        url: String,
    },
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    match verb {
        Verb::Migrate { url } => migrate(&url).await,
    }
}

async fn migrate(url: &str) -> ExitCode {
    if let Err(error) = onceward::check(url) {
        return Exit::Usage.report(&reasons(&error));
    }
    match onceward::migrate(url).await {
        Ok(done) => {
            say(&format!("{done}\n"));
            Exit::Done.code()
        }
        Err(error) => Exit::CannotStart.report(&reasons(&error)),
    }
}
