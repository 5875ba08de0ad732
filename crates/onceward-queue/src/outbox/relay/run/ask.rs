//! What a relay asks of the database: each question once at a time, when it is due.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Clock, Error, ErrorKind, Result};
use onceward_store_postgres::outbox::Wanted;

use super::Running;

/// How many sent effects are removed at a time.
pub(super) const REMOVED_MAX: usize = 1000;

/// A question that is on its way.
pub(super) type Asking<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

impl Running {
    /// Begins each question to the database that is due and not on its way.
    pub(super) fn ask_what_is_due(&mut self, now: Duration) {
        let (table, pool, owner) = (self.table.clone(), self.pool.clone(), self.owner);
        let (clock, lease) = (Arc::clone(&self.clock), self.settings.lease);
        if self.noting.is_none() && !self.notes.is_empty() && self.note_at <= now {
            let notes = self.notes.some();
            let (table, pool, clock) = (table.clone(), pool.clone(), Arc::clone(&clock));
            self.noting = Some(Box::pin(async move {
                let told = in_time(&*clock, lease, notes.write(&table, &pool, owner)).await;
                (notes, told)
            }));
        }
        if self.extending.is_none() && self.extend_at <= now {
            self.extend_at = now + lease / 3;
            let held = self.hand.all();
            if !held.is_empty() {
                let (table, pool, clock) = (table.clone(), pool.clone(), Arc::clone(&clock));
                self.extending = Some(Box::pin(async move {
                    let told = in_time(&*clock, lease / 3, table.extend(&pool, owner, lease, &held)).await;
                    (now, held, told)
                }));
            }
        }
        if self.stops_at.is_some() {
            return;
        }
        let room = self.settings.in_hand_max.saturating_sub(self.hand.len());
        if self.claiming.is_none() && self.claim_at <= now && room * 2 >= self.settings.in_hand_max {
            let (kinds, settings, after) = (Arc::clone(&self.kinds), self.settings.clone(), self.after);
            let (table, pool, clock) = (table.clone(), pool.clone(), Arc::clone(&clock));
            self.claiming = Some(Box::pin(async move {
                let wanted = Wanted {
                    kinds: &kinds,
                    after,
                    lines_max: room,
                    line_max: settings.line_max,
                    rows_max: room,
                    bytes_max: settings.bytes_max,
                };
                (now, in_time(&*clock, lease, table.claim(&pool, owner, lease, wanted)).await)
            }));
        }
        if let (Some(keep), Some(at)) = (self.settings.keep, self.remove_at)
            && self.removing.is_none()
            && at <= now
        {
            let (table, pool) = (table.clone(), pool.clone());
            self.removing = Some(Box::pin(async move {
                in_time(&*clock, lease, table.cleanup(&pool, keep, REMOVED_MAX)).await
            }));
        }
    }

    /// When something is due next that nothing else wakes for.
    pub(super) fn next_time(&self) -> Duration {
        let stopping = self.stops_at.is_some();
        let room = self.settings.in_hand_max.saturating_sub(self.hand.len());
        let may_claim = !stopping && self.claiming.is_none() && room * 2 >= self.settings.in_hand_max;
        let times = [
            may_claim.then_some(self.claim_at),
            (self.noting.is_none() && !self.notes.is_empty()).then_some(self.note_at),
            self.extending.is_none().then_some(self.extend_at),
            self.remove_at.filter(|_| self.removing.is_none() && !stopping),
            self.stops_at,
        ];
        times.into_iter().flatten().min().unwrap_or(Duration::MAX)
    }
}

/// A question that is not answered in this time is dropped, with its connection.
pub(super) async fn in_time<T>(
    clock: &dyn Clock,
    limit: Duration,
    asking: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        told = asking => told,
        () = clock.sleep(limit) => Err(Error::new(ErrorKind::Uncertain, "hear from the database in time")),
    }
}

/// The answer to a question that is on its way.
pub(super) async fn asked<T>(asking: &mut Asking<T>) -> T {
    let Some(it) = asking.as_mut() else { return pending().await };
    let told = it.await;
    *asking = None;
    told
}
