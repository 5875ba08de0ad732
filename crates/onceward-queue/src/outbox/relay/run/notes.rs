//! What lines told of their effects, until the database has it.

use onceward_core::{Owner, Result};
use onceward_store_postgres::outbox::{Failed, Held, OutboxTable};
use sqlx::PgPool;

/// How many reports are noted at a time.
const NOTED_MAX: usize = 1000;

/// What lines told of their effects.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) sent: Vec<Held>,
    pub(super) failed: Vec<Failed>,
    pub(super) untouched: Vec<Held>,
}

/// How many of each were still this relay's.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) sent: usize,
    pub(super) fenced: usize,
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.failed.is_empty() && self.untouched.is_empty()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sent.extend(other.sent);
        self.failed.extend(other.failed);
        self.untouched.extend(other.untouched);
    }

    /// Takes what is written at a time.
    pub(super) fn some(&mut self) -> Self {
        fn few<T>(from: &mut Vec<T>) -> Vec<T> {
            from.drain(..from.len().min(NOTED_MAX)).collect()
        }
        Self { sent: few(&mut self.sent), failed: few(&mut self.failed), untouched: few(&mut self.untouched) }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Held> {
        let failed = self.failed.iter().map(|it| it.held);
        self.sent.iter().copied().chain(failed).chain(self.untouched.iter().copied())
    }

    pub(super) async fn write(&self, table: &OutboxTable, pool: &PgPool, owner: Owner) -> Result<Noted> {
        let mut noted = Noted::default();
        if !self.sent.is_empty() {
            noted.sent = table.sent(pool, owner, &self.sent).await?.len();
            noted.fenced = self.sent.len() - noted.sent;
        }
        if !self.failed.is_empty() {
            let count = table.failed(pool, owner, &self.failed).await?.len();
            noted.fenced += self.failed.len() - count;
        }
        if !self.untouched.is_empty() {
            table.give_back(pool, owner, &self.untouched).await?;
        }
        Ok(noted)
    }
}
