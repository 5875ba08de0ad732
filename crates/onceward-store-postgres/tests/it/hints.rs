//! Waiters of other processes are told soon; and whatever is between, they end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use onceward_core::store::{Put, Store};
use onceward_core::{Policy, State};
use onceward_store_postgres::PostgresStore;
use onceward_testkit::server::{PgBouncer, Postgres};
use onceward_testkit::{Waiting, eventually, within};

use crate::sample::{claim, completion, id, inserted, place, swapped};
use crate::support::{self, open};

async fn shared(url: &str) -> Arc<PostgresStore> {
    Arc::new(open(url).await)
}

/// Waiters that never look by themselves are told, whether the holder finishes or releases.
async fn waiters_are_told(url: &str) {
    let told = Waiting::begin("k-1", shared(url).await, shared(url).await, 3).await;
    told.looked(3).await;
    told.told().await;
    let released = Waiting::begin("k-2", shared(url).await, shared(url).await, 1).await;
    released.looked(1).await;
    released.released().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_of_another_process_is_told_when_the_holder_finishes() {
    let (_, url) = place(Postgres::shared()).await;
    waiters_are_told(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_keeps_no_session_takes_nothing_from_hints() {
    let (name, _) = place(Postgres::shared()).await;
    let pooler = PgBouncer::start(Postgres::shared(), "statement");
    let url = format!("{}?schema={name}", pooler.url());
    waiters_are_told(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_waiters_are_told() {
    let (_, url) = place(Postgres::shared()).await;
    let told = Waiting::begin("k-1", shared(&url).await, shared(&url).await, 1000).await;
    told.looked(1000).await;
    told.told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_run_that_goes_on_does_not_look() {
    let (_, url) = place(Postgres::shared()).await;
    let other = shared(&url).await;
    let told = Waiting::begin("k-1", shared(&url).await, Arc::<PostgresStore>::clone(&other), 1).await;
    told.looked(1).await;
    // Many looks of the store later, which shows another record that it hints at.
    let record = inserted(&other, id(1)).await;
    swapped(&*other, &record, &completion(&record)).await;
    let mut hints = other.hints(id(1)).unwrap();
    for _ in 0..5 {
        within(hints.next()).await.unwrap();
    }
    assert_eq!(told.looks(), 1);
    told.told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_over_and_whatever_ends_a_run_are_hints() {
    let (_, url) = place(Postgres::shared()).await;
    let (store, other) = (open(&url).await, open(&url).await);
    let lease = Duration::from_millis(300);
    let brief = Put { policy: Policy { lease, ..claim(1).policy }, ..claim(1) };
    onceward_testkit::inserted(&store, id(0), &brief).await;
    within(other.hints(id(0)).unwrap().next()).await.unwrap();
    for (number, state) in
        [(1, State::Released), (2, State::Abandoned { reason: "lost".into() }), (3, State::Tombstone)]
    {
        let record = inserted(&store, id(number)).await;
        let mut hints = other.hints(id(number)).unwrap();
        let ended = Put { state, ..Put::keep(&record, onceward_core::Timestamp::MAX) };
        swapped(&store, &record, &ended).await;
        within(hints.next()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_connections_are_cut_and_the_server_comes_back_so_do_hints() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let told = Waiting::begin("k-1", shared(&url).await, shared(&url).await, 1).await;
    told.looked(1).await;
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'");
    support::run(server, &cut).await;
    told.told().await;
    let (store, other) = (open(&url).await, open(&url).await);
    let record = inserted(&store, id(1)).await;
    let mut hints = other.hints(id(1)).unwrap();
    server.kill();
    server.restart();
    eventually(async || store.check().await.is_ok()).await;
    swapped(&store, &record, &completion(&record)).await;
    within(hints.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_can_be_turned_off_and_end_with_the_store() {
    let (_, url) = place(Postgres::shared()).await;
    assert!(open(&format!("{url}&hints=off")).await.hints(id(1)).is_none());
    let store = open(&url).await;
    let mut hints = store.hints(id(1)).unwrap();
    store.close().await;
    assert_eq!(within(hints.next()).await, None);
    assert!(store.hints(id(1)).is_none());
}
