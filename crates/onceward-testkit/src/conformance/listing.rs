//! Listing: every filter, and pages that visit each record once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Cursor, Filter, Put};
use onceward_core::{Listing, Principal, RecordId, State, Status, Store};

use super::Fixture;
use super::sample::{
    HOUR, brief_completion, claim, completion, id, inserted, now, pass, release, renewal, stored, swapped,
};

/// The records that match, gathered from pages of at most `limit`. Each must come once.
async fn listed(store: &Arc<dyn Store>, filter: &Filter, limit: usize) -> BTreeSet<RecordId> {
    let (mut seen, mut cursor): (BTreeSet<_>, Option<Cursor>) = (BTreeSet::new(), None);
    for _ in 0..1000 {
        let page = store.list(filter, cursor, limit).await.expect("a listing is answered");
        assert!(page.records.len() <= limit, "a page of {} for a limit of {limit}", page.records.len());
        assert_eq!(page.unreadable, []);
        for record in page.records {
            assert!(seen.insert(record.id), "listed twice, limit {limit}");
            assert_eq!(stored(store, record.id).await, Some(record), "listed as it is stored");
        }
        cursor = page.next;
        if cursor.is_none() {
            return seen;
        }
    }
    panic!("the pages never end, limit {limit}");
}

async fn check(store: &Arc<dyn Store>, filter: Filter, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|it| id(it)).collect();
    for limit in [1, 2, 3, 100] {
        assert_eq!(listed(store, &filter, limit).await, expected, "{filter:?}, limit {limit}");
    }
}

/// Each filter field lists exactly what matches it, fields narrow each other, a cursor visits each record
/// once, and the records that Onceward keeps for itself are hidden.
pub async fn list_filters_and_pages(fixture: &impl Fixture) {
    let store = fixture.open().await;
    check(&store, Filter::default(), &[]).await;
    let names = ["running", "abandoned", "released", "done", "gone", "vacant"];
    for (number, name) in (1..).zip(names) {
        let running = inserted(&store, id(name), &claim(number)).await;
        let moment = Duration::from_millis(20);
        let put = match name {
            "running" => continue,
            "abandoned" => Put { state: State::Abandoned { reason: "x".into() }, ..renewal(&running) },
            "released" => release(&running),
            "done" => completion(&running, b"42"),
            "gone" => brief_completion(&running, moment, HOUR),
            _ => brief_completion(&running, moment, Duration::ZERO),
        };
        swapped(&store, &running, &put).await;
    }
    let old = now(&store).await;
    pass(fixture, &store, Duration::from_secs(1)).await;
    let other =
        Listing { kind: "PATCH".into(), path: "/refunds".into(), ..Listing::clone(&claim(1).listing) };
    inserted(&store, id("young"), &Put { listing: other.into(), ..claim(1) }).await;
    let reserved = Listing { kind: "onceward:reserved".into(), ..Listing::clone(&claim(1).listing) };
    inserted(&store, id("reserved"), &Put { listing: reserved.into(), ..claim(1) }).await;

    let all = Filter::default();
    let everything: Vec<_> = names.into_iter().chain(["young"]).collect();
    check(&store, all.clone(), &everything).await;
    let who = Some(Principal::from_bytes([1; 16]));
    check(&store, Filter { principal: who, ..all.clone() }, &["running", "young"]).await;
    check(&store, Filter { kind: Some("PATCH".into()), ..all.clone() }, &["young"]).await;
    check(&store, Filter { kind: Some("patch".into()), ..all.clone() }, &[]).await;
    check(&store, Filter { kind: Some("onceward:reserved".into()), ..all.clone() }, &[]).await;
    check(&store, Filter { path: Some("/payments".into()), ..all.clone() }, &names).await;
    check(&store, Filter { path: Some("/pay".into()), ..all.clone() }, &[]).await;
    check(&store, Filter { key: Some("key-4".into()), ..all.clone() }, &["done"]).await;
    let both = Filter { principal: who, kind: Some("POST".into()), ..all.clone() };
    check(&store, both, &["running"]).await;
    for (status, expected) in [
        (Status::Running, vec!["running", "young"]),
        (Status::Unresolved, vec!["abandoned"]),
        (Status::Released, vec!["released"]),
        (Status::Done, vec!["done"]),
        (Status::Gone, vec!["gone"]),
        (Status::Vacant, vec!["vacant"]),
    ] {
        check(&store, Filter { status: Some(status), ..all.clone() }, &expected).await;
    }
    let age = old.until(now(&store).await);
    check(&store, Filter { older_than: Some(age), ..all.clone() }, &names).await;
    check(&store, Filter { older_than: Some(HOUR), ..all.clone() }, &[]).await;
    check(&store, Filter { older_than: Some(Duration::ZERO), ..all }, &everything).await;
}
