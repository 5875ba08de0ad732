//! Calls that share statements: fewer of them than calls, and no rule that depends on it.

use std::sync::Arc;

use onceward_core::Timestamp;
use onceward_core::store::{Insert, Put, Replace, Store};
use onceward_testkit::server::Postgres;
use onceward_testkit::within;
use tokio::task::JoinSet;

use crate::sample::{claim, completion, id, inserted, place, swapped};
use crate::support::{self, open};

/// How many transactions the server has carried out for this role's table: each statement is one.
async fn statements(name: &str) -> i64 {
    let (client, _) = support::client(&Postgres::shared().url("onceward")).await;
    let sql = format!("SELECT coalesce(sum(calls), 0)::bigint FROM {name}.seen");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_share_statements_and_a_lone_one_is_not_held_up() {
    let (name, url) = place(Postgres::shared()).await;
    let store = Arc::new(open(&format!("{url}&connections=2")).await);
    // A trigger that fires once per statement counts them.
    support::run(
        Postgres::shared(),
        &format!(
            "CREATE TABLE {name}.seen (calls integer);
             GRANT ALL ON {name}.seen TO {name};
             CREATE FUNCTION {name}.count() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO {name}.seen VALUES (1); RETURN NULL; END';
             CREATE TRIGGER count AFTER INSERT OR UPDATE ON {name}.onceward_records
             FOR EACH STATEMENT EXECUTE FUNCTION {name}.count()"
        ),
    )
    .await;
    let alone = inserted(&store, id(1_000_000)).await;
    swapped(&*store, &alone, &completion(&alone)).await;
    assert_eq!(statements(&name).await, 2, "one statement for each promise");
    let mut callers = JoinSet::new();
    for number in 0..400 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let Insert::Kept(record) = store.insert(id(number), &claim(1)).await.unwrap() else {
                panic!("the place is vacant")
            };
            let told = store.replace(record.id, record.revision, &completion(&record)).await.unwrap();
            assert!(matches!(told, Replace::Kept(_)));
        });
    }
    within(callers.join_all()).await;
    let shared = statements(&name).await - 2;
    assert!(shared < 200, "800 calls took {shared} statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_two_processes_on_the_same_records_end() {
    let (_, url) = place(Postgres::shared()).await;
    let (one, two) = (Arc::new(open(&url).await), Arc::new(open(&url).await));
    let mut records = Vec::new();
    for number in 0..40 {
        records.push(inserted(&one, id(number)).await);
    }
    let mut callers = JoinSet::new();
    for nth in 0..records.len() {
        // One goes up, the other down.
        for (store, nth) in [(&one, nth), (&two, records.len() - 1 - nth)] {
            let (store, mut last) = (Arc::clone(store), Arc::clone(&records[nth]));
            callers.spawn(async move {
                let mut kept = 0;
                for _ in 0..25 {
                    let put = Put::keep(&last, Timestamp::MAX);
                    last = match store.replace(last.id, last.revision, &put).await.unwrap() {
                        Replace::Kept(record) => {
                            kept += 1;
                            record
                        }
                        Replace::Lost(record, _) => record.unwrap(),
                        Replace::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
                    };
                }
                kept
            });
        }
    }
    let kept: usize = within(callers.join_all()).await.into_iter().sum();
    assert!(kept >= 25 * records.len(), "somebody wins each time: {kept}");
    let log = Postgres::shared().log();
    assert!(!log.contains("deadlock detected"), "rows are locked in the order of their ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_closed_carries_out_what_waits_and_takes_no_more() {
    let (_, url) = place(Postgres::shared()).await;
    let store = Arc::new(open(&format!("{url}&connections=1")).await);
    let mut callers = JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        callers.spawn(async move { (number, store.insert(id(number), &claim(1)).await) });
    }
    tokio::task::yield_now().await;
    within(store.close()).await;
    let after = open(&url).await;
    for (number, told) in within(callers.join_all()).await {
        let stands = after.load(id(number)).await.unwrap().record;
        assert_eq!(told.is_ok(), stands.is_some(), "{told:?}");
    }
    assert!(store.check().await.is_err());
}
