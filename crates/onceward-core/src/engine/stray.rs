//! Claims that may land after their `begin` has ended: noted when it ends, released when they are found.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::Inner;
use crate::decide::Finish;
use crate::error::{Error, ErrorKind, Result};
use crate::key::RecordId;
use crate::record::{Owner, Timestamp};
use crate::store::Replace;
use crate::transition::{self, abandoned, given_back, judge_stray, released};

/// How many stray claims are released at once, so that they share the store's work.
const STRAYS_AT_ONCE: usize = 64;

/// A claim that may land after its `begin` has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stray {
    id: RecordId,
    owner: Owner,
    not_after: Timestamp,
    /// Whether it took over a record whose outcome is unknown.
    after_unknown: bool,
}

impl Inner {
    /// Releases claims that landed after their `begin` had ended. Nothing ran under them.
    pub(super) async fn release_strays(&self) -> Result<()> {
        // Each stays on the list until its matter is closed, also when this future is dropped on the way.
        let strays: Vec<Stray> = self.strays().values().copied().collect();
        let mut released = stream::iter(strays)
            .map(|stray| async move { (stray, self.release_stray(stray).await) })
            .buffer_unordered(STRAYS_AT_ONCE);
        let mut failed = None;
        while let Some((stray, closed)) = released.next().await {
            match closed {
                Ok(true) => drop(self.strays().remove(&(stray.id, stray.owner))),
                Ok(false) => {}
                // It cannot be read, so it cannot be released either: an operator sees it.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    self.strays().remove(&(stray.id, stray.owner));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn strays(&self) -> MutexGuard<'_, BTreeMap<(RecordId, Owner), Stray>> {
        self.strays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the matter is closed: released, or it can no longer land.
    async fn release_stray(&self, stray: Stray) -> Result<bool> {
        let loaded = self.store.load(stray.id).await?;
        self.heard(loaded.now);
        let shown = loaded.record.as_deref();
        let found = match (judge_stray(shown, stray.owner, stray.not_after, loaded.now), shown) {
            (transition::Stray::Landed, Some(found)) => found,
            (judged, _) => return Ok(judged == transition::Stray::Over),
        };
        let not_after = loaded.now.after(self.settings.call_budget);
        let put = match given_back(stray.after_unknown) {
            Finish::Abandon => abandoned(found, "its caller left while it was taken over", not_after),
            Finish::Renew | Finish::Complete | Finish::Release => released(found, not_after),
        };
        let replaced = self.store.replace(stray.id, found.revision, &put).await?;
        // Once it is kept, no copy of the claim can land any more: the revision has moved on.
        Ok(matches!(replaced, Replace::Kept(_)))
    }

    fn stray(&self, stray: Stray) {
        self.strays().insert((stray.id, stray.owner), stray);
    }
}

/// Remembers, when `begin` ends without a permit or is dropped, that a claim may still land.
pub(super) struct Unsure<'a> {
    inner: &'a Inner,
    id: RecordId,
    owner: Owner,
    /// Until when a call of ours may land; `None` while none can.
    not_after: Option<Timestamp>,
    /// When the last call was sent.
    last_asked: Duration,
    /// When the first call was sent whose reply was lost.
    pub(super) since: Option<Duration>,
    /// Whether a call of ours may have taken over a record whose outcome is unknown.
    after_unknown: bool,
}

impl<'a> Unsure<'a> {
    pub(super) fn new(inner: &'a Inner, id: RecordId, owner: Owner) -> Self {
        let last_asked = Duration::ZERO;
        Self { inner, id, owner, not_after: None, last_asked, since: None, after_unknown: false }
    }

    /// A call is under way: until its reply is here, it may land.
    pub(super) fn sent(&mut self, not_after: Timestamp, asked: Duration, after_unknown: bool) {
        self.not_after = self.not_after.max(Some(not_after));
        self.after_unknown = after_unknown;
        self.last_asked = asked;
    }

    /// The call under way got no reply.
    pub(super) fn uncertain(&mut self) {
        self.since.get_or_insert(self.last_asked);
    }

    /// The reply is here and nothing of ours can land any more, unless an earlier call got no reply.
    pub(super) fn settle_unless_uncertain(&mut self) {
        if self.since.is_none() {
            self.settle();
        }
    }

    /// The record was seen after all calls, or is ours.
    pub(super) fn settle(&mut self) {
        self.not_after = None;
    }

    /// A refusal says "nothing was written" only when that holds for every call of this `begin`.
    pub(super) fn refused(&self, error: Error) -> Error {
        if self.since.is_some() && error.kind() == ErrorKind::Unavailable {
            return Error::new(ErrorKind::Uncertain, "claim the record").caused_by(error);
        }
        error
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(not_after) = self.not_after {
            let (id, owner, after_unknown) = (self.id, self.owner, self.after_unknown);
            self.inner.stray(Stray { id, owner, not_after, after_unknown });
        }
    }
}
