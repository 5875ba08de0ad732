//! Runs commands and says what it runs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Runs `cargo` with these words in the workspace.
pub(crate) fn cargo(words: &[&str]) -> Result<(), String> {
    cargo_with(words, &[])
}

/// The same with variables set.
pub(crate) fn cargo_with(words: &[&str], variables: &[(&str, &str)]) -> Result<(), String> {
    println!("\n$ cargo {}", words.join(" "));
    let status = command(words)
        .envs(variables.iter().copied())
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`cargo {}` failed: {status}", words.join(" "))) }
}

/// What `cargo` with these words prints, and whether it succeeded.
pub(crate) fn cargo_output(words: &[&str]) -> Result<(bool, String), String> {
    let output = command(words).output().map_err(|error| format!("cannot run cargo: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Whether `cargo NAME` is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    cargo_output(&[name, "--version"]).is_ok_and(|it| it.0)
}

/// Runs a command, having said which, and tells whether it succeeded.
pub(crate) fn said(command: &mut Command, name: &Path) -> Result<bool, String> {
    println!("\n$ {command:?}");
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", name.display()))?;
    Ok(status.success())
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command.args(words).current_dir(root());
    // Tools that this project installed for itself.
    let mut paths = vec![root().join("target/tools/bin")];
    if let Some(path) = std::env::var_os("PATH") {
        paths.extend(std::env::split_paths(&path));
    }
    if let Ok(joined) = std::env::join_paths(paths) {
        command.env("PATH", joined);
    }
    command
}
