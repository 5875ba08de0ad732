//! The binary that is shipped: built twice, the second time by what the first one did under load.
//!
//! A profile tells the compiler which branches are taken and what to put together. Requests spend their time in many
//! small pieces of many crates, so nothing else makes all of them cheaper at once.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::run::{cargo, cargo_with, root, said};

/// Under `target`: the build that notes, and the one that is shipped.
const NOTING: &str = "target/noting";
const SHIPPED: &str = "target/shipped";
/// What it does while it is noted: everything that callers do often.
const LOAD: &[&str] = &["--only", "pass,pass-get,first,relaxed,replay", "--connections", "16,64"];

/// Leaves the binary in `target/shipped/HOST/release/onceward`.
pub(crate) fn run() -> Result<(), String> {
    debian::need("nginx", "nginx")?;
    debian::need("wrk", "wrk")?;
    let (host, merge) = (host()?, profdata()?);
    let notes = root().join(NOTING).join("notes");
    remove(&notes)?;
    build(&host, NOTING, &format!("-Cprofile-generate={}", notes.display()))?;
    let binary = root().join(NOTING).join(&host).join("release/onceward");
    let binary = binary.display().to_string();
    let mut load =
        vec!["run", "--release", "--locked", "--package", "onceward-bench", "--bin", "gateway", "--"];
    load.extend(["--binary", &binary, "--seconds", "5", "--rounds", "1"]);
    load.extend(LOAD);
    cargo(&load)?;
    let merged = notes.join("merged.profdata");
    let mut command = Command::new(&merge);
    command.arg("merge").arg("--output").arg(&merged).args(profiles(&notes)?);
    if !said(&mut command, &merge)? {
        return Err("the profiles could not be merged".to_owned());
    }
    // That nothing in it comes from an earlier profile should not hang on the times of files, by which cargo judges.
    remove(&root().join(SHIPPED))?;
    build(&host, SHIPPED, &format!("-Cprofile-use={}", merged.display()))?;
    println!("\n{SHIPPED}/{host}/release/onceward");
    Ok(())
}

/// With a target named, build scripts and macros are compiled without the flag.
fn build(host: &str, folder: &str, flag: &str) -> Result<(), String> {
    let words = [
        "build",
        "--release",
        "--locked",
        "--package",
        "onceward-cli",
        "--features",
        "postgres,redis",
        "--target",
        host,
    ];
    let words: Vec<&str> = words.into_iter().chain(["--target-dir", folder]).collect();
    // In RUSTFLAGS a blank would end the flag, and it holds a path. Here only the byte 0x1f does.
    cargo_with(&words, &[("CARGO_ENCODED_RUSTFLAGS", flag)])
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(it) if it.kind() != ErrorKind::NotFound => Err(format!("{}: {it}", folder.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn profiles(notes: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |it: std::io::Error| format!("{}: {it}", notes.display());
    let files: Vec<PathBuf> = fs::read_dir(notes)
        .map_err(failed)?
        .filter_map(|it| Some(it.ok()?.path()))
        .filter(|it| it.extension().is_some_and(|it| it == "profraw"))
        .collect();
    if files.is_empty() { Err(format!("no profile was written to {}", notes.display())) } else { Ok(files) }
}

fn host() -> Result<String, String> {
    let told = rustc(&["-vV"])?;
    let host = told.lines().find_map(|it| it.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say for which host it compiles".to_owned())
}

/// The tool of the toolchain's own LLVM: another version could not read the profiles.
fn profdata() -> Result<PathBuf, String> {
    let sysroot = rustc(&["--print", "sysroot"])?;
    let tool = Path::new(sysroot.trim()).join("lib/rustlib").join(host()?).join("bin/llvm-profdata");
    if tool.is_file() {
        Ok(tool)
    } else {
        Err(format!("{} is missing; run: rustup component add llvm-tools", tool.display()))
    }
}

fn rustc(words: &[&str]) -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).args(words).current_dir(root()).output();
    let output = output.map_err(|it| format!("cannot run rustc: {it}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
