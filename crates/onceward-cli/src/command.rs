//! The verbs, one file each.

mod demo;
mod gateway;
mod keys;

use std::process::ExitCode;

/// Makes any operation safe to repeat.
#[derive(Debug, clap::Parser)]
#[command(
    name = "onceward",
    version,
    about = "Makes any operation safe to repeat: the effect happens once, every repeat gets the first answer",
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 wrong flags or settings, 3 stopped with operations \
                  under way, 4 cannot start, 5 the admin API cannot be used."
)]
pub(crate) enum Command {
    Gateway(gateway::Args),
    #[command(subcommand)]
    Keys(keys::Verb),
    Demo(demo::Args),
}

impl Command {
    pub(crate) async fn run(self) -> ExitCode {
        match self {
            Self::Gateway(args) => gateway::run(args).await,
            Self::Keys(verb) => keys::run(verb).await,
            Self::Demo(args) => demo::run(args).await,
        }
    }
}
