//! Key, effect and answer in one transaction of the caller's own: they commit together or not at all, so there is no unknown
//! outcome.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool, engine: onceward_core::Engine) -> Result<(), Box<dyn std::error::Error>> {
//! use onceward_core::{Answer, Attempt, InFlight, Key, Policy, Principal, Scope};
//! use onceward_store_postgres::operations::{Operations, Outcome, Work};
//!
//! let operations = Operations::default();
//! let attempt = Attempt {
//!     scope: Scope {
//!         principal: Principal::ANONYMOUS, // or engine.hasher().await?.principal("user", b"7")
//!         kind: "charge".into(),
//!         host: String::new(),
//!         path: "/payments".into(),
//!     },
//!     key: Key::parse("order-1001")?,
//!     fingerprint: engine.hasher().await?.fingerprint([b"12.00 EUR".as_slice()]),
//!     policy: Policy::default(),
//!     in_flight: InFlight::Reject,
//! };
//! let outcome = operations
//!     .run(&pool, &attempt, |connection| {
//!         Work::new(async move {
//!             let sql = "INSERT INTO payments (cents, currency) VALUES (1200, 'EUR') RETURNING id";
//!             let id: i64 = sqlx::query_scalar(sql).fetch_one(connection).await?;
//!             Ok::<_, sqlx::Error>(Answer::new("payment", id.to_string()))
//!         })
//!     })
//!     .await?;
//! match outcome {
//!     Outcome::Ran(answer) | Outcome::Replayed(answer) => println!("payment {:?}", answer.bytes()?),
//!     Outcome::Busy { retry_after } => println!("ask again in {retry_after:?}"),
//!     Outcome::Mismatch => println!("this key was first used for something else"),
//!     Outcome::Unresolved | Outcome::Gone => println!("not run again: see the record"),
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised, and what is not
//! Of any number of calls with one key, in however many processes and in whatever language, the work of one commits, with
//! its answer; all others get that answer. What is not committed never was: after a crash, an error or a dropped future the
//! next call runs as the first. Only what the work writes through the connection that it is given is in the transaction; a
//! card that it charges elsewhere is not, and for that there are leases and [`Engine`](onceward_core::Engine).
//!
//! The primary key of one table, `onceward_operations`, is what makes it so. An advisory lock before it only keeps callers
//! from waiting where they would rather be told.
//!
//! # Time
//! The server's clock judges how long an answer is kept, and
//! [`Store::sweep`](onceward_core::Store::sweep) of a [`PostgresStore`](crate::PostgresStore) on the same schema drops what
//! is over. The lease and `run_max` of a policy mean nothing here: the transaction is the lease.

mod claim;
mod driver;
mod owned;
mod rows;
mod work;

use std::sync::Arc;
use std::time::Duration;

use onceward_core::{
    Answer, Attempt, Entropy as _, Error, ErrorKind, Hasher, InFlight, Owner, SystemEntropy,
};
use sqlx::{Acquire as _, PgConnection, Postgres, Transaction};

use self::claim::{Begun, Claims, Stop};
pub use self::driver::is_conflict;
pub use self::work::Work;
use crate::PostgresSettings;

/// Runs operations inside transactions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    settings: Arc<OperationSettings>,
    claims: Arc<Claims>,
}

/// The choices of [`Operations`].
#[derive(Debug, Clone)]
pub struct OperationSettings {
    /// The schema that has the tables, as [`PostgresStore`](crate::PostgresStore) or [`migrate`](crate::migrate) made them.
    /// Default: where the `search_path` of the connection leads.
    pub schema: Option<String>,
    /// The isolation of the transactions that [`Operations::run`] begins. Default: the one that the server, the database or
    /// the role has.
    pub isolation: Option<Isolation>,
    /// How often [`Operations::run`] begins again after it met another transaction. Default 50.
    pub conflicts_max: u32,
    /// For how long [`Operations::run`] tries to find out what became of a commit whose answer was lost. Default 30 s.
    pub patience: Duration,
    /// Whether connections keep our statements under a name, which spares a round trip each. Default: they do. Not for a
    /// pooler that gives each transaction another session and knows no names (PgBouncer before 1.21).
    pub named_statements: bool,
    /// Lists a hash of each key instead of the key. Default: lists the key.
    pub hide_keys: Option<Hasher>,
}

/// How far a transaction is kept apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// `READ COMMITTED`
    ReadCommitted,
    /// `REPEATABLE READ`
    RepeatableRead,
    /// `SERIALIZABLE`
    Serializable,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The work ran, and this is its answer.
    Ran(Answer),
    /// It was done before; this is the answer of then. Nothing was run.
    Replayed(Answer),
    /// Another transaction works on it. Nothing was run.
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The key was first used for something else. Nothing was run.
    Mismatch,
    /// Somebody committed a record without an answer, which nobody does who uses this. Nothing was run.
    Unresolved,
    /// It was done; the answer is no longer kept. Nothing was run.
    Gone,
}

