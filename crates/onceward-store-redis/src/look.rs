//! Looking at many records: what is due, what there is, and what is over.
//!
//! An index says where to look; what counts is the record. Where the two differ, because a record went by itself or
//! cannot be read, the index is mended.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use onceward_core::store::{Agenda, Cursor, Expiry, Filter, Page, Swept};
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
/// The most that one look asks an index for.
const ASK_MAX: usize = 10_000;

/// A record that was looked at because of an index.
enum Look {
    Found(Arc<Record>),
    /// The index was wrong, and was mended.
    Mended,
    Unreadable,
}

impl RedisStore {
    /// What waits for times of this kind that have passed, earliest first.
    pub(crate) async fn look_due(&self, what: Agenda, limit: usize) -> Result<Vec<Arc<Record>>> {
        let mut ask = limit.clamp(1, ASK_MAX);
        loop {
            let (now, ids, more) = self.passed(what, ask).await?;
            let mut due = Vec::new();
            for step in ids.chunks(READ_STEP) {
                if due.len() >= limit {
                    break;
                }
                for look in try_join_all(step.iter().map(|id| self.look(*id, what, now))).await? {
                    if let Look::Found(record) = look {
                        due.push((when(&record, what), record));
                    }
                }
            }
            // What was wrong in the index is mended by now, or stands in the way for this call alone.
            if due.len() >= limit || !more || ask == ASK_MAX {
                due.sort_by_key(|(when, record)| (*when, record.id));
                return Ok(due.into_iter().map(|it| it.1).take(limit).collect());
            }
            ask = (ask * 2).min(ASK_MAX);
        }
    }

    /// The ids of the index entries that have passed, at most `limit`, earliest first; the server's time; and whether
    /// there may be more.
    async fn passed(&self, what: Agenda, limit: usize) -> Result<(Timestamp, Vec<RecordId>, bool)> {
        let ask = limit.to_string();
        let script = &self.route.scripts().due;
        let told = join_all(self.buckets.all().iter().map(async |bucket| {
            let keys = [bucket.index(what)];
            let arguments = [ask.as_bytes()];
            reply::due(self.route.call(bucket, script, Needs::Nothing, &keys, &arguments).await?)
        }));
        let (mut passed, mut failed) = (Vec::new(), None);
        // The earliest time that was told: what is judged by it has passed everywhere.
        let mut now = Timestamp::MAX;
        for told in told.await {
            match told {
                Ok((told, some)) => {
                    now = now.min(told);
                    passed.extend(some);
                }
                Err(error) => failed = Some(error),
            }
        }
        // A node that is away does not hold up what is to be done on the others.
        if let Some(error) = failed.filter(|_| now == Timestamp::MAX) {
            return Err(error);
        }
        let more = passed.len() >= limit;
        passed.sort_unstable();
        passed.truncate(limit);
        Ok((now, passed.into_iter().map(|it| it.1).collect(), more))
    }

    /// The record that an index told of, if it is true.
    async fn look(&self, id: RecordId, what: Agenda, now: Timestamp) -> Result<Look> {
        let (_, stored) = self.stored(Needs::Nothing, id).await.or_else(|it| match it.kind() {
            // Something else than a record lies there.
            ErrorKind::Corrupt => Ok((now, Some(bytes::Bytes::new()))),
            _ => Err(it),
        })?;
        match read(id, stored) {
            Ok(Some(record)) if when(&record, what).is_some_and(|it| it <= now) => Ok(Look::Found(record)),
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
        let (now, ids, more) = self.passed(Agenda::Expiry, limit).await?;
        let mut swept = Swept { more, ..Swept::default() };
        for step in ids.chunks(READ_STEP) {
            for did in try_join_all(step.iter().map(|id| self.expire(*id, now))).await? {
                swept.tombstones += did.tombstones;
                swept.removed += did.removed;
            }
        }
        Ok(swept)
    }

    async fn expire(&self, id: RecordId, now: Timestamp) -> Result<Swept> {
        let nothing = Swept::default();
        let Look::Found(record) = self.look(id, Agenda::Expiry, now).await? else { return Ok(nothing) };
        let (next, done) = match record.expiry(now) {
            Expiry::Keep => return Ok(nothing),
            Expiry::Tombstone(next) => (value::write(&next), Swept { tombstones: 1, ..nothing }),
            Expiry::Remove => (Vec::new(), Swept { removed: 1, ..nothing }),
        };
        let seen = record.revision.to_string();
        let told = self
            .on_record(&self.route.scripts().expire, Needs::Nothing, id, &[seen.as_bytes(), &next])
            .await?;
        Ok(if reply::did(&told)? { done } else { nothing })
    }
}

/// The time of this kind that a record waits for.
fn when(record: &Record, what: Agenda) -> Option<Timestamp> {
    record.agenda().find(|it| it.0 == what).map(|it| it.1).filter(|it| *it < Timestamp::MAX)
}
