//! Looking at many records: what is due, what there is, and what is over.
//!
//! An index says where to look; what counts is the record. Where the two differ, because a record went by itself or
//! cannot be read, the index is mended.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use onceward_core::store::{Agenda, Cursor, DueCursor, DuePage, Expiry, Filter, Page, Swept};
use onceward_core::{ErrorKind, Record, RecordId, Result, Timestamp};

use crate::keys::Bucket;
use crate::node::Needs;
use crate::reply;
use crate::store::{RedisStore, read};
use crate::value;

/// How many records are read at once: each may be as long as the longest answer.
const READ_STEP: usize = 32;
/// How many buckets of a listing are looked into at once.
const BUCKET_STEP: usize = 16;
/// After so many records that do not match, a listing gives the page that it has.
const LOOK_MAX: usize = 2000;
/// The most that one look asks an index for, and after which it gives the page that it has.
const ASK_MAX: usize = 10_000;

/// What an index says: when, and which. A time that is none is [`Timestamp::MAX`].
type Entry = (Timestamp, RecordId);

/// The index entries that have passed.
struct Passed {
    /// The server's time.
    now: Timestamp,
    entries: Vec<Entry>,
    /// Whether there may be more.
    more: bool,
}

/// A record that was looked at because of an index.
enum Look {
    Found(Arc<Record>),
    /// The index was wrong, and was mended.
    Mended,
    Unreadable,
}

