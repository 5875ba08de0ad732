//! Death at every call by which the store changes its files: `strace` kills the process as it enters the n-th one, for
//! n = 1, 2, … until a run passes unharmed. After each death everything that was told must stand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::Result;
use crate::arena::Arena;
use crate::time::{ms, until};
use crate::{heal, scene};

/// The calls that change files, as strace knows them.
pub(crate) const CALLS: [&str; 13] = [
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "fallocate",
];

/// What is run, killed before each call.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The gateway
    #[arg(long)]
    pub(crate) binary: PathBuf,
    /// Only so many deaths, spread over all
    #[arg(long)]
    pub(crate) sample: Option<usize>,
    /// How many at the same time
    #[arg(long, default_value_t = 8)]
    pub(crate) at_once: usize,
    /// A break that this build was made for
    #[arg(long)]
    pub(crate) mutant: Option<String>,
}

/// From when on calls are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// From the first start, over no files.
    First,
    /// From a start over the files that a killed process left.
    Again,
    /// From when it is ready, to the end of an orderly stop.
    Ready,
}

/// Where a process dies: before a thread enters this call for the n-th time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Death {
    phase: Phase,
    call: &'static str,
    n: usize,
}

/// Says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    need_strace()?;
    let mut deaths = Vec::new();
    let mut threads = Vec::new();
    for phase in [Phase::First, Phase::Again, Phase::Ready] {
        for (call, counts) in counted(args, phase)? {
            let most = counts.iter().copied().max().unwrap_or(0);
            threads.push((phase, call, counts));
            // One more than there were: that one passes unharmed.
            deaths.extend((1..=most + 1).map(|n| Death { phase, call, n }));
        }
    }
    for (phase, call, counts) in &threads {
        println!("{phase:?} {call:<10} calls by thread: {counts:?}");
    }
    let all = deaths.len();
    if let Some(sample) = args.sample {
        let step = all.div_ceil(sample.max(1));
        deaths = deaths.into_iter().skip(step / 2).step_by(step).collect();
    }
    let (next, died, unharmed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let broken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.at_once {
            scope.spawn(|| {
                while let Some(death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let told = match one(args, *death) {
                        Ok((true, told)) => {
                            died.fetch_add(1, Ordering::Relaxed);
                            told
                        }
                        Ok((false, told)) => {
                            unharmed.fetch_add(1, Ordering::Relaxed);
                            told
                        }
                        Err(error) => vec![format!("the harness failed: {error}")],
                    };
                    let told = told.into_iter().map(|it| format!("{death:?}: {it}"));
                    broken.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(told);
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    println!(
        "places to die {all}, tried {}, died {}, passed unharmed {}, violations {}",
        deaths.len(),
        died.into_inner(),
        unharmed.into_inner(),
        broken.len()
    );
    for line in broken.iter().take(10) {
        println!("VIOLATION {line}");
    }
    Ok(broken.is_empty())
}

/// # Errors
/// Without strace, with the command that installs it.
pub(crate) fn need_strace() -> Result<()> {
    let told = Command::new("strace").arg("--version").output();
    if told.is_ok_and(|it| it.status.success()) {
        return Ok(());
    }
    Err("this needs strace; on Debian and Ubuntu: apt-get install --yes strace".into())
}

/// How often each thread enters each call in a run that is left alone.
fn counted(args: &Args, phase: Phase) -> Result<Vec<(&'static str, Vec<usize>)>> {
    let folder = tempfile::tempdir()?;
    let arena = scene::set(folder.path(), &args.binary, args.mutant.as_deref())?;
    let trace = folder.path().join("trace");
    let calls = CALLS.join(",");
    let mut words =
        vec!["-o".to_owned(), trace.display().to_string(), "-e".to_owned(), format!("trace={calls}")];
    words.extend(only_paths(folder.path()));
    let died = play(&arena, phase, &words)?;
    if died {
        return Err(format!("it died without a reason: {}", arena.keeper().last_words()).into());
    }
    let mut found = BTreeMap::<&str, BTreeMap<String, usize>>::new();
    for line in fs::read_to_string(&trace)?.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let name = rest.trim_start().split('(').next().unwrap_or_default();
        if let Some(call) = CALLS.iter().find(|it| **it == name) {
            *found.entry(call).or_default().entry(thread.to_owned()).or_default() += 1;
        }
    }
    Ok(found.into_iter().map(|(call, threads)| (call, threads.into_values().collect())).collect())
}

/// Runs the scene with one death in it, then heals. Says whether it died, and what was broken.
fn one(args: &Args, death: Death) -> Result<(bool, Vec<String>)> {
    let folder = tempfile::Builder::new().prefix("onceward-crash-death-").tempdir()?;
    let arena = scene::set(folder.path(), &args.binary, args.mutant.as_deref())?;
    let Death { phase, call, n } = death;
    let mut words = vec!["-o".to_owned(), "/dev/null".to_owned(), "-e".to_owned(), format!("trace={call}")];
    words.extend(["-e".to_owned(), format!("inject={call}:signal=KILL:when={n}")]);
    words.extend(only_paths(folder.path()));
    let died = play(&arena, phase, &words)?;
    if arena.book.violations().is_empty() {
        heal::run(&arena)?;
    }
    let broken = arena.book.violations();
    let story = |it: &crate::book::Violation| {
        let story = it.name.as_ref().map(|it| arena.book.story(it)).unwrap_or_default();
        format!("`{}`: {}\n  {}", it.check, it.what, story.join("\n  "))
    };
    Ok((died, broken.iter().map(story).collect()))
}

/// Runs the scene under strace. Says whether the gateway died on the way.
fn play(arena: &Arena, phase: Phase, words: &[String]) -> Result<bool> {
    let keeper = arena.keeper();
    if phase == Phase::Again {
        keeper.start()?;
        scene::prelude(arena);
        keeper.kill()?;
    }
    if phase == Phase::Ready {
        keeper.start()?;
        attach(arena, words)?;
    } else {
        keeper.spawn_as(|_| {
            let mut command = Command::new("strace");
            // The tracer is the grandchild: our child is the gateway.
            command
                .args(["-D", "-f", "-qq"])
                .args(words)
                .arg(&keeper.setup.binary)
                .args(keeper.setup.arguments());
            let path = std::env::var_os("PATH").unwrap_or_default();
            keeper.setup.dress(&mut command);
            command.env("PATH", path);
            command
        })?;
        if !keeper.wait_ready()? {
            keeper.kill()?;
            return Ok(true);
        }
    }
    scene::play(arena, 0);
    let code = keeper.stop()?;
    if let Some(code) = code.filter(|it| ![0, 3].contains(it)) {
        return Err(format!("it ended with {code}: {}", keeper.last_words()).into());
    }
    Ok(code.is_none())
}

fn attach(arena: &Arena, words: &[String]) -> Result<()> {
    let pid = arena.keeper().pid().ok_or("there is no gateway")?;
    let said = arena.keeper().setup.folder.join("strace.err");
    let mut tracer = Command::new("strace")
        .arg("-f")
        .args(words)
        .arg("-p")
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stderr(fs::File::create(&said)?)
        .spawn()?;
    let attached = || fs::read_to_string(&said).is_ok_and(|it| it.contains("attached")).then_some(());
    until(ms(10_000), attached).ok_or_else(|| format!("strace does not attach: {}", said.display()))?;
    // It ends with the process that it traces.
    thread::spawn(move || tracer.wait());
    Ok(())
}

/// Only calls that touch files of the store count: log lines and wakes of other threads would come first. Files with
/// names made up at random cannot be named; what happens to them is between calls that are.
fn only_paths(folder: &Path) -> Vec<String> {
    let records = folder.join("disk/records");
    let mut paths: Vec<PathBuf> =
        ["", "LOCK", "FORMAT", "FORMAT.new", "TABLES", "TABLES.new", "IN-USE", "IN-USE.new", "ROOM"]
            .iter()
            .map(|it| if it.is_empty() { records.clone() } else { records.join(it) })
            .collect();
    let db = records.join("db");
    paths.extend(["lock", "version", "0.jnl", "1.jnl", "2.jnl", "keyspaces"].map(|it| db.join(it)));
    paths.push(db.clone());
    for table in 0..4 {
        let table = db.join(format!("keyspaces/{table}"));
        paths.extend(["current", "tables", "tables/0", "tables/1", "tables/2"].map(|it| table.join(it)));
        paths.extend((0..8).map(|it| table.join(format!("v{it}"))));
        paths.push(table);
    }
    paths.into_iter().flat_map(|it| ["-P".to_owned(), it.display().to_string()]).collect()
}
