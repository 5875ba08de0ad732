//! The crash harness over the command that this tree builds. `docs/proof/crash.md` says what it does.

use std::fs;
use std::path::PathBuf;

use crate::debian;
use crate::run::{cargo, root, said};

/// The words that stand for another part than the run of callers and faults.
const PARTS: [&str; 5] = ["deaths", "power", "outbox", "consume", "mutants"];

/// What the command needs for every store that it can have, and for relays.
const STORES: &str = "postgres,redis,redis-streams,outbox";
/// The same, and every broker.
const BROKERS: &str = "postgres,redis,redis-streams,outbox,nats,rabbitmq,kafka,sqs";
/// The same, and every break that is made on purpose.
const MUTANTS: &str = "mutants,postgres,redis,redis-streams,outbox";

/// `cargo xtask crash [--release] [--lane | --deaths | --power | --outbox | --consume SOURCE [--carried] | --mutants] WORDS…`.
pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let mut words = words.to_vec();
    if take(&mut words, "--lane") {
        return lane();
    }
    let is_release = take(&mut words, "--release");
    let part = PARTS.into_iter().find(|it| take(&mut words, &format!("--{it}"))).unwrap_or("run");
    let is_redis = words.iter().any(|it| it == "redis-streams");
    let gateway = match (part, is_release) {
        ("mutants", true) => return Err("broken builds are never release builds".into()),
        ("mutants", false) => built(&["--features", MUTANTS], "onceward-mutants")?,
        ("consume", true) if !is_redis => built(&["--release", "--features", BROKERS], "onceward-release")?,
        ("consume", false) if !is_redis => built(&["--features", BROKERS], "onceward")?,
        (_, true) => built(&["--release", "--features", STORES], "onceward-release")?,
        (_, false) => built(&["--features", STORES], "onceward")?,
    };
    harness(part, &gateway, &words)
}

/// The short lane of `cargo xtask test`.
pub(crate) fn lane() -> Result<(), String> {
    debian::need("strace", "strace")?;
    debian::need_servers()?;
    let broken = built(&["--features", MUTANTS], "onceward-mutants")?;
    harness("mutants", &broken, &[])?;
    let gateway = built(&["--features", STORES], "onceward")?;
    harness("run", &gateway, &["--seconds".into(), "20".into()])?;
    for store in ["redis", "postgres-replica"] {
        harness("run", &gateway, &["--store".into(), store.into(), "--seconds".into(), "15".into()])?;
    }
    let few = ["--rows", "1500", "--seconds", "8"].map(str::to_owned);
    harness("outbox", &gateway, &few)?;
    for strength in ["lease", "transaction"] {
        let short = ["redis-streams", "--strength", strength, "--seconds", "8"].map(str::to_owned);
        harness("consume", &gateway, &short)?;
    }
    let carried = ["redis-streams", "--carried", "--store", "embedded", "--consumers", "1", "--seconds", "8"];
    harness("consume", &gateway, &carried.map(str::to_owned))?;
    harness("deaths", &gateway, &["--sample".into(), "16".into()])?;
    harness("power", &gateway, &["--sample".into(), "24".into()])
}

fn take(words: &mut Vec<String>, word: &str) -> bool {
    let before = words.len();
    words.retain(|it| it != word);
    words.len() < before
}

/// Builds the command and puts it where the next build does not replace it.
fn built(words: &[&str], name: &str) -> Result<PathBuf, String> {
    cargo(&[&["build", "--locked", "--package", "onceward-cli"], words].concat())?;
    let profile = if words.contains(&"--release") { "release" } else { "debug" };
    let (from, folder) = (root().join("target").join(profile).join("onceward"), root().join("target/crash"));
    let to = folder.join(name);
    let copied = fs::create_dir_all(&folder).and_then(|()| {
        // A process that still runs it keeps its own.
        let _ = fs::remove_file(&to);
        fs::copy(&from, &to)
    });
    copied.map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))?;
    Ok(to)
}

fn harness(part: &str, gateway: &std::path::Path, words: &[String]) -> Result<(), String> {
    // Other sources than streams of Redis take a while to build: only where somebody asks for them.
    let all = part == "consume" && !words.iter().any(|it| it == "redis-streams");
    let features: &[&str] = if all { &["--features", "brokers"] } else { &[] };
    cargo(&[&["build", "--locked", "--package", "onceward-crash"], features].concat())?;
    let program = root().join("target/debug/onceward-crash");
    let mut command = std::process::Command::new(&program);
    command.arg(part).arg("--binary").arg(gateway).args(words);
    if said(&mut command, &program)? {
        Ok(())
    } else {
        Err(format!("the crash harness found something: {part}"))
    }
}
