//! Sweeping: what is over goes, and nothing else does.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, Expiry, Put, Replace, SETTLE};
use onceward_core::{Policy, Record, State, Store};
use tokio::task::JoinSet;

use super::Fixture;
use super::sample::{
    HOUR, brief_completion, claim, completion, id, inserted, new_life, now, owner, pass, release, renewal,
    replaced, stored, swapped, swept,
};

const MOMENT: Duration = Duration::from_millis(20);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Law 6: a record that is running or abandoned never expires by itself, however short its times and however
/// far the future.
pub async fn an_unfinished_record_never_expires(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let short = Policy {
        lease: Duration::from_millis(1),
        run_max: Duration::from_millis(1),
        retention: Duration::from_millis(1),
        tombstone: Duration::ZERO,
        ..Policy::default()
    };
    let put = Put { policy: short, ..claim(1) };
    let running = inserted(&store, id("running"), &put).await;
    let claimed = inserted(&store, id("abandoned"), &put).await;
    let reason = State::Abandoned { reason: "the connection broke".into() };
    let abandoned = swapped(&store, &claimed, &Put { state: reason, ..renewal(&claimed) }).await;
    for pause in [MOMENT, if fixture.clock().is_some() { 1000 * DAY } else { MOMENT }] {
        pass(fixture, &store, pause).await;
        let gone = swept(&store).await;
        assert_eq!((gone.tombstones, gone.removed), (0, 0));
        for record in [&running, &abandoned] {
            assert_eq!(stored(&store, record.id).await.as_ref(), Some(record), "kept as it was");
        }
    }
    for record in [&running, &abandoned] {
        assert_eq!(record.expiry(onceward_core::Timestamp::MAX), Expiry::Keep);
    }
}

/// An answer is kept until its retention ends, becomes a tombstone, which keeps owner, fence and fingerprint,
/// and is removed when that is over and has settled.
pub async fn an_expired_answer_becomes_a_tombstone_then_goes(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let kept = inserted(&store, id("kept"), &claim(2)).await;
    let kept = swapped(&store, &kept, &completion(&kept, b"for an hour")).await;
    let running = inserted(&store, id("brief"), &claim(1)).await;
    let tombstone_time = if fixture.clock().is_some() { Duration::from_secs(60) } else { HOUR };
    let done = swapped(&store, &running, &brief_completion(&running, MOMENT, tombstone_time)).await;
    pass(fixture, &store, 2 * MOMENT).await;

    assert_eq!(swept(&store).await.tombstones, 1, "only the brief answer is over");
    assert_eq!(stored(&store, kept.id).await.as_ref(), Some(&kept));
    let tombstone = stored(&store, done.id).await.expect("a tombstone stays");
    let Expiry::Tombstone(expected) = done.expiry(tombstone.updated) else {
        panic!("at {:?} the answer was not over", tombstone.updated)
    };
    assert_eq!(*tombstone, *expected);
    assert_eq!((tombstone.owner, tombstone.fence), (owner(1), running.fence));
    assert!(tombstone.revision > done.revision, "the sweep's change is a swap like any other");
    let told = replaced(&store, &done, &renewal(&done)).await;
    assert!(matches!(told, Replace::Lost(Some(it), _) if it == tombstone));

    let over = tombstone.gone_until.after(SETTLE);
    assert_eq!(tombstone.expiry(over), Expiry::Remove);
    if fixture.clock().is_some() {
        pass(fixture, &store, Duration::from_secs(60)).await;
        assert_eq!(swept(&store).await.removed, 0, "it must settle first");
        let left = now(&store).await.until(over);
        pass(fixture, &store, left - Duration::from_millis(1)).await;
        assert_eq!(swept(&store).await.removed, 0, "a millisecond before its time");
        pass(fixture, &store, Duration::from_millis(1)).await;
        assert_eq!(swept(&store).await.removed, 1);
        assert_eq!(stored(&store, done.id).await, None);
        assert_eq!(stored(&store, kept.id).await.as_ref(), Some(&kept));
    }
}

/// Law 6: what is done stays as it is while it has a wake-up time, however short its times and however far the future. They are
/// counted from when it has none any more.
pub async fn a_finished_record_that_is_to_be_woken_does_not_end(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut woken = Vec::new();
    for name in ["answer", "tombstone", "again"] {
        let running = inserted(&store, id(name), &claim(1)).await;
        let done = Put {
            checkpoint: Some(name.into()),
            wake_after: Some(Duration::ZERO),
            ..brief_completion(&running, MOMENT, Duration::ZERO)
        };
        let state = if name == "tombstone" { State::Tombstone } else { done.state.clone() };
        let done = swapped(&store, &running, &Put { state, ..done }).await;
        // Once more, as whoever was woken does, and for so long that it is not due again within the test.
        let later = Put { wake_after: Some(Duration::MAX), ..renewal(&done) };
        woken.push(if name == "again" { swapped(&store, &done, &later).await } else { done });
    }
    let due = store.due(Due::Wake.start(), 10).await.expect("what is due is answered").records;
    assert_eq!(due.len(), 2, "one of them is never due again");
    for pause in [2 * MOMENT, if fixture.clock().is_some() { 1000 * DAY } else { MOMENT }] {
        pass(fixture, &store, pause).await;
        let gone = swept(&store).await;
        assert_eq!((gone.tombstones, gone.removed), (0, 0));
        for record in &woken {
            assert_eq!(stored(&store, record.id).await.as_ref(), Some(record), "kept as it was");
            assert!(!record.vacant_at(now(&store).await));
        }
    }
    let mut over = Vec::new();
    for record in &woken {
        let put = Put { checkpoint: None, wake_after: None, ..renewal(record) };
        over.push(swapped(&store, record, &put).await);
        assert_eq!(
            over.last().map(|it| it.answer_until),
            Some(over.last().expect("it was pushed").updated.after(MOMENT))
        );
    }
    assert_eq!(store.due(Due::Wake.start(), 10).await.expect("what is due is answered").records, []);
    pass(fixture, &store, 2 * MOMENT).await;
    let gone = swept(&store).await;
    assert_eq!((gone.tombstones, gone.removed), (2, 0), "two answers are over, and all three must settle");
    if fixture.clock().is_some() {
        pass(fixture, &store, SETTLE).await;
        assert_eq!(swept(&store).await.removed, 3);
    }
}

