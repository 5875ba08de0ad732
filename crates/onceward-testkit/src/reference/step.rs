//! What a random run is made of. Nothing here refers to a result, so any part of a run is a run.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::{Due, Filter, Grant, Put, SETTLE};
use onceward_core::{
    Answer, Fingerprint, Listing, Owner, Policy, Principal, RecordId, State, Status, Timestamp, Unresolved,
};
use proptest::prelude::*;
use proptest::sample::select;

/// How many different records a run is about. Few, so that calls meet.
pub(crate) const RECORDS: u8 = 3;

/// One thing that happens.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Insert(Which, Sketch),
    Replace(Which, Seen, Sketch),
    /// A write that was sent before is sent again as it was: the newest is 0.
    Again(usize),
    Load(Which),
    Due(Due, usize),
    List(Box<Filter>, usize),
    Sweep(usize),
    /// So much time passes on both clocks.
    Pass(Duration),
    /// The wall clock is set by so many milliseconds. Stores feel it when they are opened.
    JumpWall(i64),
    /// The store is closed and opened again.
    Reopen,
    /// The process dies and the store is opened again.
    Crash,
}

/// One of the records of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which(pub(crate) u8);

impl Which {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..RECORDS).map(Self)
    }

    pub(crate) fn id(self) -> RecordId {
        RecordId::from_bytes([self.0; 32])
    }
}

/// Which revision a replace names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The last one that was told for this record, also when it was swept since.
    Newest,
    /// One that was told so many changes before.
    Stale(usize),
    /// One that was never told.
    Ahead,
}

/// A [`Put`] in a few words. Stores hold no rule, so any put is as good as any other.
#[derive(Debug, Clone)]
pub(crate) struct Sketch {
    grant: Option<(u8, bool)>,
    state: Shape,
    times: [Duration; 4],
    wake_after: Option<Duration>,
    /// How many milliseconds after the store's time (or before it) it is too late.
    not_after: Option<i64>,
    /// Varies what a store only carries: listing, checkpoint, fingerprint, answer.
    cargo: u8,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Running,
    Abandoned,
    Released,
    Done,
    Tombstone,
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const FOR_EVER: Duration = Duration::from_millis(u64::MAX);

/// The times of policies, and what passes between two steps: so that sums of the one meet the other exactly.
const TIMES: [Duration; 7] = [Duration::ZERO, MS, SECOND, Duration::from_secs(60), HOUR, SETTLE, FOR_EVER];
const PAUSES: [Duration; 6] =
    [MS, Duration::from_millis(999), SECOND, Duration::from_secs(60), Duration::from_millis(599_999), HOUR];

const KINDS: [&str; 2] = ["POST", "PATCH"];
const PATHS: [&str; 2] = ["/payments", "/refunds"];

impl Sketch {
    /// The put, for a store whose time is `now`.
    pub(crate) fn put(&self, now: Timestamp) -> Put {
        let [lease, run_max, retention, tombstone] = self.times;
        let one_in = |nth: u8| self.cargo.is_multiple_of(nth);
        let text = |nth: usize, texts: [&str; 2]| texts[usize::from(self.cargo >> nth & 1)].to_owned();
        Put {
            grant: self
                .grant
                .map(|(owner, new_life)| Grant { owner: Owner::from_bytes([owner; 16]), new_life }),
            listing: Arc::new(Listing {
                principal: Principal::from_bytes([self.cargo >> 2 & 1; 16]),
                kind: text(0, KINDS),
                host: "shop.example".into(),
                path: text(1, PATHS),
                key: format!("key-{}", self.cargo),
            }),
            rules: onceward_core::record::RULES,
            fingerprint: (!one_in(3)).then(|| Fingerprint::from_bytes([self.cargo; 32])),
            state: match self.state {
                Shape::Running => State::Running,
                Shape::Abandoned => State::Abandoned { reason: format!("for reason {}", self.cargo) },
                Shape::Released => State::Released,
                Shape::Done => {
                    State::Done(Answer::new("test", vec![self.cargo; usize::from(self.cargo) * 9]))
                }
                Shape::Tombstone => State::Tombstone,
            },
            policy: Policy {
                lease,
                run_max,
                retention,
                tombstone,
                unresolved: if one_in(2) { Unresolved::Hold } else { Unresolved::Rerun },
            },
            checkpoint: one_in(5).then(|| Bytes::from(vec![self.cargo; 7])),
            wake_after: self.wake_after,
            not_after: match self.not_after {
                None => Timestamp::MAX,
                Some(millis) => Timestamp::from_millis(now.as_millis().saturating_add_signed(millis)),
            },
        }
    }
}

/// Any step.
pub(crate) fn step() -> impl Strategy<Value = Step> {
    let seen = prop_oneof![
        6 => Just(Seen::Newest),
        2 => (1..4_usize).prop_map(Seen::Stale),
        1 => Just(Seen::Ahead),
    ];
    let limit = prop_oneof![Just(0_usize), Just(1), Just(2), Just(100)];
    prop_oneof![
        8 => (which(), sketch()).prop_map(|(which, sketch)| Step::Insert(which, sketch)),
        16 => (which(), seen, sketch()).prop_map(|(which, seen, sketch)| Step::Replace(which, seen, sketch)),
        5 => (0..6_usize).prop_map(Step::Again),
        2 => which().prop_map(Step::Load),
        4 => (select(vec![Due::Lease, Due::Wake]), limit.clone()).prop_map(|(due, limit)| Step::Due(due, limit)),
        3 => (filter(), 1..4_usize).prop_map(|(filter, limit)| Step::List(Box::new(filter), limit)),
        6 => limit.prop_map(Step::Sweep),
        10 => select(PAUSES.to_vec()).prop_map(Step::Pass),
        1 => select(vec![-7_200_000, -1, 1, 7_200_000]).prop_map(Step::JumpWall),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    (0..RECORDS).prop_map(Which)
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let shape = prop_oneof![
        4 => Just(Shape::Running),
        1 => Just(Shape::Abandoned),
        2 => Just(Shape::Released),
        4 => Just(Shape::Done),
        1 => Just(Shape::Tombstone),
    ];
    let time = || select(TIMES.to_vec());
    let not_after = prop_oneof![6 => Just(None), 4 => select(vec![-1, 0, 1, 2000]).prop_map(Some)];
    (
        proptest::option::of((1..4_u8, any::<bool>())),
        shape,
        [time(), time(), time(), time()],
        proptest::option::weighted(0.3, time()),
        not_after,
        any::<u8>(),
    )
        .prop_map(|(grant, state, times, wake_after, not_after, cargo)| Sketch {
            grant,
            state,
            times,
            wake_after,
            not_after,
            cargo,
        })
}

fn filter() -> impl Strategy<Value = Filter> {
    use proptest::option::weighted;
    (
        weighted(0.2, (0..2_u8).prop_map(|it| Principal::from_bytes([it; 16]))),
        weighted(0.2, select(KINDS.to_vec()).prop_map(str::to_owned)),
        weighted(0.2, select(PATHS.to_vec()).prop_map(str::to_owned)),
        weighted(0.1, any::<u8>().prop_map(|it| format!("key-{it}"))),
        weighted(0.3, select(Status::ALL.to_vec())),
        weighted(0.2, select(TIMES.to_vec())),
    )
        .prop_map(|(principal, kind, path, key, status, older_than)| Filter {
            principal,
            kind,
            path,
            key,
            status,
            older_than,
        })
}
