//! Two callers at once: the second is told at once, or waits, as it likes.

use std::sync::Arc;
use std::time::Duration;

use onceward_testkit::within;
use tokio::task::JoinSet;

use super::place::{Place, attempt, is_busy, note, ran, replayed, waiting};

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_does_not_wait_is_told_at_once_and_gets_the_answer_after_the_commit() {
    let place = Place::new().await;
    let mut transaction = place.begin().await;
    let first = ran(place.within(&mut transaction, &attempt("a")).await);
    // The transaction stays open: whoever waited for it would wait for ever.
    assert!(is_busy(&within(place.owned(&attempt("a"))).await));
    let mut other = place.begin().await;
    assert!(is_busy(&within(place.within(&mut other, &attempt("a"))).await));
    note(&mut other, "goes on").await.unwrap();
    other.commit().await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(replayed(place.owned(&attempt("a")).await), first);
    assert_eq!(place.effects().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_that_waits_gets_the_answer_after_the_commit_and_runs_after_a_rollback() {
    for commits in [true, false] {
        let place = Arc::new(Place::new().await);
        let mut transaction = place.begin().await;
        let first = ran(place.within(&mut transaction, &attempt("a")).await);
        let mut callers = JoinSet::new();
        for within in [true, false] {
            let place = Arc::clone(&place);
            callers.spawn(async move {
                if !within {
                    return place.owned(&waiting("a", 25_000)).await;
                }
                let mut transaction = place.begin().await;
                let told = place.within(&mut transaction, &waiting("a", 25_000)).await;
                let limit = sqlx::query_scalar("SHOW lock_timeout").fetch_one(&mut *transaction).await;
                let limit: String = limit.unwrap();
                assert_eq!(limit, "0", "the caller's own limit is as it was");
                transaction.commit().await.unwrap();
                told
            });
        }
        place.until_waiting(2).await;
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        let told = within(callers.join_all()).await;
        let answers: Vec<_> = told.into_iter().map(|it| it.unwrap().answer().cloned().unwrap()).collect();
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0] == first, commits);
        assert_eq!(place.effects().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_too_long_ends_busy_and_the_transaction_goes_on_as_it_was() {
    let place = Place::new().await;
    let mut holder = place.begin().await;
    let _first = ran(place.within(&mut holder, &attempt("a")).await);
    let mut transaction = place.begin().await;
    note(&mut transaction, "before").await.unwrap();
    sqlx::query("SET LOCAL lock_timeout = '7s'").execute(&mut *transaction).await.unwrap();
    let told = within(place.within(&mut transaction, &waiting("a", 30))).await;
    assert!(is_busy(&told), "{told:?}");
    let kept: String = sqlx::query_scalar("SHOW lock_timeout").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(kept, "7s", "the caller's own limit is as it was");
    let _other = ran(place.within(&mut transaction, &attempt("b")).await);
    transaction.commit().await.unwrap();
    holder.rollback().await.unwrap();
    assert_eq!((place.effects().await, place.records().await), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_only_told_holds_nobody_up() {
    let place = Place::new().await;
    let _first = ran(place.owned(&attempt("a")).await);
    let mut told = place.begin().await;
    assert!(place.within(&mut told, &attempt("a")).await.unwrap().answer().is_some());
    let mut failed = place.begin().await;
    let error = place.operations.run_in(&mut failed, &attempt("b"), |_| super::place::fail()).await;
    assert!(error.is_err());
    // Both transactions are still open.
    assert!(place.owned(&attempt("a")).await.unwrap().answer().is_some());
    let _second = ran(place.owned(&attempt("b")).await);
    told.rollback().await.unwrap();
    failed.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_else_holds_costs_time_and_nothing_else() {
    let place = Place::new().await;
    let id = attempt("a").record_id();
    let mut other = place.root.begin().await.unwrap();
    let name = i64::from_be_bytes(*id.as_bytes().first_chunk().unwrap()) ^ 0x6f6e_6365_7761_7264;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(name).execute(&mut *other).await.unwrap();
    assert!(is_busy(&place.owned(&attempt("a")).await));
    assert!(is_busy(&within(place.owned(&waiting("a", 20))).await));
    other.rollback().await.unwrap();
    let first = ran(place.owned(&attempt("a")).await);
    // Whoever can be told by what is committed needs no lock.
    let mut other = place.root.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(name).execute(&mut *other).await.unwrap();
    assert_eq!(replayed(within(place.owned(&attempt("a"))).await), first);
    other.rollback().await.unwrap();
    assert_eq!(place.effects().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_of_two_keys_is_a_conflict_for_one_of_the_two() {
    let place = Place::new().await;
    place.run("ALTER ROLE SCHEMA SET deadlock_timeout = '20ms'").await;
    let place = Arc::new(Place { pool: super::place::again(&place).await, ..place });
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let mut callers = JoinSet::new();
    for (mine, theirs) in [("a", "b"), ("b", "a")] {
        let (place, meet) = (Arc::clone(&place), Arc::clone(&meet));
        callers.spawn(async move {
            let mut conflicts = 0;
            loop {
                let mut transaction = place.begin().await;
                let first = place.within(&mut transaction, &waiting(mine, 25_000)).await;
                assert!(first.unwrap().answer().is_some());
                if conflicts == 0 {
                    let _ = tokio::time::timeout(Duration::from_secs(2), meet.wait()).await;
                }
                match place.within(&mut transaction, &waiting(theirs, 25_000)).await {
                    Ok(told) => {
                        assert!(told.answer().is_some(), "{told:?}");
                        transaction.commit().await.unwrap();
                        return conflicts;
                    }
                    Err(error) => {
                        assert!(
                            matches!(error, onceward_store_postgres::operations::OperationError::Conflict(_)),
                            "{error:?}"
                        );
                        conflicts += 1;
                    }
                }
            }
        });
    }
    let conflicts = within(callers.join_all()).await;
    assert_eq!(conflicts.iter().sum::<u32>(), 1, "one of the two gave way, once");
    assert_eq!((place.effects().await, place.records().await), (2, 2));
}