impl RedisStore {
    /// What waits for times of this kind that have passed, earliest first. Where an index is wrong it is mended, and the look goes
    /// on behind what was wrong.
    pub(crate) async fn look_due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let mut page = DuePage { records: Vec::new(), next: Some(from), now: Timestamp::MAX };
        let (what, mut at, mut looked) = (from.due().into(), from, 0);
        loop {
            let ask = (limit - page.records.len()).min(ASK_MAX);
            let passed = self.passed(what, at.behind(), ask).await?;
            // What is due by the first time is so by all of them.
            page.now = page.now.min(passed.now);
            for step in passed.entries.chunks(READ_STEP) {
                let looks = step.iter().map(|it| self.look(*it, what, passed.now));
                for look in try_join_all(looks).await? {
                    if let Look::Found(record) = look {
                        page.records.push(record);
                    }
                }
            }
            looked += passed.entries.len();
            // A time that is none is gone from the index by now.
            let real = passed.entries.iter().rfind(|it| it.0 < Timestamp::MAX);
            at = real.map_or(at, |(time, id)| at.pass(*time, *id));
            page.next = passed.more.then_some(at);
            if !passed.more || page.records.len() == limit || looked >= ASK_MAX {
                return Ok(page);
            }
        }
    }

    /// The index entries that have passed, behind this one, at most `limit`, earliest first.
    async fn passed(&self, what: Agenda, behind: Option<Entry>, limit: usize) -> Result<Passed> {
        let ask = limit.to_string();
        let time = behind.map_or_else(String::new, |it| it.0.as_millis().to_string());
        let id = behind.map_or([0; 32], |it| *it.1.as_bytes());
        let script = &self.route.scripts().due;
        let told = join_all(self.buckets.all().iter().map(async |bucket| {
            let keys = [bucket.index(what)];
            let arguments = [ask.as_bytes(), time.as_bytes(), &id[..]];
            reply::due(self.route.call(bucket, script, Needs::Nothing, &keys, &arguments).await?)
        }));
        let (mut entries, mut failed) = (Vec::new(), None);
        // The earliest time that was told: what is judged by it has passed everywhere.
        let mut now = Timestamp::MAX;
        for told in told.await {
            match told {
                Ok((told, some)) => {
                    now = now.min(told);
                    entries.extend(some);
                }
                Err(error) => failed = Some(error),
            }
        }
        // A node that is away does not hold up what is to be done on the others.
        if let Some(error) = failed.filter(|_| now == Timestamp::MAX) {
            return Err(error);
        }
        // What has passed by another node's clock alone is not passed by: its turn comes.
        entries.retain(|it: &Entry| it.0 <= now || it.0 == Timestamp::MAX);
        let more = entries.len() >= limit;
        entries.sort_unstable();
        entries.truncate(limit);
        Ok(Passed { now, entries, more })
    }

    /// The record that an index told of, if it is true.
    async fn look(&self, (time, id): Entry, what: Agenda, now: Timestamp) -> Result<Look> {
        let (_, stored) = self.stored(Needs::Nothing, id).await.or_else(|it| match it.kind() {
            // Something else than a record lies there.
            ErrorKind::Corrupt => Ok((now, Some(bytes::Bytes::new()))),
            _ => Err(it),
        })?;
        match read(id, stored) {
            Ok(Some(record)) if time <= now && record.waits_for(what) == Some(time) => {
                Ok(Look::Found(record))
            }
            Ok(_) => self.mend(id, false).await.map(|()| Look::Mended),
            Err(_) => self.mend(id, true).await.map(|()| Look::Unreadable),
        }
    }

    /// Makes the indexes say of a record what it says itself.
    async fn mend(&self, id: RecordId, unreadable: bool) -> Result<()> {
        let unreadable: &[u8] = if unreadable { b"1" } else { b"0" };
        match self.on_record(&self.route.scripts().mend, Needs::Nothing, id, &[unreadable]).await {
            Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Bucket after bucket, each in the order of its ids.
    pub(crate) async fn look_through(
        &self,
        filter: &Filter,
        cursor: Option<Cursor>,
        limit: usize,
    ) -> Result<Page> {
        let mut page =
            Page { records: Vec::new(), next: cursor, unreadable: Vec::new(), now: Timestamp::ZERO };
        let mut at = cursor.map_or(0, |it| self.buckets.of(it.0).number);
        let (mut after, mut looked) = (cursor.map(|it| it.0), 0);
        let ask = limit.clamp(READ_STEP, 256);
        loop {
            let buckets = self.buckets.from(at);
            let step = &buckets[..buckets.len().min(BUCKET_STEP)];
            if step.is_empty() {
                return Ok(Page { next: None, ..page });
            }
            let told =
                step.iter().map(|bucket| self.scan(bucket, after.filter(|_| bucket.number == at), ask));
            for (bucket, told) in step.iter().zip(try_join_all(told).await?) {
                let (now, ids) = told;
                if page.now == Timestamp::ZERO {
                    page.now = now;
                }
                for some in ids.chunks(READ_STEP) {
                    if page.records.len() >= limit || looked >= LOOK_MAX {
                        return Ok(page);
                    }
                    looked += some.len();
                    let stored = join_all(some.iter().map(|id| self.stored(Needs::Nothing, *id))).await;
                    for (id, stored) in some.iter().zip(stored) {
                        if page.records.len() >= limit {
                            return Ok(page);
                        }
                        self.turn(filter, *id, stored, &mut page).await?;
                        page.next = Some(Cursor(*id));
                    }
                }
                if ids.len() >= ask {
                    // This bucket has more: it is looked into again, from here on.
                    (at, after) = (bucket.number, ids.last().copied());
                    break;
                }
                (at, after) = (bucket.number + 1, None);
            }
        }
    }

    /// Puts one record where it belongs on the page.
    async fn turn(
        &self,
        filter: &Filter,
        id: RecordId,
        stored: Result<(Timestamp, Option<bytes::Bytes>)>,
        page: &mut Page,
    ) -> Result<()> {
        match stored.and_then(|it| read(id, it.1)) {
            Ok(Some(record)) if filter.matches(&record, page.now) => page.records.push(record),
            Ok(Some(_)) => {}
            Ok(None) => self.mend(id, false).await?,
            Err(error) if error.kind() == ErrorKind::Corrupt => page.unreadable.push(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn scan(
        &self,
        bucket: &Bucket,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<(Timestamp, Vec<RecordId>)> {
        let mut from = vec![if after.is_some() { b'(' } else { b'-' }];
        from.extend(after.iter().flat_map(|it| it.as_bytes()));
        let limit = limit.to_string();
        let scan = &self.route.scripts().scan;
        reply::ids(
            self.route.call(bucket, scan, Needs::Nothing, &[&bucket.ids], &[&from, limit.as_bytes()]).await?,
        )
    }

    /// Looks at up to `limit` records that may be over, and does what core says of each, on the revision seen.
    pub(crate) async fn sweep_some(&self, limit: usize) -> Result<Swept> {
        let limit = limit.min(ASK_MAX);
        if limit == 0 {
            return Ok(Swept { more: true, ..Swept::default() });
        }
        let Passed { now, entries, more } = self.passed(Agenda::Expiry, None, limit).await?;
        let mut swept = Swept { more, ..Swept::default() };
        for step in entries.chunks(READ_STEP) {
            for did in try_join_all(step.iter().map(|it| self.expire(*it, now))).await? {
                swept.tombstones += did.tombstones;
                swept.removed += did.removed;
            }
        }
        Ok(swept)
    }

    async fn expire(&self, entry: Entry, now: Timestamp) -> Result<Swept> {
        let nothing = Swept::default();
        let Look::Found(record) = self.look(entry, Agenda::Expiry, now).await? else { return Ok(nothing) };
        let (next, done) = match record.expiry(now) {
            Expiry::Keep => return Ok(nothing),
            Expiry::Tombstone(next) => (value::write(&next), Swept { tombstones: 1, ..nothing }),
            Expiry::Remove => (Vec::new(), Swept { removed: 1, ..nothing }),
        };
        let seen = record.revision.to_string();
        let told = self
            .on_record(&self.route.scripts().expire, Needs::Nothing, record.id, &[seen.as_bytes(), &next])
            .await?;
        Ok(if reply::did(&told)? { done } else { nothing })
    }
}
