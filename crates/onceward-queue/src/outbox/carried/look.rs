//! What operators do with effects that answers carry: count them, look at those that are parked, send them again, drop them.

use onceward_core::store::{Cursor, Filter, Replace};
use onceward_core::transition::carried;
use onceward_core::{Engine, Record, Result, Timestamp};

use super::cargo::{After, Cargo};
use super::deliver::outgoing;
use crate::outbox::{EffectId, Parked, Stats};

/// How many records are looked at in one call.
const PAGE: usize = 500;

/// The effects that the answers in a store carry. Looking for them reads every record of the store.
#[derive(Debug, Clone)]
pub struct AnswerOutbox {
    engine: Engine,
}

impl AnswerOutbox {
    /// Those in the store of `engine`.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// How it stands. What cannot be read is left out.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        let mut cursor = None;
        loop {
            let page = self.engine.list(&Filter::default(), cursor, PAGE).await?;
            for (record, cargo) in page.records.iter().filter_map(|it| Some((it, cargo(it)?))) {
                count(&mut stats, record, &cargo, page.now);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(stats);
            }
        }
    }

    /// Parked effects with where to go on; as many pages as it takes may be empty. Those behind a parked one in its answer wait for
    /// it, and are not shown.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn parked(&self, cursor: Option<Cursor>) -> Result<(Vec<Parked>, Option<Cursor>)> {
        let page = self.engine.list(&Filter::default(), cursor, PAGE).await?;
        let parked = |record: &Record| {
            let cargo = cargo(record)?;
            Some(Parked {
                number: 0,
                since: cargo.parked?,
                effect: outgoing(record, &cargo)?,
                reason: cargo.reason,
            })
        };
        Ok((page.records.iter().filter_map(|it| parked(it)).collect(), page.next))
    }

    /// Lets parked effects be tried again under the ids that they have, as if they never had been, and what is behind them after
    /// that. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be. The same call again is harmless.
    pub async fn redrive(&self, ids: &[EffectId]) -> Result<Vec<EffectId>> {
        self.change(ids, Cargo::untried).await
    }

    /// Gives parked effects up: they never go out, and what is behind them does. Gives those that were parked.
    ///
    /// # Errors
    /// Any: some may be given up. The same call again is harmless.
    pub async fn drop_parked(&self, ids: &[EffectId]) -> Result<Vec<EffectId>> {
        self.change(ids, Cargo::without_first).await
    }

    async fn change(&self, ids: &[EffectId], change: fn(Cargo) -> After) -> Result<Vec<EffectId>> {
        let (mut changed, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.engine.list(&Filter::default(), cursor, PAGE).await?;
            for record in page.records {
                let Some(cargo) = cargo(&record).filter(|it| it.parked.is_some()) else { continue };
                let Some(id) = cargo.items.first().map(|it| it.id).filter(|it| ids.contains(it)) else {
                    continue;
                };
                let put = change(cargo).put(&record);
                // Whoever else changed it did what this call would.
                if let Replace::Kept(_) =
                    self.engine.store().replace(record.id, record.revision, &put).await?
                {
                    changed.push(id);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(changed);
            }
        }
    }
}

fn cargo(record: &Record) -> Option<Cargo> {
    Cargo::read(carried(record)?).ok()
}

fn count(stats: &mut Stats, record: &Record, cargo: &Cargo, now: Timestamp) {
    stats.unsent += cargo.items.len() as u64;
    stats.attempts = stats.attempts.max(cargo.attempts);
    if cargo.parked.is_some() {
        stats.parked += 1;
        return;
    }
    let waits = cargo.since.unwrap_or(record.updated).until(now);
    stats.oldest = Some(stats.oldest.map_or(waits, |it| it.max(waits)));
    // One that rests after a failure says why.
    let is_held = cargo.attempts > 0 && cargo.reason.is_empty() && record.wake_at.is_some_and(|it| now < it);
    stats.owned += u64::from(is_held);
}
