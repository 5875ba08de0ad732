//! The table at the end of a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onceward::queue::Reason;

use super::judge::Counts;
use super::{Field, Strength, carried};
use crate::time::now;

/// How long after the faults everything was over, each from when they ended; `None` where it was not in time.
#[derive(Debug, Default)]
pub(super) struct Healed {
    pub(super) acknowledged: Option<Duration>,
    pub(super) went_out: Option<Duration>,
}

/// What processes told of themselves before they were killed. Who was stopped or had just begun told nothing.
#[derive(Debug, Default)]
pub(super) struct Counted {
    received: AtomicU64,
    redelivered: AtomicU64,
    of_done: AtomicU64,
    of_running: AtomicU64,
    fenced: AtomicU64,
}

impl Counted {
    pub(super) fn add(&self, page: &str) {
        for line in page.lines() {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let counter = match name {
                "onceward_messages_received_total{redelivered=\"no\"}" => &self.received,
                "onceward_messages_received_total{redelivered=\"yes\"}" => &self.redelivered,
                "onceward_messages_total{outcome=\"duplicate_of_done\"}" => &self.of_done,
                "onceward_messages_total{outcome=\"duplicate_of_running\"}" => &self.of_running,
                "onceward_messages_total{outcome=\"fenced\"}" => &self.fenced,
                _ => continue,
            };
            counter.fetch_add(value.parse().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

type Rows = Vec<(&'static str, String)>;

pub(super) fn print(field: &Field<'_>, counts: &Counts, healed: &Healed) {
    let mut rows = of_faults(field, counts);
    if field.args.strength == Strength::Lease {
        rows.push(("calls of the handler", counts.calls.to_string()));
    }
    rows.extend([
        ("effects", counts.effects.to_string()),
        ("messages answered for", counts.done.to_string()),
    ]);
    for (reason, count) in Reason::ALL.iter().zip(counts.parked) {
        let name = match reason {
            Reason::Unresolved => "dead letters: unresolved",
            Reason::Attempts => "dead letters: attempts",
            Reason::Handler => "dead letters: handler",
            Reason::NoIdentity | Reason::OtherPayload if count > 0 => "dead letters: other reasons",
            Reason::NoIdentity | Reason::OtherPayload => continue,
        };
        rows.push((name, count.to_string()));
        if *reason == Reason::Unresolved {
            rows.push(("  whose handler was never called", counts.never_called.to_string()));
        }
    }
    rows.extend([
        ("dead letters of what was answered for", counts.done_and_parked.to_string()),
        ("all was acknowledged after the faults within", in_time(healed.acknowledged)),
        ("doubled", counts.doubled.to_string()),
        ("lost", counts.lost.to_string()),
        ("dead letters that nothing explains", counts.unexplained.to_string()),
        ("stuck", counts.stuck.to_string()),
    ]);
    if let Some(counts) = &counts.carried {
        rows.extend(of_effects(counts, healed));
    }
    println!();
    for (name, value) in rows {
        println!("{name:<46} {value}");
    }
}

fn of_faults(field: &Field<'_>, counts: &Counts) -> Rows {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    let told = &field.counted;
    let mut rows = vec![
        ("seed", field.args.subject.seed.to_string()),
        ("source, and store", format!("{:?}, {:?}", field.args.source, field.args.store)),
        ("consumers, and relays beside them", {
            let relays = field.posts().count() as u64 - field.args.consumers;
            format!("{}, {relays}", field.args.consumers)
        }),
        (
            "seconds of faults, and in all",
            format!("{}, {}", field.args.seconds, (now() - field.began).as_secs()),
        ),
        ("messages (ids)", counts.messages.to_string()),
        ("copies published", of(&field.published)),
        ("deliveries, as far as processes could tell", of(&told.received)),
        ("  redeliveries besides", of(&told.redelivered)),
        ("  duplicates of what was done", of(&told.of_done)),
        ("  duplicates of what ran", of(&told.of_running)),
        ("  holders that came too late", of(&told.fenced)),
        ("kills of consumers", of(&field.kills)),
    ];
    if counts.carried.is_some() {
        rows.push(("kills of relays", of(&field.relay_kills)));
    }
    rows.extend([
        ("stops past the lease and back", of(&field.stops)),
        ("restarts of the broker", of(&field.broker_restarts)),
        ("restarts of the store", of(&field.store_restarts)),
        ("times this machine stood still", of(&field.standstills)),
    ]);
    rows
}

fn of_effects(counts: &carried::Counts, healed: &Healed) -> Rows {
    vec![
        ("answers that stand and name effects", counts.answers.to_string()),
        ("  effects that they name", counts.named.to_string()),
        ("effects that other answers name", counts.void.to_string()),
        ("arrivals at their receiver", counts.arrivals.to_string()),
        ("  ids under which they arrived", counts.ids.to_string()),
        ("  repeats of what was not answered with 2xx", counts.again.to_string()),
        ("  repeats after a kill, stop or restart", counts.ended.to_string()),
        ("  repeats that nothing explains", counts.unexplained.to_string()),
        ("parked, as their receiver wanted, or behind", counts.parked.to_string()),
        ("all was out after the faults within", in_time(healed.went_out)),
        ("effects lost", counts.lost.to_string()),
        ("sent though their answer does not stand", counts.invented.to_string()),
        ("sent under another id", counts.renamed.to_string()),
        ("out of order within their answer", counts.disordered.to_string()),
        ("neither out nor rightly parked", counts.stuck.to_string()),
    ]
}

fn in_time(healed: Option<Duration>) -> String {
    healed.map_or_else(|| "NOT in time".to_owned(), |it| format!("{:.1} s", it.as_secs_f64()))
}
