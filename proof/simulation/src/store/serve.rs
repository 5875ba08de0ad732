//! The far end of the line: what becomes of a call, and whether what it changed is allowed.

use std::time::Duration;

use onceward_core::store::{Insert, Replace};
use onceward_core::{Error, ErrorKind, Record, Result, State};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Ask, Call, Told};
use crate::plan::millis;
use crate::world::{Violation, World};

/// What becomes of a call on its way there and back.
#[derive(Debug, Clone, Copy)]
struct Fate {
    before: Duration,
    carried: Carried,
    after: Duration,
    reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    Never,
    Once,
    /// A copy of it lands so much later.
    Twice(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Arrives,
    /// The caller is told that nothing was written.
    Refused,
    /// The caller is told that nobody knows.
    Uncertain,
    /// The caller hears nothing.
    Lost,
}

/// Serves calls for as long as the simulation goes on.
pub(crate) async fn serve(world: World, mut calls: mpsc::UnboundedReceiver<Call>) {
    let mut rng = world.rng("store", 0);
    let tasks = TaskTracker::new();
    while let Some(call) = calls.recv().await {
        let fate = fate(&world, &mut rng);
        let world = world.clone();
        tasks.spawn_local(async move { one(world, call, fate).await });
    }
}

fn fate(world: &World, rng: &mut fastrand::Rng) -> Fate {
    let plain = Fate {
        before: Duration::from_micros(rng.u64(0..3000)),
        carried: Carried::Once,
        after: Duration::from_micros(rng.u64(0..3000)),
        reply: Reply::Arrives,
    };
    match world.store_mood() {
        1 => return Fate { carried: Carried::Never, reply: Reply::Refused, ..plain },
        2 => return Fate { carried: Carried::Never, reply: Reply::Lost, ..plain },
        _ => {}
    }
    let trouble = if world.faults() { world.plan().store_trouble } else { 0 };
    if rng.u32(0..1000) >= trouble {
        return plain;
    }
    let budget = u64::try_from(world.plan().times.call_budget.as_millis()).expect("below a second");
    let late = millis(rng, 0..=2 * budget);
    let (fate, word) = match rng.u8(0..9) {
        0 => (Fate { carried: Carried::Never, reply: Reply::Refused, ..plain }, "refused"),
        1 => (Fate { carried: Carried::Never, reply: Reply::Lost, ..plain }, "call lost in silence"),
        2 => (Fate { carried: Carried::Never, reply: Reply::Uncertain, ..plain }, "call lost"),
        3 => (Fate { reply: Reply::Lost, ..plain }, "reply lost in silence"),
        4 => (Fate { reply: Reply::Uncertain, ..plain }, "reply lost"),
        5 => (Fate { before: late, ..plain }, "late"),
        6 => (
            Fate { before: late, reply: Reply::Uncertain, after: Duration::ZERO, ..plain },
            "late, reply lost",
        ),
        7 => (Fate { after: late, ..plain }, "late reply"),
        _ => (Fate { carried: Carried::Twice(late), ..plain }, "twice"),
    };
    world.count(&format!("store: {word}"));
    fate
}

async fn one(world: World, call: Call, fate: Fate) {
    let Call { who, ask, reply } = call;
    world.count("store: calls");
    let unknown = || Err(Error::new(ErrorKind::Uncertain, "hear from the simulated store"));
    let mut reply = Some(reply);
    if fate.reply == Reply::Uncertain && fate.after.is_zero() {
        // The caller is told before the call lands.
        if let Some(reply) = reply.take() {
            let _ = reply.send(unknown());
        }
    }
    tokio::time::sleep(fate.before).await;
    let told = match fate.carried {
        Carried::Never => unknown(),
        Carried::Once | Carried::Twice(_) => carry_out(&world, &who, &ask).await,
    };
    tokio::time::sleep(fate.after).await;
    if let Some(reply) = reply {
        // Whoever asked may be gone.
        let _ = match fate.reply {
            Reply::Arrives => reply.send(told),
            Reply::Refused => {
                reply.send(Err(Error::new(ErrorKind::Unavailable, "reach the simulated store")))
            }
            Reply::Uncertain => reply.send(unknown()),
            Reply::Lost => return,
        };
    }
    if let Carried::Twice(later) = fate.carried {
        tokio::time::sleep(later).await;
        drop(carry_out(&world, &who, &ask).await);
    }
}

/// Carries a call out, and judges what it changed.
async fn carry_out(world: &World, who: &str, ask: &Ask) -> Result<Told> {
    let store = world.store();
    let told = match ask {
        Ask::Insert(id, put) => {
            let before = store.load(*id).await?.record;
            let told = store.insert(*id, put).await?;
            world.note("store", || format!("{who}: insert {} {:?} -> {}", id.prefix(), put, inserted(&told)));
            if let Insert::Kept(after) = &told {
                judge(world, before.as_deref(), after);
            }
            Told::Insert(told)
        }
        Ask::Replace(id, seen, put) => {
            let before = store.load(*id).await?.record;
            let told = store.replace(*id, *seen, put).await?;
            world.note("store", || {
                format!("{who}: replace {} {:?} {seen} -> {}", id.prefix(), put, replaced(&told))
            });
            if let Replace::Kept(after) = &told {
                if before.as_ref().is_none_or(|it| it.revision != *seen) {
                    world.violated(Violation::NotGrown, "a swap on another revision was kept".into());
                }
                judge(world, before.as_deref(), after);
            }
            Told::Replace(told)
        }
        Ask::Load(id) => Told::Load(store.load(*id).await?),
        Ask::Due(from, limit) => Told::Due(store.due(*from, *limit).await?),
        Ask::List(filter, cursor, limit) => Told::List(store.list(filter, *cursor, *limit).await?),
        Ask::Sweep(limit) => Told::Swept(store.sweep(*limit).await?),
        Ask::Check => Told::Checked,
    };
    Ok(told)
}

fn judge(world: &World, before: Option<&Record>, after: &Record) {
    world.count(match &after.state {
        State::Running if before.is_none_or(|it| it.fence != after.fence) => "store: granted",
        State::Running => "store: renewed",
        State::Abandoned { .. } => "store: abandoned",
        State::Released => "store: released",
        State::Done(_) => "store: done",
        State::Tombstone => "store: tombstone",
    });
    if before.is_some_and(|it| it.fence != after.fence && it.state != State::Released) {
        world.count("store: taken over");
    }
    world.changed(before, after);
}

fn inserted(it: &Insert) -> String {
    match it {
        Insert::Kept(record) => format!("kept {record:?}"),
        Insert::Found(record, now) => format!("found {record:?} at {}", now.as_millis()),
        Insert::Late(now) => format!("late at {}", now.as_millis()),
    }
}

fn replaced(it: &Replace) -> String {
    match it {
        Replace::Kept(record) => format!("kept {record:?}"),
        Replace::Lost(record, now) => format!("lost {record:?} at {}", now.as_millis()),
        Replace::Late(now) => format!("late at {}", now.as_millis()),
    }
}