/// Law 6: a released record keeps owner, fence and revision, forgets its fingerprint, and goes after settling.
pub async fn a_released_record_keeps_fence_and_revision_and_goes_after_settling(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let running = inserted(&store, id("released"), &claim(1)).await;
    let released = swapped(&store, &running, &release(&running)).await;
    assert_eq!((released.owner, released.fence, released.fingerprint), (owner(1), running.fence, None));
    pass(fixture, &store, MOMENT).await;
    assert_eq!(swept(&store).await.removed, 0, "a late copy of its claim may still be on its way");
    assert_eq!(stored(&store, released.id).await.as_ref(), Some(&released));
    assert_eq!(released.expiry(released.updated.after(SETTLE)), Expiry::Remove);
    if fixture.clock().is_some() {
        let over = released.updated.after(SETTLE);
        let left = now(&store).await.until(over);
        pass(fixture, &store, left - Duration::from_millis(1)).await;
        assert_eq!(swept(&store).await.removed, 0, "a millisecond before its time");
        pass(fixture, &store, Duration::from_millis(1)).await;
        assert_eq!(swept(&store).await.removed, 1);
        assert_eq!(stored(&store, released.id).await, None);
    }
}

/// Law 2: a sweep swaps on what it looked at. A record that was taken over meanwhile stays taken over.
pub async fn sweep_removes_only_what_it_looked_at(fixture: &impl Fixture) {
    let store = fixture.open().await;
    // Without a clock in the hand nothing can be removed within a test; tombstones are swaps as well.
    let kinds: &[bool] = if fixture.clock().is_some() { &[false, true] } else { &[false] };
    for (&removes, round) in kinds.iter().flat_map(|it| (0..4).map(move |round| (it, round))) {
        let mut over = Vec::new();
        for number in 0..64 {
            let running = inserted(&store, id(&format!("over {removes} {round} {number}")), &claim(1)).await;
            let tombstone = if removes { Duration::ZERO } else { HOUR };
            over.push(swapped(&store, &running, &brief_completion(&running, MOMENT, tombstone)).await);
        }
        pass(fixture, &store, 2 * MOMENT + if removes { SETTLE } else { Duration::ZERO }).await;
        race_sweep_with_take_overs(&store, over).await;
    }
}

async fn race_sweep_with_take_overs(store: &Arc<dyn Store>, over: Vec<Arc<Record>>) {
    let mut racers = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(store);
        racers.spawn(async move {
            for _ in 0..40 {
                store.sweep(3).await.expect("a sweep is answered");
                tokio::task::yield_now().await;
            }
            None
        });
    }
    for (number, record) in over.into_iter().enumerate() {
        let store = Arc::clone(store);
        racers.spawn(async move {
            // Spread over the sweeps, so that some come between a look and its change.
            for _ in 0..number % 16 {
                tokio::task::yield_now().await;
            }
            let told = replaced(&store, &record, &new_life(&record, 9)).await;
            Some((record, told))
        });
    }
    for (old, told) in crate::within(racers.join_all()).await.into_iter().flatten() {
        let stands = stored(store, old.id).await;
        match told {
            Replace::Kept(taken) => assert_eq!(stands, Some(taken), "a sweep hit a newer revision"),
            Replace::Lost(shown, _) => {
                assert!(shown.is_none_or(|it| it.state == State::Tombstone), "only the sweep was faster");
                assert!(stands.is_none_or(|it| it.state == State::Tombstone));
            }
            Replace::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
        }
    }
}

/// A sweep looks at no more than `limit` records and says whether there is more.
pub async fn sweep_works_in_bounded_steps(fixture: &impl Fixture) {
    let store = fixture.open().await;
    for number in 0..10 {
        let running = inserted(&store, id(&format!("step {number}")), &claim(1)).await;
        swapped(&store, &running, &brief_completion(&running, MOMENT, HOUR)).await;
    }
    let early = store.sweep(3).await.expect("a sweep is answered");
    // On a clock of its own the first ones may be over before the last one is written.
    assert!(fixture.clock().is_none() || early.tombstones == 0, "nothing is over yet");
    assert_eq!(early.removed, 0);
    pass(fixture, &store, 2 * MOMENT).await;
    let mut sum = early.tombstones;
    for _ in 0..100 {
        let step = store.sweep(3).await.expect("a sweep is answered");
        assert!(step.tombstones + step.removed <= 3, "{step:?}");
        sum += step.tombstones;
        if !step.more {
            break;
        }
    }
    assert_eq!(sum, 10, "and `more` is said until all is done");
    assert_eq!(swept(&store).await.tombstones, 0, "once");
}
