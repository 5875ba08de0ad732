//! Two stores as one while records are moved: every law holds, and each record means afterwards what it meant before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use onceward::store::memory::MemoryStore;
use onceward::store::{Filter, Insert, Put};
use onceward::{
    Answer, Attempt, Begin, Engine, EngineSettings, Error, ErrorKind, Fence, MoveError, Moved, MovingStore,
    NoObserver, Policy, RecordId, Result, State, Status, Store, Timestamp, Unresolved,
};
use onceward_testkit::conformance::Fixture;
use onceward_testkit::{
    FaultyStore, HandClock, Op, SeededEntropy, Wrapped, Wrapper, attempt, claim, completion, inserted,
    stored, swapped,
};
use tokio::task::JoinSet;

struct Both {
    clock: HandClock,
}

#[async_trait]
impl Fixture for Both {
    async fn open(&self) -> Arc<dyn Store> {
        let (from, to) = (memory_in_use(&self.clock).await, memory(&self.clock));
        Arc::new(MovingStore::begin(from, to).await.expect("it begins"))
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.open().await
    }

    fn clock(&self) -> Option<HandClock> {
        Some(self.clock.clone())
    }
}

mod laws {
    use super::*;

    onceward_testkit::store_conformance!(Both { clock: HandClock::new() });
    onceward_testkit::store_reference!(Both { clock: HandClock::new() }, runs = 10);
    onceward_testkit::store_history!(Both { clock: HandClock::new() }, runs = 2);
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn memory(clock: &HandClock) -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Arc::new(clock.clone())))
}

/// A store that a process used.
pub(crate) async fn memory_in_use(clock: &HandClock) -> Arc<dyn Store> {
    let store = memory(clock);
    Engine::new(Arc::clone(&store)).hasher().await.expect("the store keeps a hash key");
    store
}

pub(crate) fn id(number: u8) -> RecordId {
    RecordId::from_bytes([number; 32])
}

/// An old store and a new one whose clock is 7 s ahead.
pub(crate) struct World {
    pub(crate) clock: HandClock,
    pub(crate) from: Arc<dyn Store>,
    pub(crate) to: Arc<dyn Store>,
    pub(crate) both: Arc<MovingStore>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = HandClock::new();
        let from = memory_in_use(&clock).await;
        clock.jump_wall(7_000);
        let to = memory(&clock);
        let both = MovingStore::begin(Arc::clone(&from), Arc::clone(&to)).await.unwrap();
        Self { clock, from, to, both: Arc::new(both) }
    }

    fn engine(&self, store: &Arc<dyn Store>, seed: u64) -> Engine {
        let settings = EngineSettings { cache_bytes: 0, ..EngineSettings::default() };
        let entropy = Arc::new(SeededEntropy::new(seed));
        Engine::with(Arc::clone(store), settings, Arc::new(self.clock.clone()), entropy, Arc::new(NoObserver))
    }

    /// A process that knows only the old store.
    fn old(&self) -> Engine {
        self.engine(&self.from, 1)
    }

    /// A process that knows both.
    fn new_one(&self) -> Engine {
        self.engine(&(Arc::clone(&self.both) as _), 2)
    }
}

pub(crate) async fn pay(engine: &Engine, body: &str) -> Attempt {
    attempt("k-1", engine.hasher().await.unwrap().fingerprint([body.as_bytes()]))
}

pub(crate) fn text(answer: &Answer) -> String {
    String::from_utf8(answer.bytes().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn an_answer_is_moved_with_what_is_left_of_its_times_and_is_refused_where_it_was() {
    let world = World::new().await;
    let old = world.old();
    let attempt = pay(&old, "12.00 EUR").await;
    let Begin::Run(permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    let fence = permit.fence();
    permit.complete(Answer::new("text", "receipt 1")).await.unwrap();
    world.clock.advance(SECOND);
    let new = world.new_one();
    let attempt = pay(&new, "12.00 EUR").await;
    let Begin::Replay(answer) = new.begin(&attempt).await.unwrap() else { panic!("it was done") };
    assert_eq!(text(&answer), "receipt 1");
    assert!(matches!(new.begin(&pay(&new, "13.00 EUR").await).await.unwrap(), Begin::Mismatch));
    let moved = stored(&*world.to, attempt.record_id()).await.unwrap();
    let now = world.to.load(id(1)).await.unwrap().now;
    assert_eq!(now.until(moved.answer_until), Policy::default().retention - SECOND);
    assert_eq!(moved.answer_until.until(moved.gone_until), Policy::default().tombstone);
    assert!(moved.fence > fence, "fences go on growing");
    assert!(matches!(old.begin(&attempt).await.unwrap(), Begin::Unresolved), "no run where it was");
    assert!(matches!(old.begin(&pay(&old, "13.00 EUR").await).await.unwrap(), Begin::Mismatch));
    world.clock.advance(Policy::default().retention);
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Gone));
}

#[tokio::test]
async fn a_new_key_is_claimed_once_whichever_process_is_asked_first() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let attempt = pay(&new, "12.00 EUR").await;
    let Begin::Run(permit) = new.begin(&attempt).await.unwrap() else { panic!("it is new") };
    assert!(matches!(old.begin(&attempt).await.unwrap(), Begin::Unresolved));
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Busy { .. }));
    permit.complete(Answer::new("text", "receipt 1")).await.unwrap();
    assert!(matches!(old.begin(&attempt).await.unwrap(), Begin::Unresolved));
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Replay(_)));
}

