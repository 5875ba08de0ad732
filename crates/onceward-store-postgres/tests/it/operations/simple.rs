//! One caller at a time: what stays of a transaction, and what does not.

use onceward_core::store::Store as _;
use onceward_core::{Answer, Attempt, ErrorKind, Fingerprint, Policy, Unresolved};
use onceward_store_postgres::operations::{OperationError, OperationSettings, Operations, Outcome, Work};
use onceward_testkit::server::{PgBouncer, Postgres};
use onceward_testkit::{for_polls, within};
use sqlx::{Acquire as _, PgConnection};

use super::place::{Place, attempt, is_busy, note, ran, replayed, waiting};
use crate::support;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_call_runs_repeats_get_its_answer_and_another_request_is_refused() {
    let place = Place::new().await;
    let first = ran(place.owned(&attempt("a")).await);
    assert_eq!(replayed(place.owned(&attempt("a")).await), first);
    let mut transaction = place.begin().await;
    assert_eq!(replayed(place.within(&mut transaction, &attempt("a")).await), first);
    let other = Attempt { fingerprint: Fingerprint::from_bytes([8; 32]), ..attempt("a") };
    assert_eq!(place.within(&mut transaction, &other).await.unwrap(), Outcome::Mismatch);
    transaction.commit().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_and_a_packed_one_are_replayed_as_they_were() {
    let place = Place::new().await;
    let long = Answer::new("text", "payment ".repeat(5000));
    for (key, answer) in [("plain", long.clone()), ("packed", long.packed())] {
        let work = || {
            let answer = answer.clone();
            Work::new(async move { Ok::<_, sqlx::Error>(answer) })
        };
        let told = place.operations.run(&place.pool, &attempt(key), |_| work()).await;
        assert_eq!(ran(told), long);
        assert_eq!(replayed(place.owned(&attempt(key)).await), long);
    }
    let kept =
        "SELECT pg_column_size(answer)::bigint FROM SCHEMA.onceward_operations WHERE answer_len IS NULL";
    assert!(place.number(kept).await < 5000, "the server packs what comes plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_from_the_end_of_its_operation_on() {
    let place = Place::new().await;
    let asked = attempt("a");
    let told = place.operations.run(&place.pool, &asked, |connection| {
        Work::new(async move {
            sqlx::query("SELECT pg_sleep(0.05)").execute(connection).await?;
            Ok::<_, sqlx::Error>(Answer::new("text", "ab"))
        })
    });
    let _answer = ran(told.await);
    let took = "SELECT updated - created FROM SCHEMA.onceward_operations";
    assert!(place.number(took).await >= 50);
    let kept = "SELECT answer_until - updated - retention_ms FROM SCHEMA.onceward_operations";
    assert_eq!(place.number(kept).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_small_when_it_was_counted_is_not_read_as_a_whole() {
    let place = Place::new().await;
    let _first = ran(place.owned(&attempt("first")).await);
    place.run("ANALYZE SCHEMA.onceward_operations").await;
    let mut connection = place.pool.acquire().await.unwrap();
    // A server keeps a plan from the sixth time on.
    for nth in 0..8 {
        for (key, reads) in [(format!("new-{nth}"), "a first run"), ("first".to_owned(), "a replay")] {
            let mut transaction = connection.begin().await.unwrap();
            let told = place.within(&mut transaction, &attempt(&key)).await.unwrap();
            assert!(told.answer().is_some());
            let whole: i64 = sqlx::query_scalar(
                "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'onceward_operations'::regclass",
            )
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
            assert_eq!(whole, 0, "{reads}");
            transaction.commit().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_leaves_nothing() {
    let place = Place::new().await;
    let mut transaction = place.begin().await;
    let _undone = ran(place.within(&mut transaction, &attempt("a")).await);
    transaction.rollback().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (0, 0));
    let _again = ran(place.owned(&attempt("a")).await);
    assert_eq!(place.effects().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_fails_is_undone_and_the_transaction_around_it_goes_on() {
    let place = Place::new().await;
    let mut transaction = place.begin().await;
    note(&mut transaction, "before").await.unwrap();
    let told = place
        .operations
        .run_in(&mut transaction, &attempt("a"), |it| {
            Work::new(async move {
                note(&mut *it, "undone").await?;
                Err(sqlx::Error::RowNotFound)
            })
        })
        .await;
    assert!(matches!(told, Err(OperationError::Work(sqlx::Error::RowNotFound))), "{told:?}");
    // Others are not held up by what was undone.
    let _other = ran(place.owned(&attempt("a")).await);
    note(&mut transaction, "after").await.unwrap();
    transaction.commit().await.unwrap();
    let undone = "SELECT count(*) FROM SCHEMA.ledger WHERE what = 'undone'";
    assert_eq!((place.effects().await, place.number(undone).await), (3, 0));
}

fn swallow(connection: &mut PgConnection) -> Work<'_, 'static, sqlx::Error> {
    Work::new(async move {
        let answer = note(&mut *connection, "undone").await?;
        let _swallowed = sqlx::query("SELECT 1 / 0").execute(connection).await;
        Ok(answer)
    })
}

fn panics(connection: &mut PgConnection) -> Work<'_, 'static, sqlx::Error> {
    Work::new(async move {
        note(&mut *connection, "undone").await?;
        panic!("in the midst of the work")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_sql_that_the_work_swallows_undoes_it() {
    let place = Place::new().await;
    let told = place.operations.run(&place.pool, &attempt("a"), swallow).await;
    assert!(matches!(told, Err(OperationError::Engine(_))), "{told:?}");
    let mut transaction = place.begin().await;
    let told = place.operations.run_in(&mut transaction, &attempt("a"), swallow).await;
    assert!(matches!(told, Err(OperationError::Engine(_))), "{told:?}");
    note(&mut transaction, "after").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_transaction_takes_two_keys_and_replays_one_that_it_has_used() {
    let place = Place::new().await;
    let mut transaction = place.begin().await;
    let first = ran(place.within(&mut transaction, &attempt("a")).await);
    let _second = ran(place.within(&mut transaction, &attempt("b")).await);
    assert_eq!(replayed(place.within(&mut transaction, &attempt("a")).await), first);
    transaction.commit().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_asks_for_its_own_key_is_told_that_it_runs() {
    let place = Place::new().await;
    let (operations, inner) = (&place.operations, &attempt("a"));
    let told = place
        .operations
        .run(&place.pool, &attempt("a"), |it| {
            Work::new(async move {
                let mut nested = it.begin().await?;
                let told = operations.run_in(&mut nested, inner, |it| note(it, "inner")).await;
                assert!(is_busy(&told), "{told:?}");
                nested.commit().await?;
                note(it, "outer").await
            })
        })
        .await;
    let _answer = ran(told);
    assert_eq!(place.effects().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_a_future_that_is_dropped_leave_nothing() {
    let place = Place::new().await;
    // As many awaits as it takes to be dropped in the midst of each of them, and of none.
    let mut ended = 0;
    for polls in 1..40 {
        let key = format!("dropped-{polls}");
        if for_polls(polls, place.owned(&attempt(&key))).await.is_some() {
            ended += 1;
        }
        let key = format!("within-{polls}");
        let mut transaction = place.begin().await;
        let told = for_polls(polls, place.within(&mut transaction, &attempt(&key))).await;
        match told {
            None => drop(transaction),
            Some(_) => {
                transaction.commit().await.unwrap();
                ended += 1;
            }
        }
    }
    assert!(ended > 2, "some come to their end: {ended}");
    let (effects, records) = (place.effects().await, place.records().await);
    assert_eq!(effects, records, "an effect for each record");
    // What was dropped behind its commit is there, too.
    assert!(effects >= ended, "{effects} of {ended}");
    for polls in 1..40 {
        for key in ["dropped", "within"] {
            let told = place.owned(&waiting(&format!("{key}-{polls}"), 25_000)).await;
            assert!(told.unwrap().answer().is_some());
        }
    }
    let effects = place.effects().await;
    assert_eq!(effects, 2 * 39, "once each, whether it was dropped or not");

    let operations = (place.operations.clone(), place.pool.clone());
    #[expect(clippy::disallowed_methods, reason = "it is waited for in the next line")]
    let panicking = tokio::spawn(async move {
        let _never = operations.0.run(&operations.1, &attempt("panic"), panics).await;
    });
    assert!(within(panicking).await.unwrap_err().is_panic());
    // The pool undoes it on a task of its own.
    let _again = ran(place.owned(&waiting("panic", 25_000)).await);
    assert_eq!(place.effects().await, effects + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_dropped_is_undone_though_the_transaction_around_it_commits() {
    let place = Place::new().await;
    let mut transaction = place.begin().await;
    note(&mut transaction, "before").await.unwrap();
    let (reached, mut seen) = tokio::sync::mpsc::channel(1);
    let reached = &reached;
    let attempt = attempt("a");
    let hangs = place.operations.run_in(&mut transaction, &attempt, |it| {
        Work::new(async move {
            note(&mut *it, "undone").await?;
            reached.send(()).await.unwrap();
            std::future::pending().await
        })
    });
    tokio::select! {
        told = hangs => { let _: super::place::Told = told; panic!("it hangs") }
        _ = seen.recv() => {}
    }
    transaction.commit().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_over_is_gone_and_what_is_swept_runs_again() {
    let place = Place::new().await;
    let store = support::open(&place.url).await;
    let _first = ran(place.owned(&attempt("a")).await);
    let earlier = async |columns: &str, millis: u64| {
        let set: Vec<_> = columns.split(' ').map(|it| format!("{it} = {it} - {millis}")).collect();
        place.run(&format!("UPDATE SCHEMA.onceward_operations SET {}", set.join(", "))).await;
    };
    let policy = Policy::default();
    let millis = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap();
    earlier("answer_until gone_until expires_at", millis(policy.retention) + 1000).await;
    assert_eq!(place.owned(&attempt("a")).await.unwrap(), Outcome::Gone, "before it is swept");
    assert_eq!(store.sweep(10).await.unwrap().tombstones, 1);
    assert_eq!(place.owned(&attempt("a")).await.unwrap(), Outcome::Gone, "a tombstone");
    assert_eq!(place.number("SELECT count(answer) FROM SCHEMA.onceward_operations").await, 0);

    earlier("gone_until", millis(policy.tombstone)).await;
    let _second = ran(place.owned(&attempt("a")).await);
    let fresh = "SELECT count(*) FROM SCHEMA.onceward_operations WHERE attempt = 1 AND state = 'done'";
    assert_eq!(place.number(fresh).await, 1, "a new life of the same row");

    let all = millis(policy.retention) + millis(policy.tombstone) + 3_600_000;
    earlier("answer_until gone_until expires_at", all).await;
    assert_eq!(store.sweep(10).await.unwrap().removed, 1);
    assert_eq!(place.records().await, 0);
    let _third = ran(place.owned(&attempt("a")).await);
    assert_eq!(place.effects().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_committed_without_an_answer_is_judged_as_ever() {
    let place = Place::new().await;
    let _first = ran(place.owned(&attempt("a")).await);
    let unfinished =
        "UPDATE SCHEMA.onceward_operations SET state = 'running', answer = NULL, answer_kind = NULL,
        expires_at = NULL, lease_until = ";
    place.run(&format!("{unfinished} 4000000000000")).await;
    assert!(is_busy(&place.owned(&attempt("a")).await), "its lease is alive");
    place.run(&format!("{unfinished} 1")).await;
    let rerun = |it: Attempt| Attempt { policy: Policy { unresolved: Unresolved::Rerun, ..it.policy }, ..it };
    for it in [attempt("a"), rerun(attempt("a"))] {
        assert_eq!(place.owned(&it).await.unwrap(), Outcome::Unresolved, "the record says hold");
    }
    place.run("UPDATE SCHEMA.onceward_operations SET unresolved = 'rerun'").await;
    let _second = ran(place.owned(&rerun(attempt("a"))).await);
    assert_eq!(place.effects().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_there_are_an_error_that_says_what_to_run() {
    let place = Place::new().await;
    // Where no path leads to them.
    let told: super::place::Told =
        Operations::default().run(&place.root, &attempt("a"), |it| note(it, "never")).await;
    let Err(OperationError::Engine(error)) = told else { panic!("{told:?}") };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("onceward store migrate URL"), "{cause}");
    // Where the path of the connection leads, no schema need be named.
    let _answer = ran(Operations::default().run(&place.pool, &attempt("a"), |it| note(it, "done")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_may_sit_in_between() {
    let place = Place::new().await;
    let pooler = PgBouncer::start(Postgres::shared(), "transaction");
    let options: sqlx::postgres::PgConnectOptions = pooler.url().parse().unwrap();
    // It keeps no settings that it does not know. Two clients of it share a session.
    let client = async || sqlx::PgPool::connect_with(options.clone().extra_float_digits(None)).await.unwrap();
    let (one, two) = (client().await, client().await);
    let name = &place.name;
    let operations = Operations::new(OperationSettings {
        schema: Some(name.clone()),
        named_statements: false,
        ..OperationSettings::default()
    });
    let run = async |pool: &sqlx::PgPool| {
        operations
            .run(pool, &attempt("a"), |it| {
                Work::new(async move {
                    let sql = format!("INSERT INTO {name}.ledger (what) VALUES ('done')");
                    sqlx::query(sqlx::AssertSqlSafe(sql)).persistent(false).execute(it).await?;
                    Ok::<_, sqlx::Error>(Answer::new("text", "done"))
                })
            })
            .await
    };
    let first = ran(run(&one).await);
    assert_eq!(replayed(run(&two).await), first);
    assert_eq!(place.effects().await, 1);
}
