//! Measures. What follows the name of a bench goes to it; `--help` says what it takes.

use crate::run::cargo;

const HELP: &str = "\
cargo xtask bench NAME [OPTIONS]

  gateway    the gateway beside nginx and beside the bare API; writes bench/results/gateway.md
  store      the embedded store beside bare fjall and a bare file; writes bench/results/store.md
  stores     every store beside its floor, and the gateway over each; writes bench/results/stores.md
  consumers  consumers beside a loop that remembers nothing, a relay beside pgbench; writes bench/results/consumers.md
  scale      the gateway over 0, 1, 5 and 20 million stored answers; writes bench/results/scale.md
  core       fingerprint, record bytes and the decision, each by itself

Each is built for release first. `gateway`, `scale` and `stores` need wrk and nginx: `apt-get install wrk nginx`; `stores`
and `consumers` need PostgreSQL and Redis: `apt-get install postgresql postgresql-contrib redis`.
`cargo xtask bench NAME --help` says what it can be told; a run that leaves something out writes no file.";

/// Options after which the tables are not those that the file has.
const PARTIAL: &[&str] = &["--help", "--only", "--out", "--part", "--peer"];

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let (name, rest) = match words.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => return Err(HELP.to_owned()),
    };
    match name {
        "gateway" => {
            cargo(&["build", "--release", "--locked", "--package", "onceward-cli"])?;
            measure("onceward-bench", name, rest)
        }
        "store" | "consumers" => measure("onceward-pace", name, rest),
        "stores" => {
            let build = ["build", "--release", "--locked", "--package"];
            cargo(&[&build[..], &["onceward-cli", "--features", "postgres,redis"]].concat())?;
            cargo(&[&build[..], &["onceward-bench", "--bin", "gateway"]].concat())?;
            measure("onceward-pace", name, rest)
        }
        "scale" => {
            cargo(&["build", "--release", "--locked", "--package", "onceward-cli"])?;
            measure("onceward-pace", name, rest)
        }
        "core" => {
            let mut words = vec!["bench", "--locked", "--package", "onceward-core", "--bench", "core", "--"];
            words.extend(rest.iter().map(String::as_str));
            cargo(&words)
        }
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no bench `{other}`\n\n{HELP}")),
    }
}

fn measure(package: &str, name: &str, rest: &[String]) -> Result<(), String> {
    let mut words = vec!["run", "--release", "--locked", "--package", package, "--bin", name, "--"];
    words.extend(rest.iter().map(String::as_str));
    let file = format!("bench/results/{name}.md");
    let is_partial = |it: &String| PARTIAL.iter().any(|option| it.starts_with(option));
    if !rest.iter().any(is_partial) {
        words.extend(["--out", &file]);
    }
    cargo(&words)
}
