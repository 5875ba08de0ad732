//! A move that has ended: nobody works on the old store alone any more, unless the records come back to it.

use std::sync::Arc;
use std::time::Duration;

use onceward::store::{Insert, Put, Replace};
use onceward::{
    Answer, Begin, Engine, ErrorKind, MoveError, Moved, MovingStore, OpenError, Policy, State, Status, Store,
    Timestamp, moving,
};
use onceward_testkit::{
    Fault, FaultyStore, HandClock, Op, Wrapped, claim, completion, inserted, stored, swapped,
};
use tokio::task::JoinSet;

use crate::moving::{Picky, SECOND, World, id, memory, memory_in_use, pay, text};

fn begin(from: &Arc<dyn Store>, to: &Arc<dyn Store>) -> impl Future<Output = Result<MovingStore, MoveError>> {
    MovingStore::begin(Arc::clone(from), Arc::clone(to))
}

/// Who works on a store by itself.
async fn alone(store: &Arc<dyn Store>, clock: &HandClock) -> Result<Arc<dyn Store>, OpenError> {
    onceward::alone(Arc::clone(store), Arc::new(clock.clone())).await
}

#[tokio::test]
async fn once_all_was_moved_nobody_works_on_the_old_store_alone() {
    let World { clock, from, to, .. } = World::new().await;
    let both = begin(&from, &to).await.unwrap().to_be_found_at("redis://there");
    let held = inserted(&*from, id(1), &claim(1)).await;
    assert_eq!(both.step(10).await.unwrap().1, Some(Moved { running: 1, ..Moved::default() }));
    assert!(!both.has_left());
    alone(&from, &clock).await.expect("what runs here is finished here");
    swapped(&*from, &held, &completion(&held, b"receipt")).await;
    assert_eq!(both.step(10).await.unwrap().1, Some(Moved { moved: 1, ..Moved::default() }));
    assert!(both.has_left());
    let refused = alone(&from, &clock).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("were moved to redis://there") && said.contains("set `store`"), "{said}");
    alone(&to, &clock).await.expect("they are there");
    // Who knows both goes on, and does not have to walk to know.
    let again = begin(&from, &to).await.unwrap();
    again.step(10).await.unwrap();
    assert!(again.has_left());
    // All of it is there, and nothing here: another one would begin with no key at all.
    for wrong in [memory(&clock), memory_in_use(&clock).await] {
        let refused = begin(&from, &wrong).await;
        assert!(
            matches!(refused, Err(MoveError::MovedBefore { .. } | MoveError::OtherSecret)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_moved_keeps_the_move_from_ending() {
    let clock = HandClock::new();
    let (from, to) = (memory_in_use(&clock).await, Arc::new(Wrapped(Picky(memory(&clock)))));
    let both = MovingStore::begin(Arc::clone(&from), to).await.unwrap();
    inserted(&*from, id(2), &Put { state: State::Tombstone, ..claim(2) }).await;
    clock.advance(SECOND);
    for _ in 0..2 {
        let walked = both.step(10).await.unwrap().1;
        assert_eq!(walked, Some(Moved { unreadable: 1, ..Moved::default() }));
        assert!(!both.has_left());
    }
    alone(&from, &clock).await.unwrap();
}

/// A store that other processes may have open, too.
async fn shared_in_use(clock: &HandClock) -> Arc<dyn Store> {
    Arc::new(FaultyStore::new(memory_in_use(clock).await).shared())
}

/// What became of a whole walk.
async fn walk(both: &MovingStore) -> bool {
    while both.step(10).await.unwrap().1.is_none() {}
    both.has_left()
}

fn plain(store: &Arc<dyn Store>) -> Engine {
    Engine::new(Arc::clone(store))
}

#[tokio::test]
async fn a_move_does_not_end_while_somebody_works_on_the_old_store_alone() {
    let clock = HandClock::new();
    let (from, to) = (shared_in_use(&clock).await, memory(&clock));
    let early = alone(&from, &clock).await.unwrap();
    let both = begin(&from, &to).await.unwrap();
    assert!(!walk(&both).await, "who has it open may not have heard of the move");
    // One that is idle, except for its upkeep, and one that has none and claims now and then.
    for _ in 0..30 {
        clock.advance(SECOND);
        early.sweep(10).await.unwrap();
        assert!(!walk(&both).await, "it is there");
    }
    let late = alone(&from, &clock).await.unwrap();
    for number in 1..=3 {
        clock.advance(moving::QUIET - SECOND);
        inserted(&*late, id(number), &Put { state: State::Tombstone, ..claim(number) }).await;
        clock.advance(SECOND);
        walk(&both).await;
        assert!(!walk(&both).await, "it was there");
    }
    assert_eq!(both.step(10).await.unwrap(), (Moved::default(), Some(Moved::default())), "all is there");
    clock.advance(moving::QUIET);
    // One that starts while the walk is under way is seen at its end.
    assert!(both.step(2).await.unwrap().1.is_none());
    let last = alone(&from, &clock).await.unwrap();
    assert!(!walk(&both).await);
    inserted(&*last, id(40), &Put { state: State::Tombstone, ..claim(40) }).await;
    clock.advance(moving::QUIET);
    assert!(!walk(&both).await, "what it left behind was moved just now");
    assert!(walk(&both).await);
    assert!(matches!(alone(&from, &clock).await, Err(OpenError::MovedAway { .. })));
    // Whoever still has it open, as if it had slept, finds out before it claims.
    for store in [early, late, last] {
        let refused = store.insert(id(50), &claim(50)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(stored(&*from, id(50)).await.is_none());
}

#[tokio::test]
async fn a_claim_that_is_long_on_its_way_does_not_land_where_the_records_have_left() {
    for takes_over in [false, true] {
        let clock = HandClock::new();
        let from = shared_in_use(&clock).await;
        let free = Put { state: State::Released, fingerprint: None, ..claim(1) };
        let freed = inserted(&*from, id(1), &free).await;
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&from)).shared());
        let slow = alone(&(Arc::<FaultyStore>::clone(&faulty) as _), &clock).await.unwrap();
        let gate = faulty.gate_before(if takes_over { Op::Replace } else { Op::Insert }, 1);
        let mut calls = JoinSet::new();
        calls.spawn(async move {
            match takes_over {
                false => matches!(slow.insert(id(2), &claim(2)).await.unwrap(), Insert::Late(_)),
                true => {
                    matches!(slow.replace(id(1), freed.revision, &claim(1)).await.unwrap(), Replace::Late(_))
                }
            }
        });
        gate.reached().await;
        let both = begin(&from, &memory(&clock)).await.unwrap();
        clock.advance(moving::QUIET);
        while !walk(&both).await {}
        gate.open();
        assert!(calls.join_next().await.unwrap().unwrap(), "its time was over");
        assert!(stored(&*from, id(2)).await.is_none());
    }
}

#[tokio::test]
async fn a_holder_finishes_where_it_began_though_the_others_have_left() {
    let clock = HandClock::new();
    let (from, to) = (shared_in_use(&clock).await, memory(&clock));
    let old = plain(&alone(&from, &clock).await.unwrap());
    let attempt = pay(&old, "12.00 EUR").await;
    let Begin::Run(permit) = old.begin(&attempt).await.unwrap() else { panic!("it is new") };
    let both = begin(&from, &to).await.unwrap();
    clock.advance(Policy::default().lease);
    walk(&both).await;
    assert!(walk(&both).await, "its lease is over");
    assert_eq!(text(&permit.complete(Answer::new("text", "receipt 1")).await.unwrap()), "receipt 1");
    let new = plain(&(Arc::new(both) as _));
    assert!(matches!(new.begin(&attempt).await.unwrap(), Begin::Replay(_)), "and it is carried over");
}

#[tokio::test]
async fn records_come_back_to_the_store_that_they_had_left() {
    let World { clock, from, to, both } = World::new().await;
    let old = inserted(&*from, id(1), &claim(1)).await;
    let old = swapped(&*from, &old, &completion(&old, b"receipt")).await;
    let freed = inserted(&*from, id(2), &claim(2)).await;
    let unresolved = State::Abandoned { reason: "who knows".into() };
    let freed =
        swapped(&*from, &freed, &Put { state: unresolved, ..Put::keep(&freed, Timestamp::MAX) }).await;
    assert!(matches!(begin(&to, &from).await, Err(MoveError::MovedAway)), "it has not ended");
    assert!(walk(&both).await);
    let kept = inserted(&*both, id(3), &claim(3)).await;
    swapped(&*both, &kept, &completion(&kept, b"later")).await;
    drop(both);
    // There the work goes on: one is freed, and its key is over.
    let found = stored(&*to, id(2)).await.unwrap();
    let over = Policy { retention: Duration::ZERO, tombstone: Duration::ZERO, ..Policy::default() };
    let over = Put { state: State::Tombstone, policy: over, ..Put::keep(&found, Timestamp::MAX) };
    swapped(&*to, &found, &over).await;
    // The clock of this one is behind: what has a fence that is ahead of it waits.
    clock.advance(8 * SECOND);
    let back = begin(&to, &from).await.unwrap();
    alone(&from, &clock).await.expect("they come here");
    assert!(walk(&back).await);
    assert!(matches!(alone(&to, &clock).await, Err(OpenError::MovedAway { .. })));
    let here = alone(&from, &clock).await.unwrap();
    let now = here.load(id(9)).await.unwrap().now;
    let again = stored(&*here, id(1)).await.unwrap();
    assert_eq!((again.state.clone(), again.status_at(now)), (old.state.clone(), Status::Done));
    assert!(again.fence > old.fence);
    assert!(stored(&*here, id(2)).await.unwrap().vacant_at(now), "it stands for nothing, as where it was");
    assert!(freed.fence < stored(&*here, id(2)).await.unwrap().fence);
    assert_eq!(stored(&*here, id(3)).await.unwrap().status_at(now), Status::Done, "what was new there");
    // And once more.
    clock.advance(SECOND);
    let forth = begin(&from, &to).await.unwrap();
    assert!(walk(&forth).await);
    for number in [1, 3] {
        assert_eq!(stored(&*to, id(number)).await.unwrap().status_at(now), Status::Done);
    }
}

#[tokio::test]
async fn a_store_is_not_left_by_halves_when_it_is_made_ready_to_take_records_back() {
    let World { clock, from, to, both } = World::new().await;
    for number in [1, 2] {
        let old = inserted(&*from, id(number), &claim(number)).await;
        swapped(&*from, &old, &completion(&old, b"receipt")).await;
    }
    assert!(walk(&both).await);
    for nth in [1, 2] {
        let broken = Arc::new(FaultyStore::new(Arc::clone(&from)));
        broken.cue(Op::Replace, nth, Fault::Refused);
        let refused = begin(&to, &(Arc::<FaultyStore>::clone(&broken) as _)).await;
        assert!(matches!(refused, Err(MoveError::Store(_))), "{refused:?}");
        assert!(matches!(alone(&from, &clock).await, Err(OpenError::MovedAway { .. })), "it is not ready");
        alone(&to, &clock).await.expect("everything is still here");
    }
    begin(&to, &from).await.unwrap();
    alone(&from, &clock).await.unwrap();
}