#[tokio::test]
async fn a_holder_at_the_old_store_finishes_there_and_its_answer_is_moved() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let attempt = pay(&old, "12.00 EUR").await;
    let Begin::Run(permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Busy { .. }));
    let shown = stored(&*world.both, attempt.record_id()).await.unwrap();
    let now = world.to.load(id(1)).await.unwrap().now;
    assert_eq!(now.until(shown.lease_until), Policy::default().lease, "on the clock of the new store");
    assert_eq!(world.both.step(10).await.unwrap().1, Some(Moved { running: 1, ..Moved::default() }));
    permit.complete(Answer::new("text", "receipt 1")).await.unwrap();
    assert_eq!(world.both.step(10).await.unwrap().1, Some(Moved { moved: 1, ..Moved::default() }));
    assert_eq!(world.both.step(10).await.unwrap().1, Some(Moved::default()));
    let Begin::Replay(answer) = new.begin(&attempt).await.unwrap() else { panic!("it was done") };
    assert_eq!(text(&answer), "receipt 1");
}

#[tokio::test]
async fn an_answer_that_comes_after_its_record_was_moved_is_the_answer() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let attempt = pay(&old, "12.00 EUR").await;
    let Begin::Run(permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    world.clock.advance(Policy::default().lease);
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Unresolved));
    assert_eq!(text(&permit.complete(Answer::new("text", "receipt 1")).await.unwrap()), "receipt 1");
    let Begin::Replay(answer) = new.begin(&attempt).await.unwrap() else { panic!("it was done after all") };
    assert_eq!(text(&answer), "receipt 1");
    assert!(matches!(old.begin(&attempt).await.unwrap(), Begin::Unresolved));
}

#[tokio::test]
async fn a_record_that_may_run_again_does_so_in_the_new_store_only_and_with_a_higher_fence() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let policy = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    let attempt = Attempt { policy, ..pay(&old, "12.00 EUR").await };
    let Begin::Run(mut permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    permit.save("half".into()).await.unwrap();
    let fence = permit.fence();
    permit.abandon("who knows").await.unwrap();
    let Begin::Run(permit) = new.begin(&attempt).await.unwrap() else { panic!("it may run again") };
    assert!(permit.fence() > fence && permit.checkpoint().is_some_and(|it| it == "half"));
    assert!(matches!(old.begin(&attempt).await.unwrap(), Begin::Unresolved));
}

#[tokio::test]
async fn every_state_is_moved_and_what_stands_for_nothing_is_not() {
    let world = World::new().await;
    let short = Policy { retention: SECOND, tombstone: 100 * SECOND, ..Policy::default() };
    let gone = Policy { retention: SECOND, tombstone: SECOND, ..Policy::default() };
    let mut held = Vec::new();
    for (number, policy) in
        [(1, Policy::default()), (2, short), (3, gone), (4, short), (5, short), (6, short)]
    {
        let put = Put { policy, wake_after: Some(50 * SECOND), ..claim(number) };
        held.push(inserted(&*world.from, id(number), &put).await);
    }
    for number in [1, 2, 3, 4] {
        swapped(&*world.from, &held[number - 1], &completion(&held[number - 1], b"receipt")).await;
    }
    let reason = || State::Abandoned { reason: "who knows".into() };
    let put = Put { state: reason(), wake_after: Some(50 * SECOND), ..Put::keep(&held[4], Timestamp::MAX) };
    swapped(&*world.from, &held[4], &put).await;
    let free = Put { state: State::Released, fingerprint: None, ..Put::keep(&held[5], Timestamp::MAX) };
    swapped(&*world.from, &held[5], &free).await;
    world.clock.advance(3 * SECOND);
    let walked = world.both.step(2).await.unwrap();
    assert!(walked.1.is_none() && walked.0.moved == 2, "{walked:?}");
    while world.both.step(2).await.unwrap().1.is_none() {}
    let at = |record: &onceward::Record, now| record.status_at(now);
    let now = world.to.load(id(1)).await.unwrap().now;
    let mut seen = Vec::new();
    for number in 1..=6 {
        seen.push(stored(&*world.to, id(number)).await.map(|it| at(&it, now)));
    }
    let (done, gone) = (Some(Status::Done), Some(Status::Gone));
    assert_eq!(seen, [done, gone, None, gone, Some(Status::Unresolved), None]);
    let unresolved = stored(&*world.to, id(5)).await.unwrap();
    assert_eq!(unresolved.state, reason());
    assert_eq!(now.until(unresolved.wake_at.unwrap()), 47 * SECOND);
    assert_eq!(unresolved.owner, held[4].owner);
    // It cannot come back: what was freed in the new store is not moved again.
    let page =
        world.from.list(&Filter { status: Some(Status::Unresolved), ..Filter::default() }, None, 10).await;
    assert_eq!(page.unwrap().records.len(), 4, "moved ones are unresolved where they were");
}

