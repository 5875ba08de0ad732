//! The whole check.

use crate::run::{cargo, cargo_with, has_subcommand};
use crate::{deny, tidy};

pub(crate) fn run() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    tidy::run()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    deny::run()?;
    cargo_with(&["doc", "--workspace", "--no-deps", "--locked"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    if has_subcommand("nextest") {
        cargo(&["nextest", "run", "--workspace", "--locked"])?;
    } else {
        println!("\n(cargo-nextest is not installed: the same tests run under cargo test)");
        cargo(&["test", "--workspace", "--locked", "--lib", "--bins", "--tests", "--examples"])?;
    }
    cargo(&["test", "--workspace", "--locked", "--doc"])?;
    cargo(&["run", "--locked", "--", "demo", "--once"])?;
    println!("\neverything passed");
    Ok(())
}
