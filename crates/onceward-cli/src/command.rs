//! The verbs, one file each.

mod admin;
mod completions;
mod consume;
mod demo;
mod doctor;
mod gateway;
mod keys;
mod man;
mod outbox;
mod pages;
mod queue;
mod receive;
mod relay;
mod source;
mod store;

use std::process::ExitCode;

/// Makes any operation safe to repeat.
#[derive(Debug, clap::Parser)]
#[command(
    name = "onceward",
    version = env!("ONCEWARD_VERSION"),
    about = "Makes any operation safe to repeat: the effect happens once, every repeat gets the first answer",
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 wrong flags or settings, 3 stopped with operations \
                  under way, 4 cannot start, 5 the admin API cannot be used."
)]
pub(crate) enum Command {
    Gateway(gateway::Args),
    #[command(subcommand)]
    Keys(keys::Verb),
    #[command(subcommand)]
    Store(store::Verb),
    Consume(consume::Args),
    Receive(receive::Args),
    #[command(subcommand)]
    Queue(queue::Verb),
    Relay(relay::Args),
    #[command(subcommand)]
    Outbox(outbox::Verb),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    pub(crate) async fn run(self) -> ExitCode {
        match self {
            Self::Gateway(args) => gateway::run(args).await,
            Self::Keys(verb) => keys::run(verb).await,
            Self::Store(verb) => store::run(verb).await,
            Self::Consume(args) => consume::run(args).await,
            Self::Receive(args) => receive::run(args).await,
            Self::Queue(verb) => queue::run(verb).await,
            Self::Relay(args) => relay::run(args).await,
            Self::Outbox(verb) => outbox::run(verb).await,
            Self::Doctor(args) => doctor::run(args).await,
            Self::Demo(args) => demo::run(args).await,
            Self::Completions(args) => completions::run(&args),
            Self::Man(args) => man::run(&args),
        }
    }
}
