//! What is due: leases and wake-up times that have passed.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, Put};
use onceward_core::{Policy, Record, RecordId, State, Store};

use super::Fixture;
use super::sample::{
    HOUR, claim, completion, id, inserted, pass, release, renewal, stored, swapped, take_over,
};

const MOMENT: Duration = Duration::from_millis(20);

async fn due(store: &Arc<dyn Store>, due: Due, limit: usize) -> Vec<Arc<Record>> {
    store.due(due, limit).await.expect("what is due is answered")
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
