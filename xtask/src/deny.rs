//! Licences, bans, sources and advisories, by cargo-deny.

use crate::run::{cargo, cargo_output, has_subcommand, root};

const VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<(), String> {
    if !has_subcommand("deny") {
        println!("\n(cargo-deny is not installed: building {VERSION} into target/tools, once)");
        let tools = root().join("target/tools");
        let tools = tools.to_str().ok_or("the path of the workspace is no UTF-8")?;
        cargo(&["install", "cargo-deny", "--version", VERSION, "--locked", "--quiet", "--root", tools])?;
    }
    cargo(&["deny", "--log-level", "error", "check", "licenses", "bans", "sources"])?;
    println!("\n$ cargo deny check advisories");
    let (fine, text) = cargo_output(&["deny", "check", "advisories"])?;
    if fine {
        println!("advisories ok");
        return Ok(());
    }
    if text.contains("failed to fetch advisory database") {
        println!("advisories NOT CHECKED: their database cannot be fetched from here");
        return Ok(());
    }
    Err(format!("`cargo deny check advisories` failed:\n{text}"))
}
