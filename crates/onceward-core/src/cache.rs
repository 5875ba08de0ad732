//! Completed answers that this process has seen. Answers are immutable until they expire, so a hit needs no
//! store; the fingerprint is compared on every hit, and expiry is counted from before the store was asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::fingerprint::Fingerprint;
use crate::key::RecordId;
use crate::record::Answer;

#[derive(Debug)]
pub(crate) struct Answers {
    cache: Cache<RecordId, Entry, ByBytes>,
    life_max: Duration,
    /// Counts operators' verdicts, so that an answer read before one is not cached after it.
    verdicts: AtomicU64,
}

#[derive(Debug, Clone)]
struct Entry {
    fingerprint: Fingerprint,
    answer: Answer,
    until: Duration,
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<RecordId, Entry> for ByBytes {
    fn weight(&self, _id: &RecordId, entry: &Entry) -> u64 {
        entry.answer.stored_len() as u64 + 256
    }
}

/// What the cache knows about a request.
#[derive(Debug)]
pub(crate) enum Hit {
    Replay(Answer),
    Mismatch,
}

/// The cache as it was before a store was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    verdicts: u64,
    boot: Duration,
}

impl Before {
    /// When it was, on the boot clock.
    pub(crate) fn boot(self) -> Duration {
        self.boot
    }
}

impl Answers {
    /// Holds about `bytes` of answers, each for at most `life_max`.
    pub(crate) fn new(bytes: u64, life_max: Duration) -> Self {
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX).clamp(1, 100_000);
        Self { cache: Cache::with_weighter(items, bytes, ByBytes), life_max, verdicts: AtomicU64::new(0) }
    }

    /// To be taken before the store is asked.
    pub(crate) fn before(&self, boot: Duration) -> Before {
        Before { verdicts: self.verdicts.load(Ordering::SeqCst), boot }
    }

    pub(crate) fn get(&self, id: RecordId, asked: &Fingerprint, boot: Duration) -> Option<Hit> {
        let entry = self.cache.get(&id)?;
        if boot >= entry.until {
            self.cache.remove(&id);
            return None;
        }
        Some(if entry.fingerprint == *asked { Hit::Replay(entry.answer) } else { Hit::Mismatch })
    }

    /// Remembers an answer that the store keeps for `left` more.
    pub(crate) fn put(
        &self,
        id: RecordId,
        asked: Fingerprint,
        answer: &Answer,
        left: Duration,
        before: Before,
    ) {
        let until = before.boot.saturating_add(left.min(self.life_max));
        self.cache.insert(id, Entry { fingerprint: asked, answer: answer.clone(), until });
        // A verdict that came meanwhile has already removed what it found; remove what came too late.
        if self.verdicts.load(Ordering::SeqCst) != before.verdicts {
            self.cache.remove(&id);
        }
    }

    /// To be called after an operator's verdict was written.
    pub(crate) fn forget(&self, id: RecordId) {
        self.verdicts.fetch_add(1, Ordering::SeqCst);
        self.cache.remove(&id);
    }
}
