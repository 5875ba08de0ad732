//! Simulated power cuts: what the disk would hold had the power gone at any moment of a run.
//!
//! The gateway runs under strace, which writes down every call that changes its files. From that follows what was
//! synced when, and so what a cut at any moment leaves at least; of the rest it may leave anything. Each such image
//! is opened by the real gateway, and all that was told before the cut must stand.

mod model;
mod trace;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use self::model::{Fate, Model};
use self::trace::Event;
use crate::Result;
use crate::arena::Arena;
use crate::book::Entry;
use crate::deaths::need_strace;
use crate::ledger::{Ledger, Row};
use crate::time::{ms, now, until, wall};
use crate::{heal, scene};

/// What is run, and how often the power goes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The gateway
    #[arg(long)]
    pub(crate) binary: PathBuf,
    /// What is drawn when a part of what was not synced survives
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only so many images, spread over all
    #[arg(long)]
    pub(crate) sample: Option<usize>,
    /// So many images of each moment in which some of what was not synced survives
    #[arg(long, default_value_t = 3)]
    pub(crate) parts: u64,
    /// So many long answers besides, so that the store writes out its tables
    #[arg(long, default_value_t = 0)]
    pub(crate) bulk: usize,
    /// How many at the same time
    #[arg(long, default_value_t = 8)]
    pub(crate) at_once: usize,
    /// Print every call
    #[arg(long)]
    pub(crate) verbose: bool,
    /// A break that this build was made for
    #[arg(long)]
    pub(crate) mutant: Option<String>,
}

/// A run that was written down.
struct Recorded {
    /// What the disk held before.
    before: Model,
    events: Vec<Event>,
    entries: Vec<Entry>,
    rows: Vec<Row>,
}

/// A moment at which the power goes, and what survives.
#[derive(Debug, Clone, Copy)]
struct Cut {
    run: usize,
    /// How many events have happened.
    events: usize,
    fate: Fate,
}

