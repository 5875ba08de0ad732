//! The function guard: run an async function once per key, with its result as the stored answer.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Attempt, Begin, Engine};
use crate::error::{Error, ErrorKind};
use crate::record::{Answer, Fence};

const JSON: &str = "json";

/// What a guarded function is told about its run.
#[derive(Clone, PartialEq, Eq)]
pub struct Run {
    /// Hand it to the effect, so that the far side can refuse an old holder.
    pub fence: Fence,
    /// 1 for a first run.
    pub attempt: u32,
    /// What an earlier attempt saved, if anything.
    pub checkpoint: Option<Bytes>,
}

impl fmt::Debug for Run {
    /// What was saved stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("fence", &self.fence)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Why a guarded function failed, and what that says about its effect.
#[derive(Debug)]
pub enum Failure<E> {
    /// Nothing happened: the key is free again.
    NothingHappened(E),
    /// It may have happened: the record is unresolved. This is what `?` makes of an error.
    Unknown(E),
}

impl<E> From<E> for Failure<E> {
    fn from(error: E) -> Self {
        Self::Unknown(error)
    }
}

/// Why [`Engine::run`] has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The first attempt is still running. Nothing was run.
    #[error("the first attempt is still running, ask again in {retry_after:?}")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The key was first used for something else. Nothing was run.
    #[error("the key was first used for a different request")]
    Mismatch,
    /// The first attempt may have happened and is not run again: an operator resolves the record.
    #[error("the outcome of the first attempt is unknown, resolve its record")]
    Unresolved,
    /// It was done; the answer is no longer kept.
    #[error("the operation was done, its answer is no longer kept")]
    Gone,
    /// The function ran and failed.
    #[error("the operation failed")]
    Work(E),
    /// The store, or the shape of a stored answer. When the function had run, the record is unresolved.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl Engine {
    /// Runs `work` once for this attempt's key and gives every repeat its first result.
    ///
    /// The result is stored as JSON and handed out only once it is durable. The lease renews itself while
    /// `work` runs.
    ///
    /// # Errors
    /// See [`RunError`]. A failure of `work` frees the key when it says that nothing happened, and leaves the
    /// record unresolved otherwise.
    ///
    /// # Cancel safety
    /// Dropping the future equals a kill of the process at that place: unresolved once the lease is over.
    pub async fn run<T, E, F>(&self, attempt: &Attempt, work: impl FnOnce(Run) -> F) -> Result<T, RunError<E>>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, Failure<E>>>,
    {
        let mut permit = match self.begin(attempt).await? {
            Begin::Run(permit) => permit,
            Begin::Replay(answer) => return read(&answer),
            Begin::Busy { retry_after } => return Err(RunError::Busy { retry_after }),
            Begin::Mismatch => return Err(RunError::Mismatch),
            Begin::Unresolved => return Err(RunError::Unresolved),
            Begin::Gone => return Err(RunError::Gone),
        };
        let run = Run {
            fence: permit.fence(),
            attempt: permit.attempt(),
            checkpoint: permit.checkpoint().cloned(),
        };
        let ended = permit.keep(work(run)).await;
        match ended {
            Err(_lost) => Err(RunError::Engine(Error::new(ErrorKind::Lost, "keep the lease"))),
            Ok(Ok(value)) => match serde_json::to_vec(&value) {
                Ok(bytes) => read(&permit.complete(Answer::new(JSON, bytes)).await?),
                Err(error) => {
                    permit.abandon("the result cannot be written as JSON").await?;
                    let doing = "write the result as JSON";
                    Err(RunError::Engine(Error::new(ErrorKind::Invalid, doing).caused_by(error)))
                }
            },
            Ok(Err(Failure::NothingHappened(error))) => {
                // The failure is what the caller must hear; a key that could not be freed is unresolved later.
                let _ = permit.release().await;
                Err(RunError::Work(error))
            }
            Ok(Err(Failure::Unknown(error))) => {
                let _ = permit.abandon("the function failed").await;
                Err(RunError::Work(error))
            }
        }
    }
}

fn read<T: DeserializeOwned, E>(answer: &Answer) -> Result<T, RunError<E>> {
    let invalid = || Error::new(ErrorKind::Invalid, "read the stored result: it has another type");
    if answer.kind != JSON {
        return Err(invalid().into());
    }
    serde_json::from_slice(&answer.bytes()?).map_err(|it| invalid().caused_by(it).into())
}
