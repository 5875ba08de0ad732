//! `onceward outbox`: what operators do with effects that did not go out.

#[cfg(feature = "relay")]
mod look;

use std::process::ExitCode;

#[cfg(not(feature = "relay"))]
use super::relay::NOT_BUILT;
#[cfg(not(feature = "relay"))]
use crate::exit::Exit;

/// Look at an outbox, and at effects that are parked; send them again or drop them
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// How many effects wait, and how long
    Stats {
        #[command(flatten)]
        store: StoreArgs,
    },
    /// List parked effects, in the order in which they were added
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Only of this kind
        #[arg(long)]
        kind: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on where an earlier page ended
        #[arg(long)]
        cursor: Option<i64>,
    },
    /// Show one parked effect with its headers and its body
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// The effect's id, 32 hexadecimal digits
        id: String,
    },
    /// Let parked effects be sent again, under the ids that they have; then what is behind them under their keys
    Redrive {
        #[command(flatten)]
        store: StoreArgs,
        /// The effects' ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All that are parked now
        #[arg(long)]
        all: bool,
        /// With --all: only of this kind
        #[arg(long, requires = "all")]
        kind: Option<String>,
    },
    /// Remove parked effects: they never go out, and what is behind them under their keys does
    Drop {
        #[command(flatten)]
        store: StoreArgs,
        /// The effects' ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// Where the effects are, for example postgres://user@host/database or embedded:DIRECTORY
    #[arg(long, value_name = "URL", env = "ONCEWARD_STORE", hide_env_values = true)]
    store: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "relay"))]
pub(crate) async fn run(_verb: Verb) -> ExitCode {
    Exit::Usage.report(NOT_BUILT)
}

#[cfg(feature = "relay")]
pub(crate) async fn run(verb: Verb) -> ExitCode {
    match look::carry_out(verb).await {
        Ok(()) => crate::exit::Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}
