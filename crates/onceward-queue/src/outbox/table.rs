//! The outbox that is a table of PostgreSQL.

use onceward_core::Result;
use onceward_store_postgres::outbox::{NewRow, OutboxTable, ParkedRow};
use sqlx::{PgConnection, PgPool};

use super::relay::outgoing;
use super::{Effect, EffectId, Parked, Stats};

/// Where effects wait until they go out: a table of PostgreSQL. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub(super) table: OutboxTable,
    notify: bool,
}

/// The choices of an [`Outbox`].
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// The schema that has the tables, as `onceward store migrate` made them. Default: where the `search_path` of the connection leads.
    pub schema: Option<String>,
    /// Whether relays are woken at each commit, and so need not wait for their next look. Default: they are not. The server lets
    /// transactions that notify commit one after the other, those of all its databases.
    pub notify: bool,
    /// Whether connections keep our statements under a name. Default: they do. Not for a pooler that gives each transaction
    /// another session and knows no names (PgBouncer before 1.21).
    pub named_statements: bool,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self { schema: None, notify: false, named_statements: true }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(&OutboxSettings::default())
    }
}

/// Why an effect was not added. The transaction is to be rolled back, at least to a savepoint before.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The effect breaks a rule.
    #[error("the effect cannot be added: {0}")]
    Invalid(&'static str),
    /// The system has no random bytes for an id.
    #[error("an id cannot be made")]
    NoId(#[source] std::io::Error),
    /// The server refused, or is gone. Where it wants the transaction again,
    /// [`is_conflict`](onceward_store_postgres::operations::is_conflict) says so.
    #[error("the effect was not added")]
    Database(#[from] sqlx::Error),
}

impl Outbox {
    /// An outbox with these choices.
    #[must_use]
    pub fn new(settings: &OutboxSettings) -> Self {
        let table = OutboxTable::new(settings.schema.as_deref(), settings.named_statements);
        Self { table, notify: settings.notify }
    }

    /// Adds an effect in the transaction that `connection` is in: it goes out once that has committed, under the id that is given
    /// back. Outside of a transaction it goes out at once.
    ///
    /// One with a key waits until other transactions that added to it have ended.
    ///
    /// # Errors
    /// [`AddError`]. The transaction is to be rolled back, at least to a savepoint before.
    ///
    /// # Cancel safety
    /// A dropped call leaves a transaction that is to be rolled back.
    pub async fn add(&self, connection: &mut PgConnection, effect: &Effect) -> Result<EffectId, AddError> {
        effect.check().map_err(AddError::Invalid)?;
        let id = EffectId::random().map_err(AddError::NoId)?;
        let row = NewRow {
            id: *id.as_bytes(),
            kind: &effect.kind,
            destination: &effect.destination,
            key: effect.key.as_deref(),
            headers: &effect.headers,
            body: &effect.body,
        };
        self.table.add(connection, row, self.notify).await?;
        Ok(id)
    }

    /// Adds effects in one order for all who do: such transactions never wait for one another in a circle, unless they add more
    /// afterwards. Those of one key keep the order in which they stand. Gives the ids in that order, too.
    ///
    /// A transaction holds a lock for each key until it ends; the server has room for about `max_locks_per_transaction` of them for
    /// each connection that it allows.
    ///
    /// # Errors
    /// As [`add`](Self::add): some may be added.
    pub async fn add_all(
        &self,
        connection: &mut PgConnection,
        effects: &[Effect],
    ) -> Result<Vec<EffectId>, AddError> {
        let mut order: Vec<_> = effects.iter().enumerate().collect();
        order.sort_by_key(|(_, it)| (&it.key, &it.kind, &it.destination));
        let mut ids = vec![EffectId::from_bytes([0; 16]); effects.len()];
        for (place, effect) in order {
            ids[place] = self.add(connection, effect).await?;
        }
        Ok(ids)
    }

    /// How it stands. Looks at every unsent effect.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn stats(&self, pool: &PgPool) -> Result<Stats> {
        self.table.stats(pool).await.map(Stats::from)
    }

    /// Up to `max` parked effects whose numbers are above `after` (0 for all), in the order in which they were added.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn parked(&self, pool: &PgPool, after: i64, max: usize) -> Result<Vec<Parked>> {
        let parked = |it: ParkedRow| Parked {
            number: it.row.held.seq,
            since: it.parked_at,
            reason: it.reason,
            effect: outgoing(it.row, 0),
        };
        Ok(self.table.parked(pool, after, max).await?.into_iter().map(parked).collect())
    }

    /// Lets parked effects be tried again under the ids that they have, as if they never had been, and what is behind them after
    /// that. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be. The same call again is harmless.
    pub async fn redrive(&self, pool: &PgPool, ids: &[EffectId]) -> Result<Vec<EffectId>> {
        self.table.redrive(pool, &bytes(ids)).await.map(named)
    }

    /// Removes parked effects: they never go out, and what is behind them does. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be removed. The same call again is harmless.
    pub async fn drop_parked(&self, pool: &PgPool, ids: &[EffectId]) -> Result<Vec<EffectId>> {
        self.table.drop_parked(pool, &bytes(ids)).await.map(named)
    }
}

fn bytes(ids: &[EffectId]) -> Vec<[u8; 16]> {
    ids.iter().map(|it| *it.as_bytes()).collect()
}

fn named(ids: Vec<[u8; 16]>) -> Vec<EffectId> {
    ids.into_iter().map(EffectId::from_bytes).collect()
}
