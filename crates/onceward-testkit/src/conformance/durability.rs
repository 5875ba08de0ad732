//! What a returned write is worth once the store was closed.

use std::time::Duration;

use onceward_core::store::Replace;

use super::Fixture;
use super::sample::{
    HOUR, claim, completion, id, inserted, pass, release, renewal, replaced, stored, swapped, swept,
};

/// A durable store has every returned write after it was opened again. One that says it is not durable may
/// have lost the record, but never holds half of it or a mixture.
pub async fn a_returned_write_survives_reopening(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let durable = store.traits().durable;
    let running = inserted(&store, id("running"), &claim(1)).await;
    let first = inserted(&store, id("done"), &claim(2)).await;
    let done = swapped(&store, &first, &completion(&first, b"42")).await;
    let freed = inserted(&store, id("released"), &claim(3)).await;
    let released = swapped(&store, &freed, &release(&freed)).await;
    let store = fixture.reopen(store).await;
    assert_eq!(store.traits().durable, durable, "what a store promises does not depend on how it was opened");
    for (history, last) in [(vec![&running], &running), (vec![&first], &done), (vec![&freed], &released)] {
        let found = stored(&store, last.id).await;
        if durable {
            assert_eq!(found.as_ref(), Some(last), "returned, so durable");
            let stale = history[0];
            if stale.revision != last.revision {
                let told = replaced(&store, stale, &renewal(stale)).await;
                assert!(matches!(told, Replace::Lost(..)), "an old revision is still old: {told:?}");
            }
            swapped(&store, last, &renewal(last)).await;
        } else {
            let known = |it: &_| it == last || history.contains(&it);
            assert!(found.as_ref().is_none_or(known), "whole or absent: {found:?}");
        }
    }
}

/// Law 5: fences and revisions grow over a reopening, even when the machine's clock went back meanwhile and
/// the record was removed: the store remembers how late it was. Stores that are not durable are held to it
/// while they are open.
pub async fn fences_grow_after_reopening_with_a_clock_that_went_back(fixture: &impl Fixture) {
    let mut store = fixture.open().await;
    let stays = inserted(&store, id("stays"), &claim(1)).await;
    let goes = inserted(&store, id("goes"), &claim(1)).await;
    let goes = swapped(&store, &goes, &release(&goes)).await;
    if let Some(clock) = fixture.clock() {
        pass(fixture, &store, HOUR).await;
        assert_eq!(swept(&store).await.removed, 1);
        clock.jump_wall(-2 * 3_600_000);
    }
    let before = super::sample::now(&store).await;
    assert!(before >= goes.updated, "the store's time does not go back while it is open");
    if store.traits().durable {
        store = fixture.reopen(store).await;
    }
    let taken = swapped(&store, &stays, &super::sample::take_over(&stays, 2)).await;
    assert!(taken.fence > stays.fence && taken.revision > stays.revision);
    if fixture.clock().is_some() {
        let again = inserted(&store, goes.id, &claim(2)).await;
        assert!(again.fence > goes.fence, "{:?} after {:?}", again.fence, goes.fence);
        assert!(again.revision > goes.revision, "{:?} after {:?}", again.revision, goes.revision);
    }
    assert!(super::sample::now(&store).await >= goes.updated.after(Duration::ZERO));
}
