//! What was written is what is read, to the last byte.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::{Due, Put};
use onceward_core::{Answer, Listing, Policy, Principal, Record, State, Store, Unresolved};

use super::Fixture;
use super::sample::{HOUR, claim, id, inserted, renewal, stored, swapped};

fn states() -> Vec<State> {
    let answer = |kind: &str, bytes: Bytes| State::Done(Answer::new(kind.to_owned(), bytes));
    let noise: Vec<u8> = (0..1_u32 << 20).map(|it| it.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    vec![
        State::Running,
        State::Released,
        State::Tombstone,
        State::Abandoned { reason: String::new() },
        State::Abandoned { reason: "é".repeat(127) },
        answer("", Bytes::new()),
        answer("json", Bytes::from_static(b"null")),
        answer("http", Bytes::from_static(b"\x00\xff\xfe\r\n\x00")),
        answer(&"k".repeat(255), Bytes::from(vec![0; 4096])),
        answer("noise", Bytes::from(noise)),
        State::Done(Answer::new("packed", vec![7; 1 << 20]).packed()),
    ]
}

fn rich(state: State) -> Put {
    Put {
        listing: Arc::new(Listing {
            principal: Principal::from_bytes([0xfe; 16]),
            kind: "PÄTCH'\"; DROP".into(),
            host: String::new(),
            path: format!("/{}", "x".repeat(8000)),
            key: "~".repeat(255),
        }),
        fingerprint: None,
        state,
        policy: Policy {
            lease: Duration::from_millis(u64::MAX),
            run_max: Duration::from_millis(u64::MAX),
            retention: Duration::from_millis(u64::MAX),
            tombstone: Duration::from_millis(u64::MAX),
            unresolved: Unresolved::Rerun,
        },
        checkpoint: Some(Bytes::from_static(b"\xff\x00half way")),
        wake_after: Some(Duration::ZERO),
        ..claim(3)
    }
}

/// Every state, written by an insert and by a swap, reads back as the record that the call returned, also in
/// listings, in what is due, and after reopening where the store is durable.
pub async fn every_state_reads_back_as_written(fixture: &impl Fixture) {
    let mut store = fixture.open().await;
    let mut written = Vec::new();
    for (number, state) in states().into_iter().enumerate() {
        let put = rich(state.clone());
        let record = inserted(&store, id(&format!("inserted {number}")), &put).await;
        super::sample::assert_stamped(&put, None, &record);
        written.push(record);

        let plain = inserted(&store, id(&format!("swapped {number}")), &claim(4)).await;
        let put = Put { grant: None, ..rich(state) };
        let record = swapped(&store, &plain, &put).await;
        super::sample::assert_stamped(&put, Some(&plain), &record);
        written.push(record);
    }
    let bare = Put { checkpoint: None, wake_after: None, fingerprint: claim(5).fingerprint, ..claim(5) };
    let bare = inserted(&store, id("bare"), &bare).await;
    let saved = Put { checkpoint: Some(Bytes::new()), wake_after: Some(HOUR), ..renewal(&bare) };
    written.push(swapped(&store, &bare, &saved).await);

    assert_reads_back(&store, &written).await;
    if store.traits().durable {
        store = fixture.reopen(store).await;
        assert_reads_back(&store, &written).await;
    }
}

async fn assert_reads_back(store: &Arc<dyn Store>, written: &[Arc<Record>]) {
    for record in written {
        assert_eq!(stored(store, record.id).await.as_ref(), Some(record), "{:?}", record.state);
    }
    let page = store.list(&Default::default(), None, 1000).await.expect("a listing is answered");
    let due = store.due(Due::Wake.start(), 1000).await.expect("what is due is answered").records;
    for record in page.records.iter().chain(&due) {
        assert!(written.contains(record), "listed or due otherwise than written: {:?}", record.state);
    }
    assert_eq!(due.len(), written.len() - 1, "all but one wanted to be woken at once");
}
