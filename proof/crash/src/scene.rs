//! A small run that is the same each time: a bit of everything that a store is asked for.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::arena::Arena;
use crate::backend::Backend;
use crate::book::Book;
use crate::client::Client;
use crate::gateway::{Keeper, Setup};
use crate::plan::Op;
use crate::script::{End, Script};
use crate::time::{ms, now};
use crate::upstream::{Upstream, free_address};

const PATIENCE: Duration = ms(6_000);

/// A gateway, not started yet, and all that belongs to it, in this folder.
pub(crate) fn set(folder: &Path, binary: &Path, mutant: Option<&str>) -> Result<Arena> {
    static SCENES: AtomicU16 = AtomicU16::new(0);
    let setup = Setup {
        binary: binary.canonicalize().map_err(|it| format!("{}: {it}", binary.display()))?,
        folder: folder.to_owned(),
        store: format!("embedded:{}", folder.join("disk/records").display()),
        name: "gateway".to_owned(),
        mutant: mutant.map(str::to_owned),
    };
    std::fs::create_dir_all(folder.join("disk"))?;
    let (ledger, mut address) = (folder.join("ledger"), free_address());
    address.set_port(10_000 + SCENES.fetch_add(1, Ordering::Relaxed));
    setup.write_settings(address)?;
    Ok(Arena {
        fleet: vec![Keeper::new(setup)],
        turn: AtomicUsize::new(0),
        store: Backend::Embedded { disk: None },
        upstream: Mutex::new(Upstream::start(address, &ledger)?),
        book: Book::open(&ledger)?,
        ledger,
        started: now(),
        is_calm: AtomicBool::new(true),
        last_strike: AtomicU64::new(0),
    })
}

fn op(key: &str) -> Op {
    Op { caller: 0, path: "/pay", key: key.to_owned(), payload: (0, 200) }
}

/// Before the store is opened anew.
pub(crate) fn prelude(arena: &Arena) {
    let mut client = Client::default();
    for key in ["early-1", "early-2"] {
        arena.send(&mut client, &op(key), &Script::PLAIN, PATIENCE);
    }
    let cut = Script { end: End::Cut, ..Script::PLAIN };
    arena.send(&mut client, &op("early-cut"), &cut, PATIENCE);
}

/// Claims, answers, replays, renewals, releases, an outcome that is unknown, and several at once. `bulk` adds so many
/// long answers, so that the store writes out what it has in memory.
pub(crate) fn play(arena: &Arena, bulk: usize) {
    let mut client = Client::default();
    let mut send = |key: &str, script: &Script| arena.send(&mut client, &op(key), script, PATIENCE);
    send("one", &Script::PLAIN);
    send("one", &Script::PLAIN);
    send("freed", &Script { end: End::Release(429), ..Script::PLAIN });
    send("freed", &Script::PLAIN);
    send("long", &Script { bytes: 9_000, ..Script::PLAIN });
    send("open", &Script { end: End::Unknown(504), ..Script::PLAIN });
    thread::scope(|scope| {
        // Longer than its lease: it is renewed meanwhile.
        scope.spawn(|| {
            arena.send(&mut Client::default(), &op("slow"), &Script::slow(ms(500), ms(700)), PATIENCE)
        });
        for number in 0..4 {
            let key = format!("many-{number}");
            scope.spawn(move || arena.send(&mut Client::default(), &op(&key), &Script::PLAIN, PATIENCE));
        }
    });
    for number in 0..bulk {
        send(&format!("bulk-{number}"), &Script { bytes: 400_000, ..Script::PLAIN });
    }
    send("early-1", &Script::PLAIN);
    send("last", &Script::PLAIN);
}
