//! Transactions that are begun and committed here: again where they met another one, and found out about where the answer
//! to the commit was lost.

use std::error::Error as StdError;
use std::time::Duration;

use onceward_core::{Answer, Attempt, Error, ErrorKind, InFlight, Owner};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::time::Instant;

use super::claim::{Begun, Stop};
use super::driver::is_conflict;
use super::{Isolation, OperationError, Operations, Outcome, Work, new_owner};
use crate::fault::Fault;

/// The first and the longest pause before a transaction is begun again.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// The longest that one statement waits for a commit whose answer was lost.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long one waits at least where the lock may be that of the try before: a server says that it refuses a commit before it
/// has let go of it.
const OWN_WAIT: Duration = Duration::from_millis(200);

/// How one transaction ended.
enum Ended<E> {
    /// As it should.
    Told { outcome: Outcome, by: Option<Owner> },
    /// It was not committed.
    Not(OperationError<E>),
    /// Nobody knows whether it was committed.
    Unsure(Error),
}

/// The state of one call of [`Operations::run`].
struct Trying {
    owner: Owner,
    started: Instant,
    /// Whether there was a try before, which the server may still be undoing.
    again: bool,
    /// Since when it is not known what became of a commit, and what was met then.
    unsure: Option<(Instant, Error)>,
    /// When the answer to a commit was lost for the first time. One that is always lost ends the call, too.
    first_lost: Option<Instant>,
}

impl Operations {
    /// Begins a transaction, runs `work` in it unless the key of `attempt` was used before, and commits it with the answer.
    ///
    /// Where the transaction has to give way to another one (`serialization_failure`, `deadlock_detected`) all of it is
    /// begun again, up to [`conflicts_max`](super::OperationSettings::conflicts_max) times, after a pause; this is also seen
    /// in an error of `work` that is sqlx's or has it as its source. Where the answer to the commit is lost, the claim is
    /// made again by the same owner: if the commit is still under way, that waits for it; if it happened, the answer is
    /// there; if it did not, `work` runs again. So `work` may be called several times, each time in a fresh transaction after
    /// the one before was undone. What it does outside of the transaction is not undone.
    ///
    /// Five round trips with those of one statement of `work`; four for a replay.
    ///
    /// # Errors
    /// [`OperationError`]. Only after `Uncertain` may the operation have been committed; the next call with the key tells.
    ///
    /// # Cancel safety
    /// A dropped call is undone, unless its commit was sent. The next call with the key tells.
    pub async fn run<'env, E: StdError + 'static>(
        &self,
        pool: &PgPool,
        attempt: &Attempt,
        mut work: impl for<'c> FnMut(&'c mut PgConnection) -> Work<'c, 'env, E>,
    ) -> Result<Outcome, OperationError<E>> {
        attempt.policy.check()?;
        let mut trying = Trying {
            owner: new_owner()?,
            started: Instant::now(),
            again: false,
            unsure: None,
            first_lost: None,
        };
        let (mut conflicts, mut tries) = (0, 0);
        loop {
            match self.once(pool, attempt, &mut trying, &mut work).await {
                Ended::Told { outcome: Outcome::Replayed(answer), by } if by == Some(trying.owner) => {
                    return Ok(Outcome::Ran(answer));
                }
                Ended::Told { outcome: Outcome::Busy { .. }, .. } if trying.unsure.is_some() => {}
                Ended::Told { outcome, .. } => return Ok(outcome),
                Ended::Unsure(error) => {
                    let since = *trying.first_lost.get_or_insert_with(Instant::now);
                    trying.unsure = Some((since, error));
                }
                Ended::Not(OperationError::Engine(_)) if trying.unsure.is_some() => {}
                Ended::Not(OperationError::Conflict(error)) => {
                    conflicts += 1;
                    if conflicts > self.settings.conflicts_max && trying.unsure.is_none() {
                        return Err(OperationError::Conflict(error));
                    }
                }
                Ended::Not(OperationError::Work(error))
                    if is_conflict(&error) && conflicts < self.settings.conflicts_max =>
                {
                    conflicts += 1;
                }
                Ended::Not(error) => return Err(error),
            }
            if let Some((since, error)) = trying.unsure.take() {
                if since.elapsed() >= self.settings.patience {
                    return Err(OperationError::Engine(error));
                }
                trying.unsure = Some((since, error));
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }

    /// One transaction.
    async fn once<'env, E>(
        &self,
        pool: &PgPool,
        attempt: &Attempt,
        trying: &mut Trying,
        work: &mut impl for<'c> FnMut(&'c mut PgConnection) -> Work<'c, 'env, E>,
    ) -> Ended<E> {
        let mut transaction = match self.transaction(pool).await {
            Ok(it) => it,
            Err(error) => return Ended::Not(Stop::of(&error, "begin a transaction").into()),
        };
        let wait = match (&trying.unsure, attempt.in_flight) {
            // Whoever is in the way may be this call's own commit.
            (Some((since, _)), _) => self.settings.patience.saturating_sub(since.elapsed()).min(WAIT_MAX),
            (None, InFlight::Reject) => Duration::ZERO,
            (None, InFlight::Wait(max)) => max.saturating_sub(trying.started.elapsed()),
        };
        let wait = if trying.again { wait.max(OWN_WAIT) } else { wait };
        trying.again = true;
        let held = match self.claims.begin(&mut transaction, attempt, trying.owner, wait).await {
            Ok(Begun::Run(held)) => held,
            Ok(Begun::Told { outcome, by }) => {
                // Nothing was written. A connection that is gone is found out about when it is used next.
                let _ = transaction.rollback().await;
                return Ended::Told { outcome, by };
            }
            Err(stop) => return undone(transaction, stop.into()).await,
        };
        // The key was vacant: what was committed before, if anything, was not this.
        trying.unsure = None;
        match work(&mut transaction).await {
            Ok(answer) => {
                if let Err(stop) = self.claims.complete(&mut transaction, &held, &answer).await {
                    return undone(transaction, stop.into()).await;
                }
                commit(transaction, answer).await
            }
            Err(error) => undone(transaction, OperationError::Work(error)).await,
        }
    }

    async fn transaction(&self, pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        match self.settings.isolation {
            None => pool.begin().await,
            Some(Isolation::ReadCommitted) => pool.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await,
            Some(Isolation::RepeatableRead) => pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await,
            Some(Isolation::Serializable) => pool.begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE").await,
        }
    }
}

/// Rolls back, and waits for it: until then its lock is in the way of the next try.
async fn undone<E>(transaction: Transaction<'static, Postgres>, error: OperationError<E>) -> Ended<E> {
    // What cannot be undone now, because the connection is gone, is not committed either.
    let _ = transaction.rollback().await;
    Ended::Not(error)
}

async fn commit<E>(transaction: Transaction<'static, Postgres>, answer: Answer) -> Ended<E> {
    const DOING: &str = "commit the operation";
    let Err(error) = transaction.commit().await else {
        return Ended::Told { outcome: Outcome::Ran(answer), by: None };
    };
    let fault = Fault::of_sqlx(&error);
    match fault {
        Fault::Refused { .. } | Fault::Unsent(_) => Ended::Not(Stop::of(&error, DOING).into()),
        Fault::Lost(cause) => Ended::Unsure(Error::new(ErrorKind::Uncertain, DOING).caused_by(cause)),
    }
}

/// Doubles with each try; so many who met do not meet again.
fn pause(tries: u32) -> Duration {
    let most = PAUSE_MIN.saturating_mul(1 << tries.min(10)).min(PAUSE_MAX);
    most.mul_f64(0.25 + 0.75 * fastrand::f64())
}
