//! Real gateway processes, killed, stopped and starved, and an append-only ledger that judges them.
//!
//! `run` does so for a while with everything random drawn from a seed; `docs/proof/crash.md` says what is checked.

mod arena;
mod backend;
mod book;
mod callers;
mod client;
mod consume;
mod deaths;
mod disk;
mod gateway;
mod heal;
mod ledger;
mod mutants;
mod nemesis;
mod outbox;
mod plan;
mod power;
mod request;
mod run;
mod scene;
mod script;
mod subject;
mod time;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Real gateway processes, killed, stopped and starved
#[derive(Debug, Parser)]
enum Verb {
    /// Callers and faults for a while, then the healing
    Run(run::Args),
    /// Death at every call by which the store changes its files
    Deaths(deaths::Args),
    /// The power goes at any moment
    Power(power::Args),
    /// Relays of an outbox, killed and stopped
    Outbox(outbox::Args),
    /// Consumers of a broker, killed and stopped
    Consume(consume::Args),
    /// A consumer of such a run that writes its effect in the transaction: not for people
    #[command(hide = true)]
    Committing(consume::committing::Args),
    /// Every break that is made on purpose is seen
    Mutants(mutants::Args),
    /// The upstream of a run: not for people
    #[command(hide = true)]
    Upstream { address: SocketAddr, ledger: PathBuf },
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Run(args) => run::run(&args),
        Verb::Deaths(args) => deaths::run(&args),
        Verb::Power(args) => power::run(&args),
        Verb::Outbox(args) => outbox::run(&args),
        Verb::Consume(args) => consume::run(&args),
        Verb::Committing(args) => consume::committing::serve(&args).map(|()| true),
        Verb::Mutants(args) => mutants::run(&args),
        Verb::Upstream { address, ledger } => upstream::serve(address, &ledger).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("onceward-crash: {error}");
            ExitCode::from(2)
        }
    }
}
