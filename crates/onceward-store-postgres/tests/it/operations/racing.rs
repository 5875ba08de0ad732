//! Many callers at once, under each isolation: one effect, and one answer for all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onceward_store_postgres::operations::{
    Isolation, OperationError, OperationSettings, Operations, Outcome, is_conflict,
};
use onceward_testkit::within;
use sqlx::AssertSqlSafe;
use tokio::task::JoinSet;

use super::place::{Place, Told, attempt, waiting};

const CALLERS: usize = 16;
const LEVELS: [(Isolation, &str); 3] = [
    (Isolation::ReadCommitted, "READ COMMITTED"),
    (Isolation::RepeatableRead, "REPEATABLE READ"),
    (Isolation::Serializable, "SERIALIZABLE"),
];

/// Of all that were told something one ran, and all have the same answer. Gives how many were told to come again.
fn one_ran(told: Vec<Told>) -> usize {
    let (mut answers, mut ran, mut busy) = (Vec::new(), 0, 0);
    for it in told {
        match it.unwrap() {
            Outcome::Ran(answer) => {
                ran += 1;
                answers.push(answer);
            }
            Outcome::Replayed(answer) => answers.push(answer),
            Outcome::Busy { .. } => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ran, 1, "one ran");
    assert!(answers.windows(2).all(|it| it[0] == it[1]), "{answers:?}");
    busy
}

/// Callers of the owned form at one key, half of whom would rather be told than wait. They set out together, when a
/// transaction that was before them all, and behind which so many of them wait, is rolled back.
async fn race(place: &Arc<Place>, isolation: Isolation, wait: usize) -> usize {
    let operations = Operations::new(OperationSettings {
        schema: Some(place.name.clone()),
        isolation: Some(isolation),
        conflicts_max: 1000,
        ..OperationSettings::default()
    });
    let mut before = place.begin().await;
    super::place::ran(place.within(&mut before, &attempt("a")).await);
    let mut callers = JoinSet::new();
    for nth in 0..CALLERS {
        let (place, operations) = (Arc::clone(place), operations.clone());
        callers.spawn(async move {
            let attempt = if nth % 2 == 0 { waiting("a", 25_000) } else { attempt("a") };
            operations.run(&place.pool, &attempt, |it| super::place::note(it, "done")).await
        });
    }
    place.until_waiting(i64::try_from(wait).unwrap()).await;
    before.rollback().await.unwrap();
    one_ran(within(callers.join_all()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_has_an_effect_under_each_isolation() {
    for (isolation, _) in LEVELS {
        let place = Arc::new(Place::new().await);
        let busy = race(&place, isolation, CALLERS / 2).await;
        assert!(busy <= CALLERS / 2, "who waits is not sent away: {busy}");
        assert_eq!((place.effects().await, place.records().await), (1, 1), "{isolation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_one_has_an_effect_without_the_advisory_lock_too() {
    for (isolation, _) in LEVELS {
        let place = Arc::new(Place::new().await);
        place
            .run(
                "CREATE OR REPLACE FUNCTION SCHEMA.onceward_operation_lock_1(id bytea, wait_ms bigint) RETURNS boolean
                 LANGUAGE sql AS 'SELECT true'",
            )
            .await;
        let busy = race(&place, isolation, CALLERS).await;
        assert_eq!(busy, 0, "everybody waits for the row, and then sees it");
        assert_eq!((place.effects().await, place.records().await), (1, 1), "{isolation:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_callers_within_bigger_transactions_one_has_an_effect_under_each_isolation() {
    for (_, level) in LEVELS {
        let place = Arc::new(Place::new().await);
        let mut callers = JoinSet::new();
        for nth in 0..CALLERS {
            let place = Arc::clone(&place);
            callers.spawn(async move {
                loop {
                    let begin = AssertSqlSafe(format!("BEGIN ISOLATION LEVEL {level}"));
                    let mut transaction = place.pool.begin_with(begin).await.unwrap();
                    // A snapshot that is older than what the others commit.
                    let sql = "SELECT count(*) FROM ledger";
                    let seen: Result<i64, _> = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await;
                    seen.unwrap();
                    let attempt = if nth % 2 == 0 { waiting("a", 25_000) } else { attempt("a") };
                    match place.within(&mut transaction, &attempt).await {
                        Err(OperationError::Conflict(_)) => continue,
                        Err(OperationError::Work(error)) if is_conflict(&error) => continue,
                        told => match transaction.commit().await {
                            Ok(()) => return told,
                            Err(error) => assert!(is_conflict(&error), "{error}"),
                        },
                    }
                }
            });
        }
        one_ran(within(callers.join_all()).await);
        assert_eq!((place.effects().await, place.records().await), (1, 1), "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_with_keys_of_their_own_all_run_under_each_isolation() {
    const EACH: usize = 10;
    for (isolation, _) in LEVELS {
        let place = Arc::new(Place::new().await);
        let operations = Operations::new(OperationSettings {
            schema: Some(place.name.clone()),
            isolation: Some(isolation),
            ..OperationSettings::default()
        });
        let (mut callers, calls) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for caller in 0..CALLERS {
            let (place, operations, calls) = (Arc::clone(&place), operations.clone(), Arc::clone(&calls));
            callers.spawn(async move {
                for nth in 0..EACH {
                    let attempt = attempt(&format!("{caller}-{nth}"));
                    let told = operations.run(&place.pool, &attempt, |it| {
                        calls.fetch_add(1, Ordering::SeqCst);
                        super::place::note(it, "done")
                    });
                    super::place::ran(told.await);
                }
            });
        }
        within(callers.join_all()).await;
        let all = i64::try_from(CALLERS * EACH).unwrap();
        assert_eq!((place.effects().await, place.records().await), (all, all), "{isolation:?}");
        if isolation != Isolation::Serializable {
            assert_eq!(calls.load(Ordering::SeqCst), CALLERS * EACH, "nobody is in another's way");
        }
    }
}
