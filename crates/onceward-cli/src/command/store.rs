//! `onceward store`: what is done to a store itself, with no gateway in between.

use std::process::ExitCode;
use std::time::Duration;

use onceward::moving::QUIET;
use onceward::{Moved, MovingStore, OpenError, embedded};
use onceward_gateway::settings::{parse_duration, reasons};
use tokio::time::Instant;

use crate::exit::Exit;
use crate::say::say;

/// Prepare a store, or move its records to another one
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Bring the tables of a store to what this version needs; safe to repeat, and while gateways run
    Migrate {
        /// The store, for example postgres://user@host/database
        #[arg(env = "ONCEWARD_STORE", hide_env_values = true)]
        url: String,
    },
    /// Move the records of one store to another one, so that no key is forgotten
    ///
    /// Safe to repeat, and while gateways run. A gateway that knows only FROM refuses what was moved, as unresolved: let
    /// every gateway know both first, with `store = TO` and `store_from = FROM` in its settings. A directory that a gateway
    /// has is moved by that gateway alone. Once all is moved, no gateway starts on FROM alone any more.
    Copy {
        /// Where the records are, for example embedded:./onceward-data
        from: String,
        /// Where they go, for example postgres://user@host/database
        to: String,
        /// How long to wait for operations that are under way in FROM, and for gateways that work on it alone
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
        wait: Duration,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use a number with a unit: 500ms, 60s, 10m".to_owned())
}

pub(crate) async fn run(verb: Verb) -> ExitCode {
    match verb {
        Verb::Migrate { url } => migrate(&url).await,
        Verb::Copy { from, to, wait } => copy(&from, &to, wait).await,
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

/// How many records one part of the walk looks at.
const STEP: usize = 1000;

async fn copy(from: &str, to: &str, wait: Duration) -> ExitCode {
    for (name, url) in [("FROM", from), ("TO", to)] {
        if let Err(error) = onceward::check(url) {
            return Exit::Usage.report(&format!("{name}: {}", reasons(&error)));
        }
    }
    let mover = match onceward::open_mover(from, to).await {
        Ok(mover) => mover,
        Err(error @ OpenError::Embedded(embedded::OpenError::Locked { .. })) => {
            let hint = "let that gateway move it, with `store = TO` and `store_from = FROM` in its settings";
            return Exit::CannotStart.report(&format!("{}; or {hint}", reasons(&error)));
        }
        Err(error) => return Exit::CannotStart.report(&reasons(&error)),
    };
    match walk(&mover, wait).await {
        Ok((moved, Moved { running: 0, unreadable: 0, .. })) if !mover.has_left() => Exit::No.report(&format!(
            "{moved} records were moved, and no more are known in the old store; but a gateway works on that store alone, or did \
             so within the last {}s: give it both stores, or stop it, then copy again (or wait longer with --wait)",
            QUIET.as_secs()
        )),
        Ok((moved, Moved { running: 0, unreadable: 0, .. })) => {
            say(&format!("{moved} records were moved now; all are in the new store\n"));
            Exit::Done.code()
        }
        Ok((moved, Moved { running, unreadable, .. })) => Exit::No.report(&format!(
            "{moved} records were moved; {running} stay because their operations are under way (move again later, or \
             wait longer with --wait), {unreadable} cannot be read (`onceward doctor` says more)"
        )),
        Err(error) => Exit::No.report(&format!("{}; what was moved stays moved: begin again", reasons(&error))),
    }
}

/// Walks through the old store until all is moved that can be and nobody works on it alone, or the wait is over. Gives how many records were moved, and
/// what the last walk found.
async fn walk(mover: &MovingStore, wait: Duration) -> onceward::Result<(u64, Moved)> {
    let (mut moved, mut said) = (0, 0);
    let until = Instant::now() + wait;
    loop {
        let (step, walked) = mover.step(STEP).await?;
        moved += step.moved;
        if moved >= said + 10_000 {
            said = moved;
            say(&format!("{moved} records moved so far\n"));
        }
        let Some(walked) = walked else { continue };
        let has_ended = mover.has_left() || walked.unreadable > 0;
        if (walked.running == 0 && has_ended) || Instant::now() >= until {
            return Ok((moved, walked));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
