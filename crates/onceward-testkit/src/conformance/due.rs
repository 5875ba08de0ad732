//! What is due: leases and wake-up times that have passed.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, DueCursor, Put};
use onceward_core::{Policy, Record, RecordId, State, Store};

use super::Fixture;
use super::sample::{
    HOUR, claim, completion, id, inserted, pass, release, renewal, stored, swapped, take_over,
};

const MOMENT: Duration = Duration::from_millis(20);

async fn due(store: &Arc<dyn Store>, due: Due, limit: usize) -> Vec<Arc<Record>> {
    store.due(due.start(), limit).await.expect("what is due is answered").records
}

fn ids(records: &[Arc<Record>]) -> Vec<RecordId> {
    records.iter().map(|it| it.id).collect()
}

fn leased(lease: Duration) -> Put {
    let put = claim(1);
    Put { policy: Policy { lease, ..put.policy }, ..put }
}

/// Running records are due once their lease has passed, the earliest first, at most `limit` of them; others
/// are not.
pub async fn due_lists_leases_that_have_passed_earliest_first(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut passed = Vec::new();
    for moments in [7, 3, 9, 1, 5] {
        passed.push(inserted(&store, id(&format!("lease {moments}")), &leased(moments * MOMENT)).await);
    }
    inserted(&store, id("alive"), &leased(HOUR)).await;
    let renewed = inserted(&store, id("renewed"), &leased(MOMENT)).await;
    let longer = Put { policy: leased(HOUR).policy, ..renewal(&renewed) };
    swapped(&store, &renewed, &longer).await;
    let clock_stands = fixture.clock().is_some();
    assert!(!clock_stands || due(&store, Due::Lease, 10).await.is_empty(), "no lease has passed yet");

    pass(fixture, &store, 10 * MOMENT).await;
    passed.sort_by_key(|it| it.lease_until);
    assert_eq!(due(&store, Due::Lease, 10).await, passed);
    assert_eq!(ids(&due(&store, Due::Lease, 2).await), ids(&passed[..2]));
    assert_eq!(due(&store, Due::Wake, 10).await, [], "nobody asked to be woken");

    let taken =
        swapped(&store, &passed[0], &Put { policy: claim(1).policy, ..take_over(&passed[0], 2) }).await;
    assert!(!ids(&due(&store, Due::Lease, 10).await).contains(&taken.id), "a new lease is alive");
}

/// A record is due at its wake-up time, whatever its state, the earliest first, until it is changed.
pub async fn due_lists_wake_times(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut passed = Vec::new();
    for (name, moments) in [("b", 4), ("a", 2), ("c", 6)] {
        let put = Put { wake_after: Some(moments * MOMENT), ..claim(1) };
        passed.push(inserted(&store, id(name), &put).await);
    }
    inserted(&store, id("later"), &Put { wake_after: Some(HOUR), ..claim(1) }).await;
    inserted(&store, id("never"), &claim(1)).await;
    let released = inserted(&store, id("released"), &claim(1)).await;
    let put = Put { wake_after: Some(8 * MOMENT), ..release(&released) };
    passed.push(swapped(&store, &released, &put).await);

    pass(fixture, &store, 9 * MOMENT).await;
    passed.sort_by_key(|it| it.wake_at);
    assert_eq!(due(&store, Due::Wake, 10).await, passed);
    assert_eq!(ids(&due(&store, Due::Wake, 1).await), ids(&passed[..1]));

    let again = Put { wake_after: Some(HOUR), ..renewal(&passed[0]) };
    swapped(&store, &passed[0], &again).await;
    swapped(&store, &passed[1], &renewal(&passed[1])).await;
    assert_eq!(
        ids(&due(&store, Due::Wake, 10).await),
        ids(&passed[2..]),
        "a change sets or ends the wake-up"
    );
}

/// Pages of any size show what is due in the order of times and then of ids, each record once, those of one time, too; behind a
/// cursor a look goes on also when the record is gone from there on which it stood.
pub async fn due_goes_on_behind_its_cursor(fixture: &impl Fixture) {
    let store = fixture.open().await;
    // At once, so that several have the same times also where the clock is the store's own.
    let calls = (0..12_u32).map(|number| {
        let moments = number % 3 + 1;
        let put = Put { wake_after: Some(moments * MOMENT), ..leased((4 - moments) * MOMENT) };
        let store = Arc::clone(&store);
        async move { inserted(&store, id(&format!("due {number}")), &put).await }
    });
    let all = futures_util::future::join_all(calls).await;
    inserted(&store, id("later"), &Put { wake_after: Some(HOUR), ..leased(HOUR) }).await;
    pass(fixture, &store, 4 * MOMENT).await;
    for due in [Due::Lease, Due::Wake] {
        let mut wanted = all.clone();
        wanted.sort_by_key(|it| (it.waits_for(due.into()), it.id));
        for limit in [1, 2, 5, 11, 12, 100] {
            assert_eq!(walked(&store, due.start(), limit).await, wanted, "{due:?}, limit {limit}");
        }
        let page = store.due(due.start(), 0).await.expect("what is due is answered");
        assert_eq!(page.records, []);
        assert_eq!(walked(&store, page.next.expect("there is more"), 100).await, wanted);
    }

    let page = store.due(Due::Wake.start(), 5).await.expect("what is due is answered");
    let mut left = all.clone();
    left.retain(|it| !page.records.contains(it));
    left.sort_by_key(|it| (it.wake_at, it.id));
    for seen in &page.records {
        swapped(&store, seen, &Put { wake_after: Some(HOUR), ..renewal(seen) }).await;
    }
    assert_eq!(walked(&store, page.next.expect("there is more"), 2).await, left);
}

/// What pages of at most `limit` show from `from` on.
async fn walked(store: &Arc<dyn Store>, from: DueCursor, limit: usize) -> Vec<Arc<Record>> {
    let (mut records, mut next) = (Vec::new(), Some(from));
    for _ in 0..100 {
        let Some(from) = next else { return records };
        let page = store.due(from, limit).await.expect("what is due is answered");
        assert!(page.records.len() <= limit, "a page of {} for a limit of {limit}", page.records.len());
        assert_eq!(page.next.map_or(from.due(), DueCursor::due), from.due());
        records.extend(page.records);
        next = page.next;
    }
    panic!("the pages never end, limit {limit}");
}

/// A record that ended is due for no lease any more, however it ended; one that was finished is not woken.
pub async fn a_finished_record_is_due_no_more(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut ended = Vec::new();
    for (number, name) in ["done", "released", "abandoned"].into_iter().enumerate() {
        let put = Put { wake_after: Some(MOMENT), ..leased(MOMENT) };
        let running = inserted(&store, id(name), &put).await;
        ended.push((number, running));
    }
    pass(fixture, &store, 2 * MOMENT).await;
    assert_eq!(due(&store, Due::Lease, 10).await.len(), 3);
    assert_eq!(due(&store, Due::Wake, 10).await.len(), 3);
    for (number, running) in &ended {
        let put = match number {
            0 => completion(running, b"done"),
            1 => release(running),
            _ => Put { state: State::Abandoned { reason: "gave up".into() }, ..renewal(running) },
        };
        let now = swapped(&store, running, &put).await;
        assert_eq!(stored(&store, running.id).await, Some(now));
    }
    assert_eq!(due(&store, Due::Lease, 10).await, []);
    assert_eq!(due(&store, Due::Wake, 10).await, []);
}
