//! The whole check.

use crate::run::{cargo, cargo_with, has_subcommand};
use crate::{crash, debian, deny, tidy};

pub(crate) fn run() -> Result<(), String> {
    debian::need_servers()?;
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
    } else {
        println!("\n(cargo-nextest is not installed: the same tests run under cargo test)");
        cargo(&[
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--lib",
            "--bins",
            "--tests",
            "--examples",
        ])?;
    }
    cargo(&["test", "--workspace", "--all-features", "--locked", "--doc"])?;
    cargo(&["run", "--locked", "--", "demo", "--once"])?;
    crash::lane()?;
    println!("\neverything passed");
    Ok(())
}
