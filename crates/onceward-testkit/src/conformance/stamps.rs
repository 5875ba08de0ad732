//! What the store adds by itself: times, revision, fence, attempts, owner.

use std::time::Duration;

use onceward_core::store::{Put, Replace};
use onceward_core::{Fence, Policy, State};

use super::Fixture;
use super::sample::{
    HOUR, assert_stamped, brief_completion, claim, completion, id, inserted, new_life, now, owner, pass,
    release, renewal, replaced, swapped, swept, take_over,
};

/// Law 2 and 5: every kept change has a higher revision, every grant a higher fence, and both are at least
/// the store's milliseconds times 1024.
pub async fn revision_and_fence_grow_over_every_change(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut last = inserted(&store, id("grows"), &claim(1)).await;
    assert!(
        last.fence.0 >= last.updated.as_millis() << 10 && last.revision.0 >= last.updated.as_millis() << 10
    );
    for round in 0..50_u8 {
        let put = match round % 5 {
            0 | 3 => take_over(&last, round),
            1 => renewal(&last),
            2 => release(&last),
            _ => completion(&last, b"done"),
        };
        let next = swapped(&store, &last, &put).await;
        assert!(
            next.revision > last.revision,
            "round {round}: {:?} after {:?}",
            next.revision,
            last.revision
        );
        assert_eq!(next.fence > last.fence, put.grant.is_some(), "a fence grows by grants, round {round}");
        assert!(next.revision.0 >= next.updated.as_millis() << 10, "the clock is in the revision");
        last = next;
    }
}

/// Law 2 and 5: neither number falls back when a record goes and comes again, be it removed by a sweep or
/// taken over after its tombstone.
pub async fn revision_and_fence_grow_across_removal_and_reinsertion(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut old = inserted(&store, id("again"), &claim(1)).await;
    for number in 2..30 {
        // Many swaps within one millisecond must not run ahead of what a later life gets.
        old = swapped(&store, &old, &take_over(&old, number)).await;
    }
    let brief = brief_completion(&old, Duration::from_millis(5), Duration::ZERO);
    old = swapped(&store, &old, &brief).await;
    pass(fixture, &store, Duration::from_millis(20)).await;
    let next = if fixture.clock().is_some() {
        pass(fixture, &store, HOUR).await;
        // The answer goes first and leaves a tombstone, which goes, too; it may take two rounds.
        swept(&store).await;
        swept(&store).await;
        assert_eq!(super::sample::stored(&store, old.id).await, None, "it was removed");
        inserted(&store, old.id, &claim(40)).await
    } else {
        swapped(&store, &old, &new_life(&old, 40)).await
    };
    assert!(next.revision > old.revision, "{:?} after {:?}", next.revision, old.revision);
    assert!(next.fence > old.fence, "{:?} after {:?}", next.fence, old.fence);
    let told = replaced(&store, &old, &completion(&old, b"from an earlier life")).await;
    assert!(matches!(&told, Replace::Lost(Some(it), _) if *it == next), "{told:?}");
}

/// Only a grant changes owner, fence and attempt; every other change keeps all three.
pub async fn only_a_grant_changes_owner_fence_and_attempt(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let claimed = inserted(&store, id("grants"), &claim(1)).await;
    assert_eq!((claimed.owner, claimed.attempt), (owner(1), 1));
    let mut last = claimed.clone();
    let abandon = |it: &_| Put { state: State::Abandoned { reason: "why".into() }, ..renewal(it) };
    for change in [renewal, abandon, release, |it: &_| completion(it, b"done")] {
        last = swapped(&store, &last, &change(&last)).await;
        assert_eq!(
            (last.owner, last.fence, last.attempt),
            (claimed.owner, claimed.fence, claimed.attempt),
            "kept over {:?}",
            last.state
        );
    }
    let granted = swapped(&store, &last, &take_over(&last, 2)).await;
    assert_eq!((granted.owner, granted.attempt), (owner(2), 2));
    assert!(granted.fence > claimed.fence);

    let unowned = inserted(&store, id("unowned"), &Put { grant: None, ..completion(&claimed, b"x") }).await;
    assert_eq!((unowned.owner, unowned.attempt), (onceward_core::Owner::NOBODY, 0));
    assert!(unowned.fence > Fence(0), "an insert is stamped, granted or not");
}

