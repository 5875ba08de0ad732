//! A claim and its completion, as statements of somebody else's transaction. The rules are core's.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::decide::{Claim, Decision, RETRY_AFTER};
use onceward_core::store::Put;
use onceward_core::transition::{self, Asked, Claiming, Next};
use onceward_core::{
    Answer, Attempt, Error, ErrorKind, Hasher, Listing, Owner, Record, RecordId, Revision, Timestamp,
};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection, Row as _};
use tokio::time::Instant;

use super::{OperationSettings, Outcome, driver, rows};
use crate::fault::{Cause, Fault};
use crate::puts;
use crate::row::{Columns, length};
use crate::sql::{self, Sql};
use crate::told::{strange, told};

/// How often a claim asks again at once because what it saw has changed.
const TRIES: usize = 100;
/// The transaction is the limit: what its connection did not commit is undone.
const NOT_AFTER: Timestamp = Timestamp::MAX;

/// The statements of operations.
#[derive(Debug)]
pub(super) struct Claims {
    vacant: Arc<str>,
    claim: Arc<str>,
    done: Arc<str>,
    named: bool,
    hide_keys: Option<Hasher>,
}

/// What a claim led to.
pub(super) enum Begun {
    /// The work is to run under this claim.
    Run(Held),
    /// It is not. `by` is whose answer it is.
    Told { outcome: Outcome, by: Option<Owner> },
}

/// A claim in a transaction that is open.
pub(super) struct Held {
    record: Arc<Record>,
    /// When the server had told it.
    since: Instant,
}

/// Why a statement of ours gave nothing. The transaction is to be rolled back, at least to where the statement began.
#[derive(Debug)]
pub(super) enum Stop {
    /// It met another transaction.
    Conflict(Error),
    /// Anything else.
    Failed(Error),
}

impl Claims {
    pub(super) fn new(settings: &OperationSettings) -> Self {
        let sql = Sql::new(settings.schema.as_deref());
        let text = |template: &str| Arc::from(sql.fill(template));
        Self {
            vacant: text(include_str!("../sql/operation_vacant.sql")),
            claim: text(&sql::call("operation_claim", 25)),
            done: text("SELECT {operation_done}($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"),
            named: settings.named_statements,
            hide_keys: settings.hide_keys,
        }
    }

    /// Claims the operation for `owner`, or says why not. Waits at most for `wait` for another transaction.
    pub(super) async fn begin(
        &self,
        connection: &mut PgConnection,
        attempt: &Attempt,
        owner: Owner,
        wait: Duration,
    ) -> Result<Begun, Stop> {
        let deadline = Instant::now().checked_add(wait);
        let id = attempt.record_id();
        let key = attempt.key.as_str();
        let key = self.hide_keys.map_or_else(|| key.to_owned(), |it| it.listed_key(key));
        let listing = Arc::new(Listing::of(&attempt.scope, key));
        let claim = Claim { owner, fingerprint: attempt.fingerprint, policy: attempt.policy };
        let mut claiming = Claiming::new(claim);
        for _ in 0..TRIES {
            let put = claiming.put(Arc::clone(&listing), NOT_AFTER);
            puts::check(&put)?;
            let left = deadline.map_or(wait, |it| it.saturating_duration_since(Instant::now()));
            let Some(asked) = self.ask(connection, id, claiming.seen(), &put, left).await? else {
                return Ok(busy());
            };
            match claiming.heard(asked) {
                Next::Run { record, by_this_call: true } => {
                    return Ok(Begun::Run(Held { record, since: Instant::now() }));
                }
                // A claim of this call's own that is committed without an answer: its work has committed by itself, and is
                // not run once more.
                Next::Run { record, by_this_call: false } => {
                    return Ok(Begun::Told { outcome: Outcome::Unresolved, by: Some(record.owner) });
                }
                Next::Again | Next::Late => {}
                Next::Busy => return Ok(busy()),
                Next::Told(decision, found, _) => {
                    return Ok(Begun::Told { outcome: in_words(decision), by: Some(found.owner) });
                }
            }
        }
        let cause = Cause("others changed it all the time".to_owned());
        Err(Error::new(ErrorKind::Unavailable, "claim the operation").caused_by(cause).into())
    }

