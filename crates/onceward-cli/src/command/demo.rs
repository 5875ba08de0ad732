//! `onceward demo`: the story, and the payment API on its own.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::demo::{story, upstream};
use crate::exit::Exit;

/// Show what Onceward does: a payment API, the gateway in front of it, and a story with a kill -9
///
/// Everything runs in a temporary folder on free ports of this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the story: exit code 0 when every step was as promised, 1 when not
    #[arg(long)]
    once: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Run the payment API alone, without Onceward: it charges each time it is asked
    Upstream {
        /// Where it listens
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
    },
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match args.part {
        Some(Part::Upstream { listen }) => match upstream::run(listen).await {
            Ok(()) => Exit::Done.code(),
            Err(error) => Exit::CannotStart.report(&error.to_string()),
        },
        None => story::run(args.once).await,
    }
}