/// Law 10: attempts count grants, not endings, and begin again at one in a new life.
pub async fn attempts_count_grants_and_start_again_in_a_new_life(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut last = inserted(&store, id("attempts"), &claim(1)).await;
    let born = last.created;
    for attempt in 2..6 {
        pass(fixture, &store, Duration::from_millis(2)).await;
        last = swapped(&store, &last, &renewal(&last)).await;
        last = swapped(&store, &last, &take_over(&last, 2)).await;
        assert_eq!((last.attempt, last.created), (attempt, born), "nobody ended, yet each counts");
    }
    last = swapped(&store, &last, &release(&last)).await;
    last = swapped(&store, &last, &take_over(&last, 3)).await;
    assert_eq!(last.attempt, 6, "released is the same life");
    last = swapped(&store, &last, &completion(&last, b"done")).await;
    let next = swapped(&store, &last, &new_life(&last, 4)).await;
    assert_eq!((next.attempt, next.created), (1, next.updated));
    assert!(next.created > born);
}

/// Law 4: while a store is open its time runs evenly, whatever becomes of the machine's wall clock. Stores with
/// a clock of their own are not held to it.
pub async fn a_jump_of_the_wall_clock_does_not_move_the_stores_time(fixture: &impl Fixture) {
    const MONTH_MS: i64 = 30 * 24 * 3_600_000;
    let store = fixture.open().await;
    let claimed = inserted(&store, id("jumps"), &claim(1)).await;
    let Some(clock) = fixture.clock() else { return };
    for jump in [MONTH_MS, -MONTH_MS, -MONTH_MS] {
        let before = now(&store).await;
        clock.jump_wall(jump);
        assert_eq!(now(&store).await, before, "it does not jump");
        pass(fixture, &store, Duration::from_secs(1)).await;
        assert_eq!(now(&store).await, before.after(Duration::from_secs(1)), "it does not stand still");
    }
    let renewed = swapped(&store, &claimed, &renewal(&claimed)).await;
    assert_eq!(claimed.updated.until(renewed.updated), Duration::from_secs(3));
}

/// Law 4: the store stamps every time by its own clock, exactly as [`Put::stamp`] does: a lease ends no later
/// than `run_until`, which only a grant moves; an ended record has no lease.
pub async fn times_are_stamped_by_the_store(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let before = now(&store).await;
    let put = Put { wake_after: Some(HOUR), ..claim(1) };
    let (lease, run_max) = (Duration::from_millis(500), Duration::from_millis(700));
    let put = Put { policy: Policy { lease, run_max, ..put.policy }, ..put };
    let claimed = inserted(&store, id("times"), &put).await;
    assert!(before <= claimed.updated && claimed.updated <= now(&store).await, "by the store's clock");
    assert_stamped(&put, None, &claimed);
    assert_eq!(claimed.lease_until, claimed.updated.after(lease));
    assert_eq!(claimed.wake_at, Some(claimed.updated.after(HOUR)));

    pass(fixture, &store, Duration::from_millis(300)).await;
    let renewed = swapped(&store, &claimed, &renewal(&claimed)).await;
    assert_stamped(&renewal(&claimed), Some(&claimed), &renewed);
    assert_eq!(renewed.run_until, claimed.run_until, "a renewal does not move the end of the run");
    assert_eq!(renewed.lease_until, claimed.run_until, "and the lease ends with it");

    let mut last = renewed;
    let abandon = |it: &_| Put { state: State::Abandoned { reason: "why".into() }, ..renewal(it) };
    let grant = |it: &_| take_over(it, 2);
    let done = |it: &_| completion(it, b"done");
    for change in [abandon, release, grant, done, grant] {
        let put = change(&last);
        let next = swapped(&store, &last, &put).await;
        assert_stamped(&put, Some(&last), &next);
        last = next;
    }
}
