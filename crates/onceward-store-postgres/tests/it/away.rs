//! A server that goes away: what callers are told, and what is there afterwards.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::ErrorKind;
use onceward_core::store::{Insert, Store};
use onceward_testkit::server::{PgBouncer, Postgres};
use onceward_testkit::{eventually, within};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::sample::{claim, completion, id, inserted, place, swapped};
use crate::support::{self, open};

/// Everything that an error says, with its causes.
pub(crate) fn said(error: &onceward_core::Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(it) = source {
        text = format!("{text} {it}");
        source = it.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_away_calls_fail_at_once_and_then_go_on_by_themselves() {
    let server = Postgres::start(&[]);
    let (_, url) = place(&server).await;
    let store = open(&url.replace("@127", ":s3cret@127")).await;
    let record = inserted(&store, id(1)).await;
    server.kill();
    eventually(async || store.check().await.is_err()).await;
    eventually(async || {
        let error = store.insert(id(2), &claim(1)).await.unwrap_err();
        assert!(!said(&error).contains("s3cret"), "{}", said(&error));
        error.kind() == ErrorKind::Unavailable && said(&error).contains("refused")
    })
    .await;
    assert_eq!(store.load(id(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart();
    eventually(async || store.check().await.is_ok()).await;
    assert_eq!(store.load(id(1)).await.unwrap().record, Some(record.clone()), "what was told is there");
    assert_eq!(store.load(id(2)).await.unwrap().record, None, "what was unavailable was not written");
    swapped(&store, &record, &completion(&record)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_a_burst_loses_nothing_that_was_told_and_writes_nothing_unavailable() {
    let server = Postgres::start(&[]);
    let (_, url) = place(&server).await;
    for round in 0..2_u64 {
        let store = Arc::new(open(&url).await);
        let mut callers = JoinSet::new();
        for caller in 0..32 {
            let store = Arc::clone(&store);
            callers.spawn(async move {
                let (mut kept, mut refused, mut unsure) = (Vec::new(), Vec::new(), 0);
                // Until the kill is felt, however fast the server is.
                for number in 0..60_000 {
                    if refused.len() == 3 {
                        break;
                    }
                    let id = id(round << 32 | caller << 16 | number);
                    match store.insert(id, &claim(1)).await {
                        Ok(Insert::Kept(record)) => kept.push(record),
                        Ok(other) => panic!("the place was vacant: {other:?}"),
                        Err(error) if error.kind() == ErrorKind::Unavailable => refused.push(id),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Uncertain);
                            unsure += 1;
                        }
                    }
                }
                (kept, refused, unsure)
            });
        }
        let probe = Arc::clone(&store);
        eventually(async || probe.load(id(round << 32 | 7)).await.unwrap().record.is_some()).await;
        server.kill();
        let ended = within(callers.join_all()).await;
        server.restart();
        eventually(async || store.check().await.is_ok()).await;
        let (mut told, mut unavailable, mut uncertain) = (0, 0, 0);
        for (kept, refused, unsure) in ended {
            uncertain += unsure;
            for record in kept {
                assert_eq!(store.load(record.id).await.unwrap().record, Some(record), "told, so there");
                told += 1;
            }
            for id in refused {
                assert_eq!(store.load(id).await.unwrap().record, None, "unavailable, so not there");
                unavailable += 1;
            }
        }
        assert!(
            told > 0 && unavailable > 0,
            "the kill came in the middle: {told}, {unavailable}, {uncertain}"
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_is_killed_is_gone_on_without() {
    let server = Postgres::start(&[]);
    let (name, url) = place(&server).await;
    drop(open(&url).await);
    support::run(&server, &format!("GRANT ALL ON ALL TABLES IN SCHEMA {name} TO onceward")).await;
    let pooler = PgBouncer::start(&server, "statement");
    let store = Arc::new(open(&format!("{}?schema={name}&migrate=off", pooler.url())).await);
    let mut callers = JoinSet::new();
    for caller in 0..16_u64 {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let mut kept = Vec::new();
            for number in 0..50 {
                if let Ok(Insert::Kept(record)) = store.insert(id(caller << 16 | number), &claim(1)).await {
                    kept.push(record);
                }
            }
            kept
        });
    }
    eventually(async || store.load(id(3)).await.unwrap().record.is_some()).await;
    pooler.kill();
    pooler.restart();
    let kept: Vec<_> = within(callers.join_all()).await.into_iter().flatten().collect();
    eventually(async || store.check().await.is_ok()).await;
    assert!(!kept.is_empty());
    for record in kept {
        assert_eq!(store.load(record.id).await.unwrap().record, Some(record), "told, so there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_answered_in_time_is_uncertain_and_its_connection_is_used_no_more() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let store = open(&format!("{url}&call_timeout=300ms&connections=1")).await;
    let record = inserted(&store, id(1)).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    let block = blocker.transaction().await.unwrap();
    block.batch_execute(&format!("SELECT FROM {name}.onceward_records FOR UPDATE")).await.unwrap();
    let error = within(store.replace(record.id, record.revision, &completion(&record))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain, "{}", said(&error));
    eventually(async || store.check().await.is_ok()).await;
    assert_eq!(store.load(id(1)).await.unwrap().record, Some(record.clone()), "nobody gets another's reply");
    block.rollback().await.unwrap();
    // What was sent is carried out by the server once it can be.
    eventually(async || store.load(id(1)).await.unwrap().record != Some(record.clone())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waited_too_long_for_a_connection_was_not_sent() {
    let server = Postgres::shared();
    let (name, url) = place(server).await;
    let store = Arc::new(open(&format!("{url}&call_timeout=400ms&connections=1&max_queue=1")).await);
    let record = inserted(&store, id(1)).await;
    let (mut blocker, _) = support::client(&server.url("onceward")).await;
    let block = blocker.transaction().await.unwrap();
    block.batch_execute(&format!("SELECT FROM {name}.onceward_records FOR UPDATE")).await.unwrap();
    let (busy, waiting) = (Arc::clone(&store), Arc::clone(&store));
    let mut calls = JoinSet::new();
    let put = completion(&record);
    calls.spawn(
        async move { (busy.replace(record.id, record.revision, &put).await.unwrap_err().kind(), false) },
    );
    // As soon as the connection is busy, the next call waits and the one after it is too much.
    eventually(async || {
        let held: i64 = one(&block, "SELECT count(*) FROM pg_locks WHERE NOT granted").await;
        held > 0
    })
    .await;
    for number in 2..12 {
        let waiting = Arc::clone(&waiting);
        calls.spawn(async move {
            let error = waiting.insert(id(number), &claim(1)).await.unwrap_err();
            (error.kind(), said(&error).contains("1 calls wait already"))
        });
    }
    // One was sent; one of the ten waited, and nine were too many.
    let told = within(calls.join_all()).await;
    let of = |it| told.iter().filter(|told| **told == it).count();
    let counts = (
        of((ErrorKind::Uncertain, false)),
        of((ErrorKind::Unavailable, false)),
        of((ErrorKind::Unavailable, true)),
    );
    assert_eq!(counts, (1, 1, 9), "{told:?}");
    block.rollback().await.unwrap();
    eventually(async || store.check().await.is_ok()).await;
    for number in 2..12 {
        assert_eq!(store.load(id(number)).await.unwrap().record, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_decides_whether_it_is_unavailable_uncertain_or_invalid() {
    let server = Postgres::start(&[]);
    let (name, url) = place(&server).await;
    let store = open(&format!("{url}&call_timeout=500ms")).await;
    let trouble = format!(
        "CREATE TABLE {name}.trouble (code text); GRANT ALL ON {name}.trouble TO {name};
         INSERT INTO {name}.trouble VALUES ('00000');
         CREATE FUNCTION {name}.trouble() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE it text; BEGIN
            SELECT code INTO it FROM {name}.trouble;
            IF it <> '00000' THEN RAISE EXCEPTION 'trouble' USING ERRCODE = it; END IF; RETURN NEW; END $$;
         CREATE TRIGGER trouble BEFORE INSERT ON {name}.onceward_records FOR EACH ROW EXECUTE FUNCTION {name}.trouble()"
    );
    support::run(&server, &trouble).await;
    for (number, (code, kind)) in (1..).zip([
        ("53100", ErrorKind::Unavailable),
        ("53200", ErrorKind::Unavailable),
        ("53300", ErrorKind::Unavailable),
        ("25006", ErrorKind::Unavailable),
        ("55P03", ErrorKind::Unavailable),
        ("57014", ErrorKind::Unavailable),
        ("42501", ErrorKind::Unavailable),
        ("40001", ErrorKind::Unavailable),
        ("40P01", ErrorKind::Unavailable),
        ("OW001", ErrorKind::Unavailable),
        ("22003", ErrorKind::Invalid),
        ("23514", ErrorKind::Invalid),
        ("40003", ErrorKind::Uncertain),
        ("57P03", ErrorKind::Uncertain),
        ("58030", ErrorKind::Uncertain),
        ("XX000", ErrorKind::Uncertain),
    ]) {
        eventually(async || store.check().await.is_ok()).await;
        support::run(&server, &format!("UPDATE {name}.trouble SET code = '{code}'")).await;
        let error = within(store.insert(id(number), &claim(1))).await.unwrap_err();
        // The call's own time may be over first where it is repeated.
        let repeated = ["40001", "40P01", "OW001"].contains(&code) && error.kind() == ErrorKind::Uncertain;
        assert!(error.kind() == kind || repeated, "{code}: {}", said(&error));
        support::run(&server, &format!("UPDATE {name}.trouble SET code = '00000'")).await;
        eventually(async || store.check().await.is_ok()).await;
        inserted(&store, id(number)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_more_writes_is_unavailable_until_it_does() {
    let server = Postgres::start(&[]);
    let (_, url) = place(&server).await;
    let store = open(&url).await;
    inserted(&store, id(1)).await;
    let read_only = |it: &str| {
        server.sql(&format!("ALTER SYSTEM SET default_transaction_read_only = {it}"));
        server.sql("SELECT pg_reload_conf()");
    };
    read_only("on");
    let mut number = 1;
    let mut causes = Vec::new();
    eventually(async || {
        number += 1;
        if let Err(error) = store.insert(id(number), &claim(1)).await {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", said(&error));
            causes.push(said(&error));
        }
        causes.iter().any(|it| it.contains("25006")) && causes.iter().any(|it| it.contains("allow writes"))
    })
    .await;
    read_only("off");
    eventually(async || store.check().await.is_ok()).await;
    assert_eq!(store.load(id(number)).await.unwrap().record, None, "what was unavailable was not written");
    inserted(&store, id(number)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_silent_does_not_keep_the_next_one_from_being_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Postgres::start(&[]);
    let (_, url) = place(&server).await;
    let both = format!("@127.0.0.1:{},127.0.0.1:", silent.local_addr().unwrap().port());
    let store = open(&format!("{}&connect_timeout=1", url.replace("@127.0.0.1:", &both))).await;
    let record = inserted(&store, id(1)).await;
    server.restart();
    eventually(async || store.load(id(1)).await.is_ok_and(|it| it.record == Some(record.clone()))).await;
}

pub(crate) async fn one(client: &tokio_postgres::Transaction<'_>, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://pay:s3cret@{}/x?sslmode=disable", silent.local_addr().unwrap());
    let mut settings = onceward_store_postgres::PostgresSettings::from_url(&url).unwrap();
    settings.call_timeout = Duration::from_millis(100);
    let opening = onceward_store_postgres::PostgresStore::open(settings);
    let ended = tokio::time::timeout(Duration::from_millis(500), opening).await;
    assert!(ended.is_err(), "opening waits longer than a call");
    let refused =
        onceward_store_postgres::PostgresSettings::from_url("postgres://pay:s3cret@127.0.0.1:1/x").unwrap();
    let error = onceward_store_postgres::PostgresStore::open(refused).await.unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("s3cret") && error.to_string().contains("refused"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_again_though_a_process_of_the_killed_one_hangs() {
    let server = Postgres::start(&[]);
    let (client, _) = support::client(&server.url("onceward")).await;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|it| it.strip_prefix("PPid:")).unwrap().trim().to_owned();
    // Who kills the server by itself leaves the process that hangs.
    for (signal, process) in [("-STOP", pid.to_string()), ("-9", parent)] {
        assert!(std::process::Command::new("kill").args([signal, &process]).status().unwrap().success());
    }
    server.restart();
    assert_eq!(server.sql("SELECT 1"), "1");
}
