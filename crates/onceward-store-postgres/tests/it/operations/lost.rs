//! Commits whose answer is lost: what became of them is found out, and the effect is there once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onceward_core::{Answer, ErrorKind};
use onceward_store_postgres::operations::{OperationError, OperationSettings, Operations, Outcome, Work};
use onceward_testkit::server::Postgres;
use onceward_testkit::{Way, Wire, eventually, within};
use sqlx::{PgPool, Postgres as Driver, Transaction};
use tokio::task::JoinSet;

use super::place::{self, Place, Told, attempt, note, ran, replayed};

/// Waits at the gate while the commit, or the statement that keeps the answer, is under way.
const GATE: i64 = 4711;

/// A place behind a wire, with a gate in the way of each effect.
struct Cut {
    place: Arc<Place>,
    wire: Wire,
    pool: PgPool,
    calls: Arc<AtomicU32>,
}

impl Cut {
    /// `at` is what waits at the gate.
    async fn new(at: &str) -> Self {
        let server = Postgres::shared();
        let place = Arc::new(Place::on(server).await);
        let wire = Wire::to(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port()))).await;
        let pool = place::pool(server, wire.address().port(), &place.name).await;
        let function = "CREATE FUNCTION SCHEMA.gate() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(GATE); RETURN NULL; END $$"
            .replace("GATE", &GATE.to_string());
        place.run(&function).await;
        place.run(&format!("CREATE {at} FOR EACH ROW EXECUTE FUNCTION SCHEMA.gate()")).await;
        Self { place, wire, pool, calls: Arc::default() }
    }

    async fn at_the_commit() -> Self {
        Self::new("CONSTRAINT TRIGGER gate AFTER INSERT ON SCHEMA.ledger DEFERRABLE INITIALLY DEFERRED").await
    }

    async fn close_gate(&self) -> Transaction<'static, Driver> {
        let mut gate = self.place.root.begin().await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(GATE).execute(&mut *gate).await.unwrap();
        gate
    }

    /// Calls through the wire.
    fn call(&self, patience: Duration) -> JoinSet<Told> {
        let operations = Operations::new(OperationSettings {
            schema: Some(self.place.name.clone()),
            patience,
            ..OperationSettings::default()
        });
        let (pool, calls) = (self.pool.clone(), Arc::clone(&self.calls));
        let mut calling = JoinSet::new();
        calling.spawn(async move {
            let calls = &calls;
            let attempt = attempt("a");
            let told = operations.run(&pool, &attempt, |it| {
                Work::new(async move {
                    calls.fetch_add(1, Ordering::SeqCst);
                    note(it, "done").await
                })
            });
            told.await
        });
        calling
    }

    /// The outcome, how often the work was called, and that the answer is the effect's.
    async fn ended(&self, mut calling: JoinSet<Told>, calls: u32) {
        let answer = ran(within(calling.join_next()).await.unwrap().unwrap());
        assert_eq!(self.calls.load(Ordering::SeqCst), calls);
        assert_eq!((self.place.effects().await, self.place.records().await), (1, 1));
        let id = self.place.number("SELECT id FROM SCHEMA.ledger").await;
        assert_eq!(answer, Answer::new("row", id.to_string()));
        assert_eq!(replayed(self.place.owned(&attempt("a")).await), answer);
    }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_after_the_commit_is_found_and_the_work_does_not_run_again() {
    let cut = Cut::at_the_commit().await;
    let gate = cut.close_gate().await;
    let calling = cut.call(LONG);
    cut.place.until_waiting(1).await;
    cut.wire.lose_answers(1);
    gate.rollback().await.unwrap();
    cut.ended(calling, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_still_under_way_is_waited_for_and_the_work_does_not_run_again() {
    let cut = Cut::at_the_commit().await;
    let gate = cut.close_gate().await;
    let calling = cut.call(LONG);
    cut.place.until_waiting(1).await;
    cut.wire.cut();
    // The commit at the gate, and behind it who asks what became of it.
    cut.place.until_waiting(2).await;
    assert_eq!(cut.place.records().await, 0);
    gate.rollback().await.unwrap();
    cut.ended(calling, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrived_was_none_and_the_work_runs_again() {
    let cut = Cut::new("TRIGGER gate AFTER UPDATE ON SCHEMA.onceward_operations").await;
    let gate = cut.close_gate().await;
    let calling = cut.call(LONG);
    cut.place.until_waiting(1).await;
    // The answer is kept in the transaction, and nothing that the caller says from now on arrives.
    cut.wire.clog(Way::There, true);
    gate.rollback().await.unwrap();
    within(cut.wire.until_stuck(Way::There)).await;
    cut.wire.cut();
    cut.wire.clog(Way::There, false);
    cut.ended(calling, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_which_nothing_can_be_learnt_is_uncertain_and_the_next_call_tells() {
    // Nobody can be asked, or who is asked says that it is still under way.
    for refuses in [true, false] {
        let cut = Cut::at_the_commit().await;
        let gate = cut.close_gate().await;
        let mut calling = cut.call(Duration::from_millis(200));
        cut.place.until_waiting(1).await;
        cut.wire.refuse(refuses);
        cut.wire.cut();
        let told = within(calling.join_next()).await.unwrap().unwrap();
        assert!(
            matches!(&told, Err(OperationError::Engine(error)) if error.kind() == ErrorKind::Uncertain),
            "{told:?}"
        );
        cut.wire.refuse(false);
        let mut again = cut.call(LONG);
        let told = within(again.join_next()).await.unwrap().unwrap();
        assert!(place::is_busy(&told), "the commit is still under way: {told:?}");
        gate.rollback().await.unwrap();
        eventually(async || cut.place.records().await == 1).await;
        replayed(cut.place.owned(&attempt("a")).await);
        assert_eq!((cut.place.effects().await, cut.calls.load(Ordering::SeqCst)), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_always_lost_end_the_call_when_its_patience_is_over() {
    let place = Place::new().await;
    // What the server says of its own troubles at the commit is not trusted: it may have committed.
    place
        .run(
            "CREATE FUNCTION SCHEMA.trouble() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = 'XX000'; END $$",
        )
        .await;
    place
        .run(
            "CREATE CONSTRAINT TRIGGER trouble AFTER INSERT ON SCHEMA.ledger DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION SCHEMA.trouble()",
        )
        .await;
    let operations = Operations::new(OperationSettings {
        schema: Some(place.name.clone()),
        patience: Duration::from_millis(300),
        ..OperationSettings::default()
    });
    let attempt = attempt("a");
    let told = within(operations.run(&place.pool, &attempt, |it| note(it, "done"))).await;
    let is_uncertain =
        matches!(&told, Err(OperationError::Engine(error)) if error.kind() == ErrorKind::Uncertain);
    assert!(is_uncertain, "{told:?}");
    assert_eq!((place.effects().await, place.records().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_commits_by_itself_and_meets_another_is_not_run_once_more() {
    let place = Place::new().await;
    let calls = AtomicU32::new(0);
    let calls = &calls;
    let attempt = attempt("a");
    let told = place.operations.run(&place.pool, &attempt, |it| {
        Work::new(async move {
            calls.fetch_add(1, Ordering::SeqCst);
            note(&mut *it, "done").await?;
            sqlx::raw_sql("COMMIT").execute(&mut *it).await?;
            let meets = "DO $$ BEGIN RAISE EXCEPTION 'met another' USING ERRCODE = '40001'; END $$";
            sqlx::raw_sql(meets).execute(it).await?;
            Ok::<_, sqlx::Error>(Answer::new("row", "never"))
        })
    });
    assert_eq!(within(told).await.unwrap(), Outcome::Unresolved);
    assert_eq!((calls.load(Ordering::SeqCst), place.effects().await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_commits_by_itself_and_ends_after_somebody_else_took_over_is_told_so() {
    let place = Place::new().await;
    let asked = attempt("a");
    let root = &place;
    let told = place.operations.run(&place.pool, &asked, |it| {
        Work::new(async move {
            sqlx::raw_sql("COMMIT").execute(it).await?;
            root.run("UPDATE SCHEMA.onceward_operations SET revision = revision + 1").await;
            Ok::<_, sqlx::Error>(Answer::new("row", "late"))
        })
    });
    let Err(OperationError::Engine(error)) = within(told).await else { panic!("it was not noticed") };
    assert_eq!(error.kind(), ErrorKind::Lost);
    let left = "SELECT count(*) FROM SCHEMA.onceward_operations WHERE state = 'running' AND answer IS NULL";
    assert_eq!(place.number(left).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_a_burst_leaves_one_effect_for_each_answer() {
    const CALLERS: usize = 12;
    const EACH: usize = 40;
    let server = Arc::new(Postgres::start(&[]));
    let place = Arc::new(Place::on(&server).await);
    let (told, mut seen) = tokio::sync::watch::channel(0);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (place, told) = (Arc::clone(&place), told.clone());
        callers.spawn(async move {
            let mut answers = Vec::new();
            for nth in 0..EACH {
                let key = format!("{caller}-{nth}");
                let attempt = attempt(&key);
                let key = key.as_str();
                let answer = loop {
                    let told = place.operations.run(&place.pool, &attempt, |it| {
                        Work::new(async move {
                            let sql = "INSERT INTO ledger (what) VALUES ($1) RETURNING id";
                            let id: i64 = sqlx::query_scalar(sql).bind(key).fetch_one(it).await?;
                            Ok::<_, sqlx::Error>(Answer::new("row", id.to_string()))
                        })
                    });
                    // While the server is away nothing else can be had: the same key is asked for again.
                    match told.await {
                        Ok(Outcome::Ran(answer) | Outcome::Replayed(answer)) => break answer,
                        Ok(Outcome::Busy { .. }) | Err(_) => {
                            tokio::time::sleep(Duration::from_millis(10)).await
                        }
                        Ok(other) => panic!("{other:?}"),
                    }
                };
                told.send_modify(|it| *it += 1);
                answers.push((key.to_owned(), answer));
            }
            answers
        });
    }
    for kill in 1..=3 {
        within(seen.wait_for(|it| *it >= kill * CALLERS * EACH / 5)).await.unwrap();
        let server = Arc::clone(&server);
        let killed = tokio::task::spawn_blocking(move || {
            server.kill();
            server.restart();
        });
        within(killed).await.unwrap();
    }
    let answers: Vec<_> = within(callers.join_all()).await.into_iter().flatten().collect();
    assert_eq!(answers.len(), CALLERS * EACH);
    let after = place::pool(&server, server.port(), &place.name).await;
    let ledger: Vec<(String, i64)> =
        sqlx::query_as("SELECT what, id FROM ledger").fetch_all(&after).await.unwrap();
    assert_eq!(ledger.len(), answers.len(), "one effect for each key");
    for (key, answer) in answers {
        let row = ledger.iter().find(|it| it.0 == key).unwrap();
        assert_eq!(answer, Answer::new("row", row.1.to_string()), "{key}");
    }
}
