//! What operators do: look, resolve, remove. Each change swaps on the revision that was shown.

use std::sync::Arc;
use std::time::Duration;

use crate::decide::{Verdict, Verdicts, judge_verdict};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::key::RecordId;
use crate::record::{Record, Revision};
use crate::store::browse::RESERVED_KIND;
use crate::store::{Cursor, Filter, Loaded, Page, Replace};
use crate::transition::resolved;

/// What became of an operator's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operated {
    /// It is so; this is the record now.
    Done(Arc<Record>),
    /// There is no such record. Nothing was written.
    NotFound,
    /// The record is not at the revision that was named; this is how it is. Nothing was written.
    Changed(Arc<Record>),
    /// A permit is out and its lease is alive for this long. Nothing was written.
    LeaseAlive(Duration),
    /// The record has a final answer, or stands for nothing. Nothing was written.
    NothingToResolve,
    /// The answer still [carries](crate::transition::carried) effects that are to go out. Nothing was written.
    Carries,
}

impl Engine {
    /// The record as it is, and the store's time.
    ///
    /// # Errors
    /// The store could not be asked, or the record cannot be read.
    pub async fn show(&self, id: RecordId) -> Result<Loaded> {
        let loaded = self.inner.store.load(id).await?;
        let own = loaded.record.as_ref().is_some_and(|it| it.listing.kind == RESERVED_KIND);
        Ok(if own { Loaded { record: None, ..loaded } } else { loaded })
    }

    /// One page of the records that match. A key is given as its caller sent it, also where listings hide keys.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let mut filter = filter.clone();
        if let (Some(key), true) = (&filter.key, self.hides_keys()) {
            filter.key = Some(self.listed_key(key).await?);
        }
        self.inner.store.list(&filter, cursor, limit).await
    }

    /// Carries out an operator's verdict on the record that was shown at revision `seen`. `forced` also
    /// overrules a holder whose lease is alive; its permit is lost.
    ///
    /// On a shared store a removed answer is still replayed for the life of a cached answer, so that no
    /// process can replay what another runs again.
    ///
    /// # Errors
    /// `Uncertain`: the verdict may have been written; show the record. Others: nothing was written.
    pub async fn verdict(
        &self,
        id: RecordId,
        seen: Revision,
        verdict: &Verdict,
        forced: bool,
    ) -> Result<Operated> {
        let Loaded { record: Some(found), now } = self.show(id).await? else {
            return Ok(Operated::NotFound);
        };
        if found.revision != seen {
            return Ok(Operated::Changed(found));
        }
        match judge_verdict(&found, verdict, forced, now) {
            Verdicts::Allowed => {}
            Verdicts::LeaseAlive => return Ok(Operated::LeaseAlive(now.until(found.lease_until))),
            Verdicts::NothingToResolve => return Ok(Operated::NothingToResolve),
            Verdicts::Carries => return Ok(Operated::Carries),
        }
        let inner = &self.inner;
        inner.heard(now);
        let cached = inner.store.traits().shared.then(|| self.cache_life());
        let put = resolved(&found, verdict, cached, inner.not_after(inner.clock.boot()).await?);
        // Also when the caller leaves before the reply is here: the verdict may be written by then.
        let _forgetting = Forget { engine: self, id };
        let call = inner.store.replace(id, seen, &put);
        match inner.in_budget("write the verdict", call).await? {
            Replace::Kept(record) => {
                inner.observer.on(&Event::Verdict);
                Ok(Operated::Done(record))
            }
            Replace::Lost(Some(record), _) => Ok(Operated::Changed(record)),
            Replace::Lost(None, _) => Ok(Operated::NotFound),
            Replace::Late(now) => {
                inner.heard(now);
                Err(Error::new(ErrorKind::Unavailable, "write the verdict in time"))
            }
        }
    }
}

/// Takes an answer out of the cache when a verdict is over, however it ended.
struct Forget<'a> {
    engine: &'a Engine,
    id: RecordId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.engine.inner.answers.forget(self.id);
    }
}
