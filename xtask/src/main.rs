//! Project chores. `cargo xtask test` is the whole check, the same on every machine.

mod bench;
mod crash;
mod debian;
mod deny;
mod links;
mod openapi;
mod promises;
mod pypi;
mod release;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask VERB

  test     everything that must pass: format, lints, arrows, licences, tests, docs, the demo; with --brokers also
           the promises of queues on RabbitMQ, and on servers from PyPI
  tidy     which crate may use which: fails on any arrow that ARCHITECTURE.md does not draw, and on links to
           files that are not there
  deny     licences, banned and doubled crates, sources; advisories where their database can be fetched
  crash    real gateways, killed, stopped and starved: --seed N --seconds S; or --deaths, --power, --outbox,
           --consume SOURCE, with --store redis or --carried (effects that answers name), --mutants; or --lane, all in
           short; --release for a release build
  release  the binary that is shipped: built, watched under load, built again by what was seen
  promises what each source of messages promises, and shows: a table; with --brokers of all of them
  servers  installs the servers that tests start, where they are missing
  openapi  the admin API against its own document, by schemathesis from PyPI: not part of `test`
  bench    throughput and latency, beside what others take for the same: not part of `test`";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1);
    let rest: Vec<String> = std::env::args().skip(2).collect();
    let done = match verb.as_deref() {
        Some("test") => test::run(&rest),
        Some("tidy") => tidy::run(),
        Some("deny") => deny::run(),
        Some("crash") => crash::run(&rest),
        Some("bench") => bench::run(&rest),
        Some("promises") => promises::run(&rest),
        Some("openapi") => openapi::run(),
        Some("servers") => {
            debian::need_servers().and_then(|()| debian::need_brokers()).and_then(|()| pypi::need_servers())
        }
        Some("release") => release::run(),
        Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("there is no verb `{other}`\n\n{HELP}")),
        None => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