    /// One statement where nobody else has it and nobody works on it, two else. `None` where somebody works on it for longer
    /// than `wait`.
    async fn ask(
        &self,
        connection: &mut PgConnection,
        id: RecordId,
        seen: Option<Revision>,
        put: &Put,
        wait: Duration,
    ) -> Result<Option<Asked>, Stop> {
        const DOING: &str = "claim the operation";
        if seen.is_none()
            && let Some(record) = self.vacant(connection, id, put).await?
        {
            return Ok(Some(Asked::Kept(record)));
        }
        let ids = [id];
        let mut values = PgArguments::default();
        // A wait that is not zero is at least a millisecond.
        let wait = wait.max(Duration::from_millis(u64::from(!wait.is_zero())));
        let first = [values.add(length(wait)), values.add(seen.map(puts::number))];
        let third = values.add(puts::is_new_life(put));
        first.into_iter().chain([third]).collect::<Result<(), _>>().map_err(|it| unsent(&it, DOING))?;
        driver::add(&mut values, puts::inserts(&[(id, put)], &ids))
            .map_err(|it| Stop::of_fault(&it, DOING))?;
        let Some(row) = self.row(connection, &self.claim, values, DOING).await? else { return Ok(None) };
        let told = told(&row, id, put)?;
        Ok(Some(match (told.kept, told.found) {
            (Some(kept), _) => Asked::Kept(kept),
            (None, Some(found)) => Asked::Found(found, told.now),
            // It was committed after the snapshot of the statement, or removed before: look again.
            (None, None) => Asked::Nothing,
        }))
    }

    /// Claims what nobody has and nobody works on. Most claims are such, so this is the statement that costs the server least.
    async fn vacant(
        &self,
        connection: &mut PgConnection,
        id: RecordId,
        put: &Put,
    ) -> Result<Option<Arc<Record>>, Stop> {
        const DOING: &str = "claim the operation";
        let values = rows::vacant(id, put).map_err(|it| unsent(&it, DOING))?;
        let Some(row) = self.row(connection, &self.vacant, values, DOING).await? else { return Ok(None) };
        let now = Columns::from(&row, 0).time().ok_or_else(|| strange(DOING))?;
        Ok(Some(Arc::new(put.stamp(id, None, now))))
    }

    /// Leaves the answer in the record.
    pub(super) async fn complete(
        &self,
        connection: &mut PgConnection,
        held: &Held,
        answer: &Answer,
    ) -> Result<(), Stop> {
        const DOING: &str = "keep the answer";
        let put = transition::completed(&held.record, answer.clone(), NOT_AFTER);
        puts::check(&put)?;
        // The server's clock, as far as it is known without asking for it.
        let now = held.record.updated.after(held.since.elapsed());
        let done = put.stamp(held.record.id, Some(&held.record), now);
        let values = rows::done(held.record.revision, &done).map_err(|it| unsent(&it, DOING))?;
        let row = self.row(connection, &self.done, values, DOING).await?;
        match row.and_then(|it| it.try_get(0).ok()) {
            Some(true) => Ok(()),
            // Only this transaction can have changed its record.
            Some(false) => Err(Error::new(ErrorKind::Lost, DOING).into()),
            None => Err(strange(DOING).into()),
        }
    }

    async fn row(
        &self,
        connection: &mut PgConnection,
        text: &Arc<str>,
        values: PgArguments,
        doing: &'static str,
    ) -> Result<Option<PgRow>, Stop> {
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(text)), values).persistent(self.named);
        query.fetch_optional(connection).await.map_err(|it| Stop::of(&it, doing))
    }
}

fn busy() -> Begun {
    Begun::Told { outcome: Outcome::Busy { retry_after: RETRY_AFTER }, by: None }
}

fn in_words(decision: Decision) -> Outcome {
    match decision {
        Decision::Replay(answer) => Outcome::Replayed(answer),
        Decision::Mismatch => Outcome::Mismatch,
        Decision::Unresolved => Outcome::Unresolved,
        Decision::Gone => Outcome::Gone,
        Decision::Busy { .. } | Decision::Yours | Decision::TakeOver { .. } => {
            Outcome::Busy { retry_after: RETRY_AFTER }
        }
    }
}

fn unsent(error: &sqlx::error::BoxDynError, doing: &'static str) -> Stop {
    Stop::of_fault(&Fault::Unsent(Cause(error.to_string())), doing)
}

impl Stop {
    /// From sqlx's error on a statement before the commit: what it did, if anything, is undone.
    pub(super) fn of(error: &sqlx::Error, doing: &'static str) -> Self {
        Self::of_fault(&Fault::of_sqlx(error), doing)
    }

    fn of_fault(fault: &Fault, doing: &'static str) -> Self {
        let kind = if fault.is_of_values() { ErrorKind::Invalid } else { ErrorKind::Unavailable };
        let error = Error::new(kind, doing).caused_by(fault.cause().clone());
        if fault.met_another() { Self::Conflict(error) } else { Self::Failed(error) }
    }
}

impl From<Error> for Stop {
    /// What cannot be understood was not committed either.
    fn from(error: Error) -> Self {
        Self::Failed(match error.kind() {
            ErrorKind::Uncertain => {
                Error::new(ErrorKind::Unavailable, "understand the server").caused_by(error)
            }
            _ => error,
        })
    }
}