/// Why a call has no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError<E> {
    /// The work failed, with this. Nothing of it stays.
    #[error("the operation failed")]
    Work(#[source] E),
    /// The server wants the whole transaction again: it met another one. Nothing of the operation stays.
    #[error("the transaction met another one: roll it back and begin it again")]
    Conflict(#[source] Error),
    /// `Invalid`, `Unavailable`, `Corrupt` and `Lost`: nothing of the operation stays. `Uncertain`, which only
    /// [`Operations::run`] says: its commit may have happened. Asking again with the same key tells.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self {
            schema: None,
            isolation: None,
            conflicts_max: 50,
            patience: Duration::from_secs(30),
            named_statements: true,
            hide_keys: None,
        }
    }
}

impl Default for Operations {
    fn default() -> Self {
        Self::new(OperationSettings::default())
    }
}

impl From<&PostgresSettings> for OperationSettings {
    /// In the schema of that store.
    fn from(store: &PostgresSettings) -> Self {
        Self { schema: store.schema.clone(), ..Self::default() }
    }
}

impl Operations {
    /// Operations as these settings say. Asks nobody.
    #[must_use]
    pub fn new(settings: OperationSettings) -> Self {
        let claims = Arc::new(Claims::new(&settings));
        Self { settings: Arc::new(settings), claims }
    }

    /// Runs `work` in `transaction` unless its key was used before, and leaves its answer there. Both are there for
    /// others when the caller commits, and were never there if he rolls back. Until then others with the same key wait, or
    /// are told that it runs, as their attempt says.
    ///
    /// `work` gets the connection of the transaction and must neither commit nor roll back. It runs behind a savepoint: if
    /// it fails, it is undone, the key is free, and the transaction goes on. An error of SQL that it swallows, so that
    /// PostgreSQL will take no further statement, is met when its answer is to be kept, and undoes it as well.
    ///
    /// Four round trips and those of `work` for a first run and for a replay.
    ///
    /// # Errors
    /// [`OperationError`]. Nothing of the operation stays in the transaction. After
    /// [`Conflict`](OperationError::Conflict), and where [`is_conflict`] says so of an error of `work`, roll the
    /// transaction back and begin it again.
    ///
    /// # Cancel safety
    /// Dropped while `work` runs: sqlx undoes it before the next statement of the transaction. Dropped while the savepoint
    /// is being set: sqlx 0.9 rolls the whole transaction back, and its `commit` says `Ok` nevertheless. So drop the
    /// transaction, too.
    pub async fn run_in<'env, E>(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        attempt: &Attempt,
        work: impl for<'c> FnOnce(&'c mut PgConnection) -> Work<'c, 'env, E>,
    ) -> Result<Outcome, OperationError<E>> {
        attempt.policy.check()?;
        let owner = new_owner()?;
        let mut inner = transaction.begin().await.map_err(|it| Stop::of(&it, "set a savepoint"))?;
        let wait = match attempt.in_flight {
            InFlight::Reject => Duration::ZERO,
            InFlight::Wait(max) => max,
        };
        let begun = self.claims.begin(&mut inner, attempt, owner, wait).await?;
        let held = match begun {
            Begun::Run(held) => held,
            Begun::Told { outcome, .. } => {
                // What was locked is let go, so that others are not told that it runs.
                inner.rollback().await.map_err(|it| Stop::of(&it, "go back to a savepoint"))?;
                return Ok(outcome);
            }
        };
        match work(&mut inner).await {
            Ok(answer) => {
                self.claims.complete(&mut inner, &held, &answer).await?;
                inner.commit().await.map_err(|it| Stop::of(&it, "release a savepoint"))?;
                Ok(Outcome::Ran(answer))
            }
            Err(error) => {
                // What cannot be undone now, because the connection is gone, is not committed either.
                let _ = inner.rollback().await;
                Err(OperationError::Work(error))
            }
        }
    }
}

impl Outcome {
    /// The answer, whether it is of this call or of an earlier one.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Ran(answer) | Self::Replayed(answer) => Some(answer),
            Self::Busy { .. } | Self::Mismatch | Self::Unresolved | Self::Gone => None,
        }
    }
}

impl<E> From<Stop> for OperationError<E> {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Conflict(error) => Self::Conflict(error),
            Stop::Failed(error) => Self::Engine(error),
        }
    }
}

fn new_owner() -> Result<Owner, Error> {
    let mut bytes = [0; 16];
    SystemEntropy
        .fill(&mut bytes)
        .map_err(|it| Error::new(ErrorKind::Unavailable, "make an owner token").caused_by(it))?;
    Ok(Owner::from_bytes(bytes))
}
