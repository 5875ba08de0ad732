//! The whole check.

use crate::run::{cargo, cargo_with, has_subcommand};
use crate::{crash, debian, deny, pypi, tidy};

/// The promises of Kafka on the mock cluster of its client, which needs no server: the others run with `--brokers`.
pub(crate) const WITHOUT_SERVERS: &str = "test(/^kafka::(cooperative|assignment|refusals)::/)";

pub(crate) fn run(rest: &[String]) -> Result<(), String> {
    let all_brokers = rest.iter().any(|it| it == "--brokers");
    debian::need_servers()?;
    if all_brokers {
        debian::need_brokers()?;
        pypi::need_servers()?;
    }
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--locked", "--", "-D", "warnings"])?;
    deny::run()?;
    cargo_with(
        &["doc", "--workspace", "--all-features", "--no-deps", "--locked"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    if has_subcommand("nextest") {
        cargo(&["nextest", "run", "--workspace", "--all-features", "--locked"])?;
        let brokers = ["nextest", "run", "--workspace", "--all-features", "--locked", "--profile", "brokers"];
        // They wait for groups to form, and for time to pass.
        let some = if all_brokers { "all()" } else { WITHOUT_SERVERS };
        cargo(&[&brokers[..], &["--test-threads", "8", "--filterset", some]].concat())?;
    } else {
        println!("\n(cargo-nextest is not installed: the same tests run under cargo test)");
        let words =
            ["test", "--workspace", "--all-features", "--locked", "--lib", "--bins", "--tests", "--examples"];
        // Without their servers most of these can only fail.
        let skip = ["kafka::tansu::", "nats::", "rabbitmq::", "sqs::", "brokers::"]
            .map(|it| ["--skip", it])
            .concat();
        let skip = [&["--"][..], &skip].concat();
        let skip = if all_brokers { &[][..] } else { &skip[..] };
        cargo(&[&words[..], skip].concat())?;
    }
    cargo(&["test", "--workspace", "--all-features", "--locked", "--doc"])?;
    cargo(&["run", "--locked", "--", "demo", "--once"])?;
    crash::lane()?;
    println!("\neverything passed");
    Ok(())
}