#[tokio::test]
async fn a_store_that_was_in_use_takes_no_strangers() {
    let clock = HandClock::new();
    let (from, to) = (memory_in_use(&clock).await, memory_in_use(&clock).await);
    let refused = MovingStore::begin(Arc::clone(&from), to).await;
    assert!(matches!(refused, Err(MoveError::OtherSecret)), "{refused:?}");
    let refused = MovingStore::begin(memory(&clock), memory(&clock)).await;
    assert!(matches!(refused, Err(MoveError::Empty)), "{refused:?}");
    // The one to which it was begun is the one to go on with.
    let to = memory(&clock);
    for _ in 0..2 {
        MovingStore::begin(Arc::clone(&from), Arc::clone(&to)).await.unwrap();
    }
}

#[tokio::test]
async fn clocks_that_are_behind_are_seen_before_a_fence_goes_back() {
    let clock = HandClock::new();
    let to = memory(&clock);
    clock.jump_wall(61_000);
    let from = memory_in_use(&clock).await;
    let refused = MovingStore::begin(from, Arc::clone(&to)).await;
    assert!(matches!(refused, Err(MoveError::ClockBehind { .. })), "{refused:?}");
    clock.jump_wall(-31_000);
    let from = memory_in_use(&clock).await;
    let both = MovingStore::begin(Arc::clone(&from), Arc::clone(&to)).await.unwrap();
    let held = inserted(&*from, id(1), &claim(1)).await;
    let done = swapped(&*from, &held, &completion(&held, b"receipt")).await;
    assert_eq!(both.load(id(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(both.insert(id(1), &claim(2)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    clock.advance(31 * SECOND);
    let Insert::Found(found, _) = both.insert(id(1), &claim(2)).await.unwrap() else { panic!("it was done") };
    assert_eq!(found.state, done.state);
    assert!(found.fence > done.fence && done.fence > Fence(0));
}

#[tokio::test]
async fn a_record_that_is_being_moved_does_not_change_where_it_was() {
    let clock = HandClock::new();
    let (from, to) = (memory_in_use(&clock).await, Arc::new(FaultyStore::new(memory(&clock))));
    let new_store: Arc<dyn Store> = Arc::<FaultyStore>::clone(&to);
    let both = Arc::new(MovingStore::begin(Arc::clone(&from), new_store).await.unwrap());
    let old = Engine::new(Arc::clone(&from));
    let policy = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    let attempt = Attempt { policy, ..pay(&old, "12.00 EUR").await };
    let Begin::Run(permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    permit.abandon("who knows").await.unwrap();
    clock.advance(SECOND);
    let gate = to.gate_before(Op::Insert, 1);
    let mut moving = JoinSet::new();
    moving.spawn(async move { both.load(attempt.record_id()).await });
    gate.reached().await;
    let attempt = Attempt { policy, ..pay(&old, "12.00 EUR").await };
    let begun = old.begin(&attempt).await.unwrap();
    assert!(matches!(begun, Begin::Unresolved), "{begun:?}: it may run again in the new store only");
    gate.open();
    let moved = moving.join_next().await.unwrap().unwrap().unwrap().record.unwrap();
    assert_eq!(moved.policy.unresolved, Unresolved::Rerun);
}

/// A holder at the old store, whose lease is over and whose work is done, under `rerun`.
#[tokio::test]
async fn a_holder_whose_operation_may_run_again_elsewhere_is_not_told_that_its_answer_stands() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let policy = Policy { unresolved: Unresolved::Rerun, ..Policy::default() };
    let attempt = Attempt { policy, ..pay(&old, "12.00 EUR").await };
    let Begin::Run(late) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    world.clock.advance(Policy::default().lease);
    let Begin::Run(permit) = new.begin(&attempt).await.unwrap() else { panic!("it may run again") };
    let told = late.complete(Answer::new("text", "receipt 1")).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Lost, "another one runs in the new store");
    permit.complete(Answer::new("text", "receipt 2")).await.unwrap();
    let Begin::Replay(answer) = new.begin(&attempt).await.unwrap() else { panic!("it was done") };
    assert_eq!(text(&answer), "receipt 2");
}

#[tokio::test]
async fn a_holder_from_whom_the_key_was_taken_does_not_get_it_back_by_the_move() {
    let world = World::new().await;
    let (old, new) = (world.old(), world.new_one());
    let attempt = pay(&old, "12.00 EUR").await;
    let Begin::Run(late) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    world.clock.advance(Policy::default().lease);
    let held = stored(&*world.from, attempt.record_id()).await.unwrap();
    let freed = Put { state: State::Released, fingerprint: None, ..Put::keep(&held, Timestamp::MAX) };
    swapped(&*world.from, &held, &freed).await;
    let Begin::Run(permit) = new.begin(&attempt).await.unwrap() else { panic!("an operator freed it") };
    let told = late.complete(Answer::new("text", "receipt 1")).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Lost, "the verdict stands");
    permit.complete(Answer::new("text", "receipt 2")).await.unwrap();
}

/// A store that cannot keep one of the records, as PostgreSQL keeps no text with a NUL character in it.
#[derive(Debug)]
pub(crate) struct Picky(pub(crate) Arc<dyn Store>);

#[async_trait]
impl Wrapper for Picky {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn insert(&self, what: RecordId, put: &Put) -> Result<Insert> {
        if what == id(2) {
            return Err(Error::new(ErrorKind::Invalid, "keep such a text"));
        }
        self.0.insert(what, put).await
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_moved_is_in_the_way_of_no_other() {
    let clock = HandClock::new();
    let to = Arc::new(Wrapped(Picky(memory(&clock))));
    clock.jump_wall(30_000);
    let from = memory_in_use(&clock).await;
    let both = MovingStore::begin(Arc::clone(&from), to).await.unwrap();
    for number in [2, 3] {
        inserted(&*from, id(number), &Put { state: State::Tombstone, ..claim(number) }).await;
    }
    clock.advance(31 * SECOND);
    // Its fence is ahead of the new store's clock.
    inserted(&*from, id(1), &Put { state: State::Tombstone, ..claim(1) }).await;
    let walked = both.step(10).await.unwrap();
    assert_eq!(walked.1, Some(Moved { moved: 1, running: 1, unreadable: 1 }));
    assert_eq!(both.load(id(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(both.load(id(2)).await.unwrap_err().kind(), ErrorKind::Invalid);
    let walked = both.step(10).await.unwrap();
    assert_eq!(walked.1, Some(Moved { moved: 0, running: 1, unreadable: 1 }));
}

#[tokio::test]
async fn a_store_takes_nothing_from_itself_and_nothing_back() {
    let world = World::new().await;
    let held = inserted(&*world.from, id(1), &claim(1)).await;
    let done = swapped(&*world.from, &held, &completion(&held, b"receipt")).await;
    let refused = MovingStore::begin(Arc::clone(&world.to), Arc::clone(&world.from)).await;
    assert!(matches!(refused, Err(MoveError::MovedAway)), "{refused:?}");
    // By another name it is the same store.
    for _ in 0..2 {
        let refused = MovingStore::begin(Arc::clone(&world.to), Arc::clone(&world.to)).await;
        assert!(matches!(refused, Err(MoveError::Same)), "{refused:?}");
    }
    // Which did it no harm: what was begun goes on, and so does what comes after it.
    let both = MovingStore::begin(Arc::clone(&world.from), Arc::clone(&world.to)).await.unwrap();
    assert_eq!(both.load(id(1)).await.unwrap().record.unwrap().state, done.state);
    let third = memory(&world.clock);
    world.clock.advance(SECOND);
    let both = MovingStore::begin(Arc::clone(&world.to), third).await.unwrap();
    assert_eq!(both.load(id(1)).await.unwrap().record.unwrap().state, done.state);
    let refused = MovingStore::begin(Arc::clone(&world.from), Arc::clone(&world.to)).await;
    assert!(matches!(refused, Err(MoveError::MovedAway)), "{refused:?}");
}

#[tokio::test]
async fn hints_come_from_both_stores() {
    let clock = HandClock::new();
    for (old, new) in [(true, false), (false, true), (true, true)] {
        let (mut from, mut to, mut listeners) = (memory_in_use(&clock).await, memory(&clock), Vec::new());
        for (store, _) in [(&mut from, old), (&mut to, new)].into_iter().filter(|it| it.1) {
            let (hinting, of_it) = onceward_testkit::hinting(Arc::clone(store));
            *store = hinting;
            listeners.push(of_it);
        }
        let both = MovingStore::begin(from, to).await.unwrap();
        for it in &listeners {
            onceward_testkit::hints_are_passed_on(&both, it).await;
        }
    }
}
