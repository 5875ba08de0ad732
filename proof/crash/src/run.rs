//! One run: callers and nemesis for so many seconds, then the healing, then what it came to.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::arena::Arena;
use crate::backend::{Backend, Kind, Server};
use crate::book::{Book, Violation};
use crate::callers::{Caller, watch_for_stalls};
use crate::gateway::{Keeper, Setup};
use crate::heal::{self, Healed};
use crate::subject::Subject;
use crate::time::{ms, now};
use crate::upstream::{Upstream, free_address};
use crate::{disk, nemesis};

/// What a run is made of.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// For how long faults go on
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// The store behind the gateway
    #[arg(long, value_enum, default_value_t = Kind::Embedded)]
    pub(crate) store: Kind,
    /// How many gateways share a store that can be shared
    #[arg(long, default_value_t = 3)]
    pub(crate) gateways: usize,
    /// How many callers ask at the same time
    #[arg(long, default_value_t = 12)]
    pub(crate) callers: usize,
    /// Do without the faults of a full disk, which need a file system of their own
    #[arg(long)]
    pub(crate) no_full_disk: bool,
}

/// Says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let is_shared = args.store != Kind::Embedded;
    let disk = if args.no_full_disk || is_shared { None } else { Some(disk::own_disk()?) };
    let folder = args.subject.folder("run")?;
    let began = now();
    let arena = arena(args, &folder.path, disk)?;
    let stories = AtomicU64::new(0);
    let healed = thread::scope(|scope| -> Result<Option<Healed>> {
        scope.spawn(|| watch_for_stalls(&arena));
        for number in 0..args.callers {
            let (arena, stories) = (&arena, &stories);
            scope.spawn(move || Caller::new(arena, args.subject.seed, number).run(stories));
        }
        scope.spawn(|| {
            let end = now() + Duration::from_secs(args.seconds);
            while now() < end && !arena.book.is_over() {
                thread::sleep(ms(20));
            }
            arena.book.ends.store(true, Ordering::SeqCst);
        });
        // The healing begins when the nemesis is through; callers end what they have begun.
        let struck = nemesis::run(&arena, args.subject.seed);
        arena.book.ends.store(true, Ordering::SeqCst);
        struck?;
        if !arena.book.violations().is_empty() {
            return Ok(None);
        }
        heal::run(&arena).map(Some)
    })?;
    let violations = arena.book.violations();
    print_counts(args, &arena, &stories, healed.as_ref(), now() - began);
    for violation in violations.iter().take(3) {
        print_violation(args, &arena, violation);
    }
    Ok(violations.is_empty())
}

fn arena(args: &Args, folder: &Path, disk: Option<PathBuf>) -> Result<Arena> {
    let records = match &disk {
        Some(disk) => disk.join("records"),
        None => folder.join("records"),
    };
    let store = match args.store {
        Kind::Embedded => Backend::Embedded { disk },
        shared => Backend::Server(Box::new(Server::start(shared)?)),
    };
    let (url, gateways) = match &store {
        Backend::Embedded { .. } => (format!("embedded:{}", records.display()), 1),
        Backend::Server(server) => (server.url(), args.gateways.max(1)),
    };
    let binary = args.subject.binary()?;
    let (ledger, address) = (folder.join("ledger"), free_address());
    let setup = |number: usize| Setup {
        binary: binary.clone(),
        folder: folder.to_owned(),
        store: url.clone(),
        name: if gateways == 1 { "gateway".to_owned() } else { format!("gateway-{}", number + 1) },
        mutant: args.subject.mutant.clone(),
    };
    setup(0).write_settings(address)?;
    let arena = Arena {
        fleet: (0..gateways).map(|it| Keeper::new(setup(it))).collect(),
        turn: AtomicUsize::new(0),
        store,
        upstream: Mutex::new(Upstream::start(address, &ledger)?),
        book: Book::open(&ledger)?,
        ledger,
        started: now(),
        is_calm: AtomicBool::new(true),
        last_strike: AtomicU64::new(0),
    };
    arena.fleet.iter().try_for_each(Keeper::start)?;
    Ok(arena)
}