/// Says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    need_strace()?;
    let runs = [record(args, false)?, record(args, true)?];
    let mut cuts = Vec::new();
    for (run, recorded) in runs.iter().enumerate() {
        cuts.extend(moments(args, run, recorded));
    }
    let all = cuts.len();
    let events: Vec<_> = runs.iter().map(|it| it.events.len()).collect();
    println!("calls that change files: {events:?}; images {all}");
    if let Some(sample) = args.sample {
        let step = all.div_ceil(sample.max(1));
        cuts = cuts.into_iter().skip(step / 2).step_by(step).collect();
    }
    let (next, stood) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let broken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.at_once {
            scope.spawn(|| {
                while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let told = check(args, &runs[cut.run], *cut);
                    let told = told.unwrap_or_else(|it| (0, vec![format!("`does not open`: {it}")]));
                    stood.fetch_add(told.0, Ordering::Relaxed);
                    let told = told.1.into_iter().map(|it| format!("{cut:?}: {it}"));
                    broken.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    if args.verbose {
        for (number, event) in runs.iter().flat_map(|it| it.events.iter().enumerate()) {
            println!("{number:5} {:.120}", format!("{:?}", event.change));
        }
    }
    let (tried, stood) = (cuts.len(), stood.into_inner());
    println!("images tried {tried}, answers asked for again {stood}, violations {}", broken.len());
    for line in broken.iter().take(5) {
        println!("VIOLATION {line}");
    }
    Ok(broken.is_empty())
}

/// Every moment with every fate, but for images that hold and owe the same as one before.
fn moments(args: &Args, run: usize, recorded: &Recorded) -> Vec<Cut> {
    let (mut cuts, mut known) = (Vec::new(), HashSet::new());
    let mut model = recorded.before.clone();
    for events in 0..=recorded.events.len() {
        if let Some(event) = events.checked_sub(1).and_then(|it| recorded.events.get(it)) {
            model.apply(&event.change);
        }
        let end = recorded.end_of(events);
        let owed =
            recorded.entries.iter().filter(|it| it.answer.as_ref().is_some_and(|it| it.at < end)).count();
        let done = recorded.rows.iter().filter(|it| it.at < end).count();
        let parts = (0..args.parts)
            .map(|it| Fate::Some(args.seed.wrapping_mul(1_000_003).wrapping_add(events as u64 * 64 + it)));
        for fate in [Fate::Least, Fate::All].into_iter().chain(parts) {
            // Of long answers the digests would take longer than the images.
            if args.bulk > 0 || known.insert((model.digest(fate), owed, done)) {
                cuts.push(Cut { run, events, fate });
            }
        }
    }
    cuts
}

impl Recorded {
    /// Until when the disk is as it is after so many events: all that was told before must be on it.
    fn end_of(&self, events: usize) -> Duration {
        self.events.get(events).map_or(Duration::MAX, |it| it.at)
    }
}

/// Writes down a run from an empty disk, or one over the files that a killed process left.
fn record(args: &Args, again: bool) -> Result<Recorded> {
    let folder = tempfile::Builder::new().prefix("onceward-crash-power-").tempdir()?;
    let arena = scene::set(folder.path(), &args.binary, args.mutant.as_deref())?;
    let keeper = arena.keeper();
    if again {
        keeper.start()?;
        scene::prelude(&arena);
        keeper.kill()?;
    }
    let disk = folder.path().join("disk").canonicalize()?;
    let before = Model::of(&disk)?;
    let trace = folder.path().join("trace");
    let offset = wall() - now();
    keeper.spawn_as(|_| {
        let mut command = Command::new("strace");
        // The tracer is the grandchild: our child is the gateway.
        command.args(["-D", "-f", "-q", "-y", "-ttt", "-xx", "-s", "16777216", "-o"]).arg(&trace);
        command.arg("-e").arg(format!("trace={}", trace::CALLS.join(",")));
        command.arg(&keeper.setup.binary).args(keeper.setup.arguments());
        let path = std::env::var_os("PATH").unwrap_or_default();
        keeper.setup.dress(&mut command);
        command.env("PATH", path);
        command
    })?;
    if !keeper.wait_ready()? {
        return Err(format!("the gateway did not start: {}", keeper.last_words()).into());
    }
    let pid = keeper.pid().ok_or("the gateway is gone")?;
    scene::play(&arena, args.bulk);
    keeper.stop()?;
    if let Some(violation) = arena.book.violations().first() {
        return Err(format!("the run that is written down went wrong: {violation:?}").into());
    }
    // The tracer writes its last lines after the gateway has ended.
    let pid = pid.to_string();
    let ends = |it: &str| it.lines().rev().take(50).any(|it| it.starts_with(&pid) && it.contains(" +++ "));
    let text = until(ms(10_000), || fs::read_to_string(&trace).ok().filter(|it| ends(it)));
    let events = trace::read(&text.ok_or("strace does not end")?, &disk, offset)?;
    let mut model = before.clone();
    events.iter().for_each(|it| model.apply(&it.change));
    model.compare(&disk)?;
    let rows = Ledger::open(&arena.ledger)?.news()?;
    Ok(Recorded { before, events, entries: arena.book.all(), rows })
}

/// Opens an image and asks for everything. Says how many answers were owed, and what was broken.
fn check(args: &Args, recorded: &Recorded, cut: Cut) -> Result<(usize, Vec<String>)> {
    let folder = tempfile::Builder::new().prefix("onceward-crash-image-").tempdir()?;
    let mut model = recorded.before.clone();
    recorded.events[..cut.events].iter().for_each(|it| model.apply(&it.change));
    fs::create_dir(folder.path().join("disk"))?;
    model.write(cut.fate, &folder.path().join("disk"))?;
    let end = recorded.end_of(cut.events);
    let rows: String = recorded.rows.iter().filter(|it| it.at < end).map(Row::line).collect();
    fs::write(folder.path().join("ledger"), rows)?;
    let arena = scene::set(folder.path(), &args.binary, args.mutant.as_deref())?;
    for entry in recorded.entries.iter().filter(|it| it.since < end) {
        let answer = entry.answer.clone().filter(|it| it.at < end);
        arena.book.seed(Entry { answer, ..entry.clone() });
    }
    let owed = arena.book.all().iter().filter(|it| it.answer.is_some()).count();
    if let Err(error) = heal::run(&arena) {
        let why = [arena.keeper().lines_about("\"reason\""), vec![arena.keeper().last_words()]]
            .concat()
            .join("\n  ");
        return Err(format!("{error:.100}\n  {why}").into());
    }
    Ok((owed, arena.book.violations().iter().map(|it| told(&arena, it)).collect()))
}

fn told(arena: &Arena, violation: &crate::book::Violation) -> String {
    let story = violation.name.as_ref().map(|it| arena.book.story(it)).unwrap_or_default();
    format!("`{}`: {}\n  {}", violation.check, violation.what, story.join("\n  "))
}
