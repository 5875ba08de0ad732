//! Listing: what an operator asks for, and which records match.

use std::sync::Arc;
use std::time::Duration;

use crate::key::{Principal, RecordId};
use crate::record::{Record, Status, Timestamp};

/// The kind of the records that Onceward keeps for itself. No listing shows them.
pub(crate) const RESERVED_KIND: &str = "onceward:reserved";

/// Which records to list. An empty filter matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this caller's.
    pub principal: Option<Principal>,
    /// Only this method or kind, as written.
    pub kind: Option<String>,
    /// Only this path, as written.
    pub path: Option<String>,
    /// Only this key, as listed. [`Engine::list`](crate::Engine::list) takes it as its caller sent it.
    pub key: Option<String>,
    /// Only records that look so now.
    pub status: Option<Status>,
    /// Only records that last changed at least this long ago.
    pub older_than: Option<Duration>,
}

impl Filter {
    /// Whether `record` is to be listed at `now`. Onceward's own records never are.
    #[must_use]
    pub fn matches(&self, record: &Record, now: Timestamp) -> bool {
        fn agrees<T: PartialEq + ?Sized>(wanted: Option<&T>, have: &T) -> bool {
            wanted.is_none_or(|it| it == have)
        }
        let listing = &record.listing;
        listing.kind != RESERVED_KIND
            && agrees(self.principal.as_ref(), &listing.principal)
            && agrees(self.kind.as_deref(), listing.kind.as_str())
            && agrees(self.path.as_deref(), listing.path.as_str())
            && agrees(self.key.as_deref(), listing.key.as_str())
            && agrees(self.status.as_ref(), &record.status_at(now))
            && self.older_than.is_none_or(|age| record.updated.after(age) <= now)
    }
}

/// Where the next page begins: after this record, in the store's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub RecordId);

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records, fewer than asked for where the store stopped looking early.
    pub records: Vec<Arc<Record>>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
    /// Records on this page that could not be read. They are left as they are.
    pub unreadable: Vec<RecordId>,
    /// The store's time.
    pub now: Timestamp,
}