fn print_counts(args: &Args, arena: &Arena, stories: &AtomicU64, healed: Option<&Healed>, took: Duration) {
    let counts = &arena.book.counts;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let violations = arena.book.violations();
    let by = |checks: &[&str]| violations.iter().filter(|it| checks.contains(&it.check)).count() as u64;
    let nothing = Healed::default();
    let after = healed.unwrap_or(&nothing);
    let full = match &arena.store {
        Backend::Embedded { disk: Some(_) } => of(&counts.full_disks).to_string(),
        Backend::Embedded { disk: None } => "none, as asked".to_owned(),
        Backend::Server(_) => "none, the store is elsewhere".to_owned(),
    };
    let rows = [
        ("seed", args.subject.seed.to_string()),
        ("store, and gateways", format!("{}, {}", args.store.name(), arena.fleet.len())),
        ("seconds of faults, and in all", format!("{}, {}", args.seconds, took.as_secs())),
        ("stories", of(stories).to_string()),
        ("operations (keys)", after.records.to_string()),
        ("requests", of(&counts.requests).to_string()),
        ("  first answers seen", of(&counts.answers).to_string()),
        ("  replays seen, each byte for byte", of(&counts.replays).to_string()),
        ("  told that it runs", of(&counts.in_progress).to_string()),
        ("  refused: other payload", of(&counts.mismatches).to_string()),
        ("  refused otherwise", of(&counts.refused).to_string()),
        ("  nothing, or the caller left", of(&counts.left).to_string()),
        ("kills", of(&counts.kills).to_string()),
        ("stops past the lease and back", of(&counts.stops).to_string()),
        ("orderly restarts", of(&counts.restarts).to_string()),
        ("upstream kills", of(&counts.upstream_kills).to_string()),
        ("upstream stops", of(&counts.upstream_stops).to_string()),
        ("answers cut off or open", of(&counts.cuts).to_string()),
        ("full disks", full),
        ("kills of the store's server", of(&counts.store_kills).to_string()),
        ("stops of it and back", of(&counts.store_stops).to_string()),
        ("faults of the network to it", of(&counts.wire_faults).to_string()),
        ("holders overruled", of(&counts.overruled).to_string()),
        ("times this machine stood still", of(&counts.stalls).to_string()),
        ("unresolved in the end", of(&counts.unresolved).to_string()),
        ("  it had happened: answered", after.resolved_with_answer.to_string()),
        ("  it had not: run again", after.resolved_to_rerun.to_string()),
        ("answers asked for again after a kill", after.replayed.to_string()),
        ("duplicates", by(&["two effects"]).to_string()),
        (
            "lost or changed answers",
            by(&["lost answer", "changed answer", "foreign answer", "payload"]).to_string(),
        ),
        ("stuck", by(&["stuck", "unresolved"]).to_string()),
        ("other violations", by(&["fences", "ended", "ledger", "harness"]).to_string()),
    ];
    println!();
    for (name, value) in rows {
        println!("{name:<38} {value}");
    }
}

fn print_violation(args: &Args, arena: &Arena, violation: &Violation) {
    println!("\nVIOLATION of `{}` with seed {}: {}", violation.check, args.subject.seed, violation.what);
    let Some(name) = &violation.name else { return };
    println!("the story of {name:?}:");
    for line in arena.book.story(name) {
        println!("  {line}");
    }
    let op = arena.book.all().into_iter().find(|it| it.op.name() == *name).map(|it| it.op);
    for prefix in op.iter().flat_map(|it| heal::prefixes(arena, it)) {
        println!("the gateway's log about {prefix}:");
        for line in arena.fleet.iter().flat_map(|it| it.lines_about(&prefix)) {
            println!("  {line}");
        }
    }
}
