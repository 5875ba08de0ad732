//! Does to the gateways, to their upstream and to their store what nobody should.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;

use crate::Result;
use onceward_testkit::Way;

use crate::arena::Arena;
use crate::backend::{Backend, Server};
use crate::book::count;
use crate::disk;
use crate::gateway::Keeper;
use crate::time::{ms, now};

/// The exit codes of an orderly end: everything finished, or operations were left unresolved.
const ORDERLY: [i32; 2] = [0, 3];

/// The pause in which nobody does anything to anybody.
const CALM: Duration = ms(3_500);

/// One fault after the other until the run is over, then heals everything.
pub(crate) fn run(arena: &Arena, seed: u64) -> Result<()> {
    let mut rng = Rng::with_seed(seed ^ 0x6e65_6d65_7369_7321);
    for turn in 0.. {
        // Now and then long enough that nothing excuses an operation which is unresolved.
        let is_calm = turn == 0 || rng.u32(0..8) == 0;
        let pause = if is_calm { CALM } else { ms(rng.u64(100..1_300)) };
        arena.is_calm.store(is_calm, Ordering::SeqCst);
        let end = now() + pause;
        while now() < end && !arena.book.is_over() {
            keep_up(arena)?;
            thread::sleep(ms(10));
        }
        arena.is_calm.store(false, Ordering::SeqCst);
        if arena.book.is_over() {
            return Ok(());
        }
        strike(arena, &mut rng)?;
        keep_up(arena)?;
    }
    Ok(())
}

/// A gateway that is down is started again. One that ended by itself is a violation.
pub(crate) fn keep_up(arena: &Arena) -> Result<()> {
    let mut all_are_up = true;
    for keeper in &arena.fleet {
        if let Some(status) = keeper.ended()? {
            let what = format!("the gateway ended by itself with {status}: {}", keeper.last_words());
            arena.book.blame("ended", what, None);
        }
        if !keeper.has_process() {
            all_are_up = false;
            keeper.start()?;
        }
    }
    if !all_are_up {
        arena.book.heal("kill");
    }
    Ok(())
}

fn strike(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let (book, keeper) = (&arena.book, &arena.fleet[rng.usize(0..arena.fleet.len())]);
    if let Backend::Server(server) = &arena.store
        && rng.u32(0..100) < 45
    {
        return shake(arena, server, rng);
    }
    match rng.u32(0..100) {
        0..30 => {
            kill(arena, keeper)?;
            thread::sleep(ms(rng.u64(0..400)));
            // Now and then it also dies while it starts.
            for _ in 0..rng.u32(0..3) {
                keeper.spawn()?;
                thread::sleep(ms(rng.u64(0..150)));
                kill(arena, keeper)?;
            }
            keep_up(arena)
        }
        30..48 => {
            book.fault("stop");
            count(&book.counts.stops);
            keeper.freeze()?;
            // Past the lease of most routes; now and then killed in its sleep.
            thread::sleep(ms(rng.u64(300..2_300)));
            keeper.thaw()?;
            book.heal("stop");
            Ok(())
        }
        48..60 => {
            book.fault("kill");
            count(&book.counts.restarts);
            let code = keeper.stop()?;
            if code.is_some_and(|it| !ORDERLY.contains(&it)) {
                book.blame("ended", format!("it was told to stop and ended with {code:?}"), None);
            }
            keep_up(arena)
        }
        60..72 => {
            book.fault("upstream killed");
            count(&book.counts.upstream_kills);
            let pause = ms(rng.u64(0..700));
            lock(arena).renew(&arena.ledger, pause)?;
            book.heal("upstream killed");
            Ok(())
        }
        72..84 => {
            book.fault("upstream stopped");
            count(&book.counts.upstream_stops);
            lock(arena).signal(Signal::STOP)?;
            thread::sleep(ms(rng.u64(100..3_200)));
            lock(arena).signal(Signal::CONT)?;
            book.heal("upstream stopped");
            Ok(())
        }
        _ => match &arena.store {
            Backend::Embedded { disk: Some(disk) } => full_disk(arena, disk, rng),
            Backend::Embedded { disk: None } | Backend::Server(_) => Ok(()),
        },
    }
}

fn full_disk(arena: &Arena, disk: &std::path::Path, rng: &mut Rng) -> Result<()> {
    let book = &arena.book;
    book.fault("full disk");
    count(&book.counts.full_disks);
    disk::fill(disk)?;
    thread::sleep(ms(rng.u64(100..1_500)));
    let die = rng.u32(0..4) == 0;
    if die {
        kill(arena, arena.keeper())?;
        // It may start or not, as it can.
        arena.keeper().spawn()?;
        thread::sleep(ms(rng.u64(50..500)));
        kill(arena, arena.keeper())?;
    }
    disk::free(disk)?;
    if die {
        keep_up(arena)?;
    }
    // The store opens its files again after a pause.
    thread::sleep(ms(300));
    book.heal("full disk");
    Ok(())
}

/// Does something to the server of the store, or to the network before it.
fn shake(arena: &Arena, server: &Server, rng: &mut Rng) -> Result<()> {
    let book = &arena.book;
    book.fault("store");
    let among = if server.has_wire() { 100 } else { 50 };
    match rng.u32(0..among) {
        0..40 => {
            count(&book.counts.store_kills);
            server.kill(ms(rng.u64(0..700)));
        }
        40..50 => {
            count(&book.counts.store_stops);
            server.stop(ms(rng.u64(100..2_500)));
        }
        50..65 => {
            count(&book.counts.wire_faults);
            server.wire.cut();
        }
        65..75 => {
            count(&book.counts.wire_faults);
            server.wire.cut();
            server.wire.refuse(true);
            thread::sleep(ms(rng.u64(50..1_500)));
            server.wire.refuse(false);
        }
        75..85 => {
            count(&book.counts.wire_faults);
            server.wire.lose_answers(rng.u32(1..4));
            thread::sleep(ms(100));
            server.wire.lose_answers(0);
        }
        85..95 => {
            count(&book.counts.wire_faults);
            let way = if rng.bool() { Way::There } else { Way::Back };
            server.wire.clog(way, true);
            thread::sleep(ms(rng.u64(50..2_500)));
            server.wire.clog(way, false);
        }
        _ => {
            count(&book.counts.wire_faults);
            server.wire.slow_down(ms(rng.u64(1..60)));
            thread::sleep(ms(rng.u64(100..1_500)));
            server.wire.slow_down(Duration::ZERO);
        }
    }
    // Gateways connect again after a pause.
    thread::sleep(ms(300));
    book.heal("store");
    Ok(())
}

fn kill(arena: &Arena, keeper: &Keeper) -> Result<()> {
    arena.book.fault("kill");
    if keeper.kill()? {
        count(&arena.book.counts.kills);
    }
    Ok(())
}

pub(crate) fn lock(arena: &Arena) -> std::sync::MutexGuard<'_, crate::upstream::Upstream> {
    arena.upstream.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
