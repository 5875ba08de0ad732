//! Transactions that met another one: the caller learns that he should begin again, or it is done for him.

use std::sync::atomic::{AtomicU32, Ordering};

use onceward_store_postgres::operations::{
    Isolation, OperationError, OperationSettings, Operations, Work, is_conflict,
};
use sqlx::PgConnection;

use super::place::{Place, attempt, note, ran, replayed};

/// As an application wraps what its driver says.
#[derive(Debug, thiserror::Error)]
enum Shop {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_committed_behind_the_snapshot_is_a_conflict_and_replayed_in_the_next_transaction()
{
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let place = Place::new().await;
        let begin = format!("BEGIN ISOLATION LEVEL {level}");
        let mut late = place.pool.begin_with(sqlx::AssertSqlSafe(begin)).await.unwrap();
        sqlx::query("SELECT 1").execute(&mut *late).await.unwrap();
        let first = ran(place.owned(&attempt("a")).await);
        let told = place.within(&mut late, &attempt("a")).await;
        assert!(matches!(told, Err(OperationError::Conflict(_))), "{told:?}");
        late.rollback().await.unwrap();
        let mut next = place.begin().await;
        assert_eq!(replayed(place.within(&mut next, &attempt("a")).await), first);
        assert_eq!(place.effects().await, 1);
    }
}

/// Changes a row that somebody else changes at the first call, too.
fn count<'c, 'env: 'c>(
    connection: &'c mut PgConnection,
    place: &'env Place,
    calls: &'env AtomicU32,
) -> Work<'c, 'env, Shop> {
    Work::new(async move {
        let sql = "SELECT count(*) FROM ledger";
        let _seen: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            place.run("UPDATE SCHEMA.ledger SET what = 'theirs'").await;
        }
        sqlx::query("UPDATE ledger SET what = 'mine'").execute(&mut *connection).await?;
        Ok(note(connection, "done").await?)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_met_another_transaction_runs_again_in_a_fresh_one() {
    for isolation in [Isolation::RepeatableRead, Isolation::Serializable] {
        for (conflicts_max, runs) in [(20, true), (0, false)] {
            let place = Place::new().await;
            place.run("INSERT INTO SCHEMA.ledger (what) VALUES ('')").await;
            let settings = OperationSettings {
                schema: Some(place.name.clone()),
                isolation: Some(isolation),
                conflicts_max,
                ..OperationSettings::default()
            };
            let calls = AtomicU32::new(0);
            let (at, called) = (&place, &calls);
            let told =
                Operations::new(settings).run(&place.pool, &attempt("a"), |it| count(it, at, called)).await;
            if runs {
                assert!(told.unwrap().answer().is_some());
            } else {
                assert!(matches!(&told, Err(OperationError::Work(it)) if is_conflict(it)), "{told:?}");
            }
            assert_eq!(calls.load(Ordering::SeqCst), if runs { 2 } else { 1 });
            let done = "SELECT count(*) FROM SCHEMA.ledger WHERE what = 'done'";
            assert_eq!((place.number(done).await, place.records().await), (i64::from(runs), i64::from(runs)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_checked_at_the_commit_undoes_all_and_is_no_conflict() {
    let place = Place::new().await;
    place
        .run(
            "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = 'not so'; END $$;
             CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON SCHEMA.ledger DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION SCHEMA.refuse()",
        )
        .await;
    let told = place.owned(&attempt("a")).await;
    let Err(OperationError::Engine(error)) = told else { panic!("{told:?}") };
    assert_eq!(error.kind(), onceward_core::ErrorKind::Invalid);
    assert_eq!((place.effects().await, place.records().await), (0, 0));
}
