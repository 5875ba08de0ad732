//! A primary and its synchronous standby: nothing is told that the standby may not have.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::ErrorKind;
use onceward_core::store::{Insert, Store};
use onceward_testkit::server::{PgBouncer, Postgres, PostgresPair};
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;

use crate::away::said;
use crate::sample::{claim, completion, id, inserted, place, swapped};
use crate::support::{self, open};

/// How many commits wait for the standby.
fn waiting(server: &Postgres) -> String {
    server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
}

/// A URL with both hosts, the primary first, for a schema of its own.
async fn both(pair: &PostgresPair) -> String {
    let (_, url) = place(pair.primary()).await;
    url.replace("/postgres?", &format!(",127.0.0.1:{}/postgres?", pair.standby().port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_outlives_the_primary_and_the_standby_is_found_by_the_url() {
    let mut pair = PostgresPair::start(true);
    let url = format!("{}&call_timeout=1s", both(&pair).await);
    let (store, reader) = (open(&url).await, open(&url).await);
    let running = inserted(&store, id(1)).await;
    let done = swapped(&store, &running, &completion(&running)).await;
    assert_eq!(reader.load(id(1)).await.unwrap().record, Some(done.clone()));
    pair.hold_back();
    let error = store.insert(id(2), &claim(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain, "{}", said(&error));
    // From then on nobody is let into the trap, and no connections pile up there.
    eventually(async || {
        let error = store.insert(id(3), &claim(1)).await.unwrap_err();
        error.kind() == ErrorKind::Unavailable && said(&error).contains("replicas")
    })
    .await;
    assert_eq!(reader.load(id(1)).await.unwrap().record, Some(done.clone()), "reads go on");
    pair.fail_over(Duration::ZERO);
    pair.rebuild();
    eventually(async || store.load(id(1)).await.is_ok_and(|it| it.record == Some(done.clone()))).await;
    assert_eq!(store.load(id(2)).await.unwrap().record, None, "it was lost, and nobody was told of it");
    inserted(&store, id(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_shows_before_the_standby_has_it_is_not_told() {
    for through_a_pooler in [false, true] {
        let pair = PostgresPair::start(true);
        let (name, mut url) = place(pair.primary()).await;
        let done = {
            let store = open(&url).await;
            let running = inserted(&store, id(1)).await;
            swapped(&store, &running, &completion(&running)).await
        };
        support::run(pair.primary(), &format!("GRANT ALL ON ALL TABLES IN SCHEMA {name} TO onceward")).await;
        let pooler = through_a_pooler.then(|| PgBouncer::start(pair.primary(), "statement"));
        if let Some(pooler) = &pooler {
            url = format!("{}?schema={name}", pooler.url());
        }
        let (store, reader) =
            (open(&format!("{url}&call_timeout=1s")).await, open(&format!("{url}&call_timeout=1s")).await);
        assert_eq!(reader.load(id(1)).await.unwrap().record, Some(done), "{through_a_pooler}");
        pair.hold_back();
        // The connection of `reader` to the pooler outlives all that follows.
        assert_eq!(store.insert(id(2), &claim(1)).await.unwrap_err().kind(), ErrorKind::Uncertain);
        pair.primary().restart();
        let rows = format!("SELECT count(*) FROM {name}.onceward_records");
        assert_eq!(pair.primary().sql(&rows), "2", "the server shows it after its crash");
        for store in [&reader, &store] {
            // Until a call has reached the server again.
            eventually(async || match store.load(id(2)).await {
                Ok(told) => panic!("the standby does not have it: {told:?}"),
                Err(_) => waiting(pair.primary()) != "0",
            })
            .await;
        }
        let told = store.insert(id(2), &claim(1)).await;
        assert!(told.is_err(), "whoever is shown its own claim runs: {told:?}");
        pair.let_go();
        eventually(async || matches!(store.insert(id(2), &claim(1)).await, Ok(Insert::Found(..)))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_somebody_stops_waiting_for_is_uncertain() {
    let pair = PostgresPair::start(true);
    let (_, url) = place(pair.primary()).await;
    let store = Arc::new(open(&format!("{url}&call_timeout=3s&connections=2")).await);
    inserted(&store, id(1)).await;
    for (number, how) in [(2, "pg_cancel_backend"), (3, "pg_terminate_backend")] {
        // Both connections are there and may show what the server has.
        eventually(async || {
            let (one, two) = tokio::join!(store.load(id(1)), store.load(id(1)));
            let backends =
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%onceward_load%' AND state = 'idle'";
            one.is_ok() && two.is_ok() && pair.primary().sql(backends) == "2"
        })
        .await;
        pair.hold_back();
        let mut calls = JoinSet::new();
        let waits = Arc::clone(&store);
        calls.spawn(async move { waits.insert(id(number), &claim(1)).await });
        eventually(async || waiting(pair.primary()) == "1").await;
        let beside = store.load(id(number)).await.unwrap().record;
        assert_eq!(beside, None, "nobody sees it while it waits");
        let stop = format!("SELECT {how}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        assert_eq!(pair.primary().sql(&stop), "t");
        let told = within(calls.join_next()).await.unwrap().unwrap();
        assert_eq!(told.as_ref().map_err(onceward_core::Error::kind), Err(ErrorKind::Uncertain), "{how}");
        let shown = store.load(id(number)).await;
        assert!(
            shown.is_err(),
            "{how}: the server shows it now, and the standby does not have it: {shown:?}"
        );
        pair.let_go();
        // It stands on the primary, and by now on the standby: it is shown to whoever asks again.
        eventually(async || matches!(store.insert(id(number), &claim(1)).await, Ok(Insert::Found(..)))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_came_back_alone_is_left_for_the_one_that_took_its_place() {
    let mut pair = PostgresPair::start(true);
    let url = both(&pair).await;
    drop(open(&url).await);
    pair.fail_over(Duration::ZERO);
    // The new one does without a standby; the old one, which nobody fenced, still waits for one.
    pair.primary().sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    pair.primary().sql("SELECT pg_reload_conf()");
    pair.standby().restart();
    let store = open(&format!("{url}&call_timeout=1s&connections=1")).await;
    let error = store.insert(id(1), &claim(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain, "the first host takes writes: {}", said(&error));
    eventually(async || store.insert(id(2), &claim(1)).await.is_ok()).await;
    assert_eq!(store.load(id(1)).await.unwrap().record, None);
}
