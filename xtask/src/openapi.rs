//! Asks the admin API whatever its own document allows, and more, by schemathesis. A chore of its own: it needs
//! Python, and PyPI the first time.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::run::{cargo, root, said};

const VERSION: &str = "4.32.5";

/// The token of `examples/serve.rs`.
const TOKEN: &str = "example-example-example";

/// Requests that are made up for each operation in each phase.
const EXAMPLES: &str = "200";

pub(crate) fn run() -> Result<(), String> {
    let tool = installed()?;
    cargo(&["build", "--locked", "--package", "onceward-admin", "--example", "serve"])?;
    let served = Served::start()?;
    let document = format!("{}/api/v1/openapi.json", served.url);
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let words = [
        "run",
        &document,
        "--header",
        &bearer,
        "--checks",
        "all",
        "--max-examples",
        EXAMPLES,
        "--continue-on-failure",
    ];
    // What it remembers of a run stays below target.
    let status = said(Command::new(&tool).args(words).current_dir(folder()), &tool)?;
    drop(served);
    if status { Ok(()) } else { Err("schemathesis found where the admin API and its document differ".into()) }
}

fn folder() -> PathBuf {
    root().join("target/tools/schemathesis")
}

/// The program, installed on first use.
fn installed() -> Result<PathBuf, String> {
    let tool = folder().join("bin/st");
    if tool.exists() {
        return Ok(tool);
    }
    println!("\n(schemathesis is not installed: {VERSION} goes into {}, once)", folder().display());
    let python = folder().join("bin/python");
    let package = format!("schemathesis=={VERSION}");
    let made = said(Command::new("python3").args(["-m", "venv"]).arg(folder()), Path::new("python3"))
        .and_then(|made| match made {
            true => said(Command::new(&python).args(["-m", "pip", "install", "--quiet", &package]), &python),
            false => Ok(false),
        })?;
    if made {
        return Ok(tool);
    }
    Err(format!(
        "schemathesis cannot be installed from here; where PyPI is in reach, run\n  python3 -m venv {0} && \
         {0}/bin/pip install {package}\nand then this again",
        folder().display()
    ))
}

/// The example that serves the admin API, until this is dropped.
struct Served {
    process: Child,
    url: String,
}

impl Served {
    fn start() -> Result<Self, String> {
        let program = root().join("target/debug/examples/serve");
        let mut process = Command::new(&program)
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            // Its first line begins with the URL.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let url = line.split(' ').next().unwrap_or_default().to_owned();
        let served = Self { process, url };
        if served.url.starts_with("http://") { Ok(served) } else { Err("the example does not serve".into()) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
