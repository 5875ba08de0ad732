//! Effect, outcome and whatever else the handler writes, in one transaction of PostgreSQL: they commit together or not at all.

use std::fmt;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use onceward_core::{Answer, Error, ErrorKind, Result, Unresolved};
use onceward_store_postgres::operations::{OperationError, Operations, Outcome, Work};
use sqlx::{PgConnection, PgPool};
use tokio::sync::OnceCell;

use crate::desk::{Case, Desk, Known, Told, parked};
use crate::event::Event;
use crate::handler::{Failure, Handling};
use crate::strength::{Strength, caught};
use crate::verdict::{After, Reason};

/// A handler that writes its effect through the connection that it is given.
pub(crate) type InTransaction =
    Box<dyn for<'c> Fn(Handling, &'c mut PgConnection) -> BoxFuture<'c, Result<(), Failure>> + Send + Sync>;

pub(crate) struct Transactional {
    pub(crate) pool: PgPool,
    pub(crate) operations: Operations,
    pub(crate) handler: InTransaction,
}

impl fmt::Debug for Transactional {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").finish_non_exhaustive()
    }
}

/// Why the transaction was rolled back.
#[derive(Debug, thiserror::Error)]
enum Undone {
    /// The handler said so. Its cause is looked at: it may be that the server wants the transaction again.
    #[error("the handler failed")]
    Handler {
        failure: Failure,
        #[source]
        cause: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
    },
    #[error("it was tried as often as it may be")]
    TooOften,
    #[error("an attempt cannot be counted")]
    NotCounted(#[source] Error),
}

#[async_trait]
impl Strength for Transactional {
    async fn run(&self, desk: &Desk, case: &mut Case) -> Result<Told> {
        // Counted once, however often the server wants the transaction again.
        let counted = OnceCell::<(Known, Option<u32>)>::new();
        let (here, count) = (&*case, &counted);
        let outcome = self
            .operations
            .run(&self.pool, &case.attempt, |connection| {
                Work::new(async move {
                    let counting = count.get_or_try_init(|| desk.count(here.record, here.known, 1));
                    let (_, attempt) = counting.await.map_err(Undone::NotCounted)?;
                    let attempt = attempt.ok_or(Undone::TooOften)?;
                    self.attempt(desk, here, attempt, connection).await
                })
            })
            .await;
        let known = counted.get().map_or(case.known, |it| it.0);
        match outcome {
            Ok(Outcome::Ran(_)) => {
                desk.observer.on(&Event::Done);
                Ok(Told::Over)
            }
            Ok(Outcome::Replayed(_) | Outcome::Gone) => {
                desk.observer.on(&Event::DuplicateOfDone);
                Ok(Told::Over)
            }
            Ok(Outcome::Busy { retry_after }) => {
                desk.observer.on(&Event::DuplicateOfRunning);
                Ok(Told::Again(retry_after))
            }
            Ok(Outcome::Mismatch) => Ok(Told::Dead { reason: Reason::OtherPayload, attempts: 0 }),
            Ok(Outcome::Unresolved) => {
                Ok(Told::Dead { reason: Reason::Unresolved, attempts: known.tries.count })
            }
            Err(OperationError::Work(Undone::Handler { failure, .. })) => {
                // It was rolled back, whatever it was.
                match desk.judge(&failure, known.tries.count, Unresolved::Rerun) {
                    After::Again(pause) => desk.postpone(case.record, known, pause).await,
                    After::Park(reason) => {
                        self.give_up(desk, case, reason, failure.reason(), known.tries.count).await
                    }
                }
            }
            Err(OperationError::Work(Undone::TooOften)) => {
                let detail = "its handler did not end";
                self.give_up(desk, case, Reason::Attempts, detail, known.tries.count).await
            }
            Err(OperationError::Work(Undone::NotCounted(error)) | OperationError::Engine(error)) => {
                Err(error)
            }
            // It met others all the time. Nobody failed.
            Err(OperationError::Conflict(_)) => Ok(Told::Again(desk.retries.pause)),
            Err(error) => {
                Err(Error::new(ErrorKind::Unavailable, "work on a message in a transaction").caused_by(error))
            }
        }
    }
}

impl Transactional {
    async fn attempt(
        &self,
        desk: &Desk,
        case: &Case,
        attempt: u32,
        connection: &mut PgConnection,
    ) -> Result<Answer, Undone> {
        let handling = Handling {
            message: case.delivery.message.clone(),
            key: case.attempt.key.clone(),
            fence: None,
            attempt,
            checkpoint: None,
        };
        desk.observer.on(&Event::Begun { attempt, took_over: false });
        match caught(desk, (self.handler)(handling, connection)).await {
            Ok(()) => Ok(Answer::new("done", "")),
            Err(failure) => {
                let cause = match &failure {
                    Failure::Unknown { cause, .. } => cause.clone(),
                    Failure::Retry { .. } | Failure::Park { .. } => None,
                };
                Err(Undone::Handler { failure, cause })
            }
        }
    }

    /// Puts the message among the dead letters, then says so where its outcome would stand.
    async fn give_up(
        &self,
        desk: &Desk,
        case: &Case,
        reason: Reason,
        detail: &str,
        attempts: u32,
    ) -> Result<Told> {
        desk.park(&case.delivery, Some(case.record), reason, detail, attempts).await?;
        let said = self.operations.run(&self.pool, &case.attempt, |_| {
            Work::new(async move { Ok::<_, std::convert::Infallible>(parked(reason)) })
        });
        match said.await {
            Ok(Outcome::Busy { retry_after }) => Ok(Told::Again(retry_after)),
            Ok(
                Outcome::Ran(_)
                | Outcome::Replayed(_)
                | Outcome::Gone
                | Outcome::Mismatch
                | Outcome::Unresolved,
            ) => Ok(Told::Over),
            Err(OperationError::Engine(error)) => Err(error),
            Err(error) => {
                Err(Error::new(ErrorKind::Unavailable, "note that a message is parked").caused_by(error))
            }
        }
    }
}
