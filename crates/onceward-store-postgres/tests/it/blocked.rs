//! Transactions of others that stay open over a record: how long calls wait for them, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use onceward_core::store::{Insert, Put, Replace, Store};
use onceward_core::{ErrorKind, Timestamp};
use onceward_testkit::server::Postgres;
use onceward_testkit::{eventually, within};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_postgres::Transaction;

use crate::away::{one, said};
use crate::sample::{claim, completion, id, inserted, place};
use crate::support::{self, open};

/// How many locks are waited for.
const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted";

async fn now(client: &Transaction<'_>) -> Timestamp {
    let now = one(client, "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint").await;
    Timestamp::from_millis(now.try_into().unwrap())
}

async fn soon(client: &Transaction<'_>, millis: u64) -> Timestamp {
    now(client).await.after(Duration::from_millis(millis))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_waited_for_its_row_is_judged_after_the_wait() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let store = Arc::new(open(&url).await);
    let record = inserted(&store, id(1)).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    let block = blocker.transaction().await.unwrap();
    block.batch_execute(&format!("SELECT FROM {name}.onceward_records FOR UPDATE")).await.unwrap();
    let not_after = soon(&block, 300).await;
    let put = Put { not_after, ..completion(&record) };
    let (waiting, seen) = (Arc::clone(&store), record.revision);
    let mut calls = JoinSet::new();
    calls.spawn(async move { waiting.replace(id(1), seen, &put).await });
    eventually(async || now(&block).await > not_after).await;
    block.rollback().await.unwrap();
    let told = within(calls.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(told, Replace::Late(now) if now > not_after), "{told:?}");
    assert_eq!(store.load(id(1)).await.unwrap().record, Some(record));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waited_for_another_transaction_is_judged_after_the_wait_and_its_neighbours_are_kept() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let store = Arc::new(open(&format!("{url}&connections=1&call_timeout=20s")).await);
    let first = inserted(&store, id(9)).await;
    inserted(&store, id(1)).await;
    let row = |sql| format!("{sql} FROM {name}.onceward_records WHERE id = $1");
    let (mut holder, _) = support::client(&server.url("onceward")).await;
    let hold = holder.transaction().await.unwrap();
    hold.execute(&format!("{} FOR UPDATE", row("SELECT")), &[&id(9).as_bytes().as_slice()]).await.unwrap();
    // It has the only connection, so that what comes behind it is sent together.
    let (holding, swap) = (Arc::clone(&store), completion(&first));
    let mut before = JoinSet::new();
    before.spawn(async move { holding.replace(first.id, first.revision, &swap).await });
    eventually(async || one(&hold, WAITS).await > 0).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    // Whoever inserts there waits until it is certain that the row goes.
    let block = blocker.transaction().await.unwrap();
    block.execute(&row("DELETE"), &[&id(1).as_bytes().as_slice()]).await.unwrap();
    let not_after = soon(&block, 500).await;
    let (all_are_waiting, asked) = oneshot::channel();
    let (asking, mut calls) = (Arc::clone(&store), JoinSet::new());
    calls.spawn(async move {
        let claims: Vec<_> = (1..6)
            .map(|number| (number, if number == 1 { not_after } else { Timestamp::MAX }))
            .map(|(number, not_after)| (number, Put { not_after, ..claim(2) }))
            .collect();
        let told = join_all(claims.iter().map(async |(number, put)| asking.insert(id(*number), put).await));
        // In this order: by then each was asked for.
        tokio::join!(biased; told, async move { all_are_waiting.send(()) }).0
    });
    within(asked).await.unwrap();
    hold.rollback().await.unwrap();
    within(before.join_next()).await.unwrap().unwrap().unwrap();
    eventually(async || now(&block).await > not_after).await;
    block.commit().await.unwrap();
    for (number, told) in (1..).zip(within(calls.join_next()).await.unwrap().unwrap()) {
        match told.unwrap() {
            Insert::Late(now) => assert!(number == 1 && now > not_after, "{number} {now:?}"),
            Insert::Kept(record) => assert!(number > 1 && record.created > not_after, "{number} {record:?}"),
            Insert::Found(found, _) => panic!("{number} {found:?}"),
        }
    }
    assert_eq!(store.load(id(1)).await.unwrap().record, None, "nothing of it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_transaction_that_stays_open_is_told_and_leaves_nothing_behind() {
    let server = Postgres::start(&[]);
    let (name, url) = place(&server).await;
    let (patient, hasty) = (open(&url).await, open(&format!("{url}&call_timeout=100ms")).await);
    let record = inserted(&patient, id(1)).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    let block = blocker.transaction().await.unwrap();
    block.batch_execute(&format!("DELETE FROM {name}.onceward_records")).await.unwrap();
    for _ in 0..5 {
        let error = hasty.replace(record.id, record.revision, &completion(&record)).await.unwrap_err();
        assert!([ErrorKind::Uncertain, ErrorKind::Unavailable].contains(&error.kind()), "{}", said(&error));
        eventually(async || hasty.check().await.is_ok()).await;
    }
    assert!(one(&block, WAITS).await > 0, "the server does not know that they left");
    let (swap, claim) = (completion(&record), claim(2));
    let (swap, claim) =
        tokio::join!(patient.replace(record.id, record.revision, &swap), patient.insert(id(1), &claim));
    for error in [swap.unwrap_err(), claim.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", said(&error));
        assert!(said(&error).contains("55P03"), "{}", said(&error));
    }
    eventually(async || one(&block, WAITS).await == 0).await;
    block.rollback().await.unwrap();
    assert_eq!(patient.load(id(1)).await.unwrap().record, Some(record), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_that_the_role_has_are_lived_with() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let times = format!(
        "ALTER ROLE {name} SET statement_timeout = '200ms'; ALTER ROLE {name} SET idle_session_timeout = '100ms';
         ALTER ROLE {name} SET idle_in_transaction_session_timeout = '100ms'"
    );
    support::run(server, &times).await;
    let store = open(&url).await;
    let record = inserted(&store, id(1)).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    let block = blocker.transaction().await.unwrap();
    block.batch_execute(&format!("SELECT FROM {name}.onceward_records FOR UPDATE")).await.unwrap();
    eventually(async || {
        let error = store.replace(record.id, record.revision, &completion(&record)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", said(&error));
        said(&error).contains("57014")
    })
    .await;
    block.rollback().await.unwrap();
    // The server ends the idle connection, over and over.
    let began = tokio::time::Instant::now();
    while began.elapsed() < Duration::from_millis(400) {
        let told = store.load(id(1)).await;
        assert!(told.as_ref().is_ok_and(|it| it.record == Some(record.clone())) || told.is_err(), "{told:?}");
        tokio::time::sleep(Duration::from_millis(130)).await;
    }
    eventually(async || store.replace(record.id, record.revision, &completion(&record)).await.is_ok()).await;
}
