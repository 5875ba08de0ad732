//! What a store owes, as a model: the records as they should be, and each reply judged against them.
//!
//! Where a store is free to choose, the model follows what it is shown: which of several records a bounded sweep takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Due, DuePage, Filter, Insert, Page, Put, Replace, SETTLE, Swept};
use onceward_core::{Fence, Owner, Record, RecordId, Revision, State, Status, Timestamp};

use super::shown::differ;

pub(crate) type Verdict = Result<(), String>;

/// The records that a store should hold.
#[derive(Debug)]
pub(crate) struct Reference {
    records: BTreeMap<RecordId, Record>,
    /// The highest fence and revision that were told for a record, in this life or an earlier one.
    highest: BTreeMap<RecordId, (Fence, Revision)>,
    /// The store's time as it was last told.
    now: Timestamp,
    /// When the last change was told, [`Timestamp::ZERO`] before the first.
    mark: Timestamp,
    /// Whether the store's clock is in our hand, so that its time is known and not only heard.
    exact: bool,
}

impl Reference {
    /// A store without records that told its time.
    pub(crate) fn new(now: Timestamp, exact: bool) -> Self {
        Self { records: BTreeMap::new(), highest: BTreeMap::new(), now, mark: Timestamp::ZERO, exact }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// The clock in our hand went on.
    pub(crate) fn pass(&mut self, pause: Duration) {
        self.now = later(self.now, pause);
    }

    /// The store said what time it is.
    pub(crate) fn time(&mut self, told: Timestamp) -> Verdict {
        if told < self.now || (self.exact && told != self.now) {
            return Err(format!("the store's time is {told:?}, but it should be {:?}", self.now));
        }
        self.now = told;
        Ok(())
    }

    /// Of a vacant place an insert is kept; of any other it shows what is there.
    pub(crate) fn insert(&mut self, id: RecordId, put: &Put, told: &Insert) -> Verdict {
        match told {
            Insert::Late(now) => self.late(put, *now),
            Insert::Found(shown, now) => {
                self.in_time(put, *now)?;
                self.is(id, Some(shown))
            }
            Insert::Kept(kept) => {
                self.is(id, None)?;
                self.keep(id, put, kept)
            }
        }
    }

    /// Only on the revision that is there a swap is kept; else it shows what is there.
    pub(crate) fn replace(&mut self, id: RecordId, seen: Revision, put: &Put, told: &Replace) -> Verdict {
        let at = self.records.get(&id).map(|it| it.revision);
        match told {
            Replace::Late(now) => self.late(put, *now),
            Replace::Lost(shown, now) => {
                self.in_time(put, *now)?;
                if at == Some(seen) {
                    return Err("a swap on the stored revision was lost".to_owned());
                }
                self.is(id, shown.as_deref())
            }
            Replace::Kept(_) if at != Some(seen) => {
                Err(format!("a swap on {seen:?} was kept, but {at:?} is stored"))
            }
            Replace::Kept(kept) => self.keep(id, put, kept),
        }
    }

    /// What is there is what should be there.
    pub(crate) fn is(&self, id: RecordId, shown: Option<&Record>) -> Verdict {
        differ(id, self.records.get(&id), shown).map_or(Ok(()), Err)
    }

    fn late(&mut self, put: &Put, now: Timestamp) -> Verdict {
        self.time(now)?;
        if now <= put.not_after {
            return Err(format!(
                "it is said to be late at {now:?}, but may be carried out till {:?}",
                put.not_after
            ));
        }
        Ok(())
    }

    fn in_time(&mut self, put: &Put, now: Timestamp) -> Verdict {
        self.time(now)?;
        if now > put.not_after {
            return Err(format!("it was judged at {now:?}, but only till {:?} it may be", put.not_after));
        }
        Ok(())
    }

    fn keep(&mut self, id: RecordId, put: &Put, kept: &Record) -> Verdict {
        self.in_time(put, kept.updated)?;
        let old = self.records.remove(&id);
        let should = stamped(id, put, old.as_ref(), kept.updated);
        differ(id, Some(&should), Some(kept)).map_or(Ok(()), Err)?;
        let granted = put.grant.is_some() || old.is_none();
        self.note(kept, granted)?;
        self.records.insert(id, should);
        Ok(())
    }

    /// Fences and revisions grow over everything that happens to a record, its removal too.
    fn note(&mut self, kept: &Record, granted: bool) -> Verdict {
        self.mark = self.mark.max(kept.updated);
        let (fence, revision) = self.highest.entry(kept.id).or_insert((Fence(0), Revision(0)));
        if kept.revision <= *revision {
            return Err(format!("the revision {:?} was told, and {revision:?} before it", kept.revision));
        }
        if granted && kept.fence <= *fence {
            return Err(format!("the fence {:?} was granted, and {fence:?} before it", kept.fence));
        }
        (*fence, *revision) = ((*fence).max(kept.fence), kept.revision);
        Ok(())
    }

    /// All pages of one look at what is due, taken while nothing changes, show all that was due at `from` and nothing that is not due
    /// now: each record once, the earliest first and those of one time by their ids. Only where the last page says that there is more
    /// something may be left.
    pub(crate) fn due(&self, due: Due, limit: usize, from: Timestamp, pages: &[DuePage]) -> Verdict {
        let mut before = None;
        for page in pages {
            if page.records.len() > limit {
                return Err(format!("{} are shown, but only {limit} were asked for", page.records.len()));
            }
            if page.now < from || page.now > self.now {
                return Err(format!("the time of a page is {:?}, not {from:?} to {:?}", page.now, self.now));
            }
            for record in &page.records {
                self.is(record.id, Some(record))?;
                let Some(when) = waits_until(record, due).filter(|it| *it <= self.now) else {
                    return Err(format!("{:?} is not due at {:?}", record.id, self.now));
                };
                let place = Some((when, record.id));
                if before >= place {
                    return Err("what is due is not shown once, earliest first and by its id".to_owned());
                }
                before = place;
            }
        }
        if pages.last().is_some_and(|it| it.next.is_some()) {
            return Ok(());
        }
        let shown = |id| pages.iter().flat_map(|it| &it.records).any(|it| it.id == id);
        let is_due = |it: &&Record| waits_until(it, due).is_some_and(|it| it <= from);
        match self.records.values().filter(is_due).find(|it| !shown(it.id)) {
            Some(it) => Err(format!("{:?} is due and was passed over", it.id)),
            None => Ok(()),
        }
    }

    /// All pages of one listing, taken while nothing changes, show every record that matches once.
    pub(crate) fn list(&mut self, filter: &Filter, pages: &[Page]) -> Verdict {
        let mut left: Vec<&Record> = Vec::new();
        for page in pages {
            self.time(page.now)?;
        }
        let (first, last) = (pages.first().map_or(self.now, |it| it.now), self.now);
        let mut shown: Vec<_> =
            pages.iter().flat_map(|it| it.records.iter().map(move |record| (record, it.now))).collect();
        for record in self.records.values() {
            match shown.iter().position(|it| it.0.id == record.id) {
                Some(at) => {
                    let (record, now) = shown.swap_remove(at);
                    self.is(record.id, Some(record))?;
                    if !matches(filter, record, now) {
                        return Err(format!("{:?} is listed and does not match", record.id));
                    }
                }
                None => left.push(record),
            }
        }
        if let Some((record, _)) = shown.first() {
            return Err(format!("{:?} is listed twice, or is not there", record.id));
        }
        if let Some(it) = left.iter().find(|it| matches(filter, it, first) && matches(filter, it, last)) {
            return Err(format!("{:?} matches and is not listed", it.id));
        }
        Ok(())
    }

    /// What a sweep between `from` and now left of every record: it did what it says to at most `limit` of them, only
    /// to what is over, and leaves nothing undone without saying so.
    pub(crate) fn sweep(
        &mut self,
        limit: usize,
        swept: Swept,
        from: Timestamp,
        left: &BTreeMap<RecordId, Option<Arc<Record>>>,
    ) -> Verdict {
        let (mut tombstones, mut removed, mut undone) = (0, 0, 0);
        for (id, left) in left {
            let Some(old) = self.records.get(id).cloned() else {
                self.is(*id, left.as_deref())?;
                continue;
            };
            match left {
                Some(same) if **same == old => undone += u64::from(is_over(&old, from)),
                None => {
                    if !is_settled(&old, self.now) {
                        return Err(format!(
                            "{id:?} was removed at {:?} and was not over: {old:?}",
                            self.now
                        ));
                    }
                    self.records.remove(id);
                    self.mark = self.now;
                    removed += 1;
                }
                Some(tombstone) => {
                    let at = tombstone.updated;
                    if at < from || at > self.now || !is_over(&old, at) || is_settled(&old, at) {
                        return Err(format!(
                            "a sweep changed a record that was not over: {old:?} to {tombstone:?}"
                        ));
                    }
                    let should = Record {
                        state: State::Tombstone,
                        checkpoint: None,
                        revision: Revision(grown(old.revision.0, at)),
                        updated: at,
                        ..old
                    };
                    differ(*id, Some(&should), Some(tombstone)).map_or(Ok(()), Err)?;
                    self.note(tombstone, false)?;
                    self.records.insert(*id, should);
                    tombstones += 1;
                }
            }
        }
        let (did, said) = ((tombstones, removed), (swept.tombstones, swept.removed));
        if did != said {
            return Err(format!("a sweep did {did:?} and said {said:?} (tombstones, removed)"));
        }
        if u64::try_from(limit).is_ok_and(|it| tombstones + removed > it) {
            return Err(format!("a sweep of {limit} changed {} records", tombstones + removed));
        }
        let idle = tombstones + removed == 0 && limit > 0;
        if undone > 0 && (idle || !swept.more) {
            return Err(format!("a sweep left {undone} records that are over, more: {}", swept.more));
        }
        Ok(())
    }

    /// What an opened store shows. One that is durable shows everything, and its time is not behind what it told; one
    /// that is not may have forgotten, but then everything.
    pub(crate) fn reopened(
        &mut self,
        durable: bool,
        wall: Option<Timestamp>,
        now: Timestamp,
        shown: &BTreeMap<RecordId, Option<Arc<Record>>>,
    ) -> Verdict {
        if !durable && shown.values().all(Option::is_none) {
            *self = Self::new(now, self.exact);
            return Ok(());
        }
        for (id, record) in shown {
            self.is(*id, record.as_deref()).map_err(|it| format!("after the opening {it}"))?;
        }
        if now < self.mark {
            return Err(format!(
                "the store's time went back to {now:?}, behind its last change at {:?}",
                self.mark
            ));
        }
        if wall.is_some_and(|wall| now > self.now.max(wall)) {
            return Err(format!("the store's time is {now:?} though no clock was ever there"));
        }
        self.now = now;
        Ok(())
    }
}

/// Times never pass the end of time.
fn later(time: Timestamp, pause: Duration) -> Timestamp {
    let millis = u128::from(time.as_millis()) + pause.as_millis();
    u64::try_from(millis).map_or(Timestamp::MAX, Timestamp::from_millis)
}

/// The next fence or revision: it grows by one, or to where the store's time is.
fn grown(previous: u64, now: Timestamp) -> u64 {
    let by_time = u128::from(now.as_millis()) * 1024;
    let by_one = u128::from(previous) + 1;
    u64::try_from(by_time.max(by_one)).unwrap_or(u64::MAX)
}

/// The record that is kept: what was put, with what only the store may say.
fn stamped(id: RecordId, put: &Put, old: Option<&Record>, now: Timestamp) -> Record {
    let new_life = old.is_none() || put.grant.is_some_and(|it| it.new_life);
    // Only a grant changes who holds the record, under which fence, for the how-many-th time, and for how long.
    let (owner, fence, attempt, run_until) = match (put.grant, old) {
        (None, Some(old)) => (old.owner, old.fence, old.attempt, old.run_until),
        (grant, old) => (
            grant.map_or(Owner::NOBODY, |it| it.owner),
            Fence(grown(old.map_or(0, |it| it.fence.0), now)),
            u32::from(grant.is_some()) + old.filter(|_| !new_life).map_or(0, |it| it.attempt),
            later(now, put.policy.run_max),
        ),
    };
    let mut record = Record {
        id,
        listing: Arc::clone(&put.listing),
        rules: put.rules,
        fingerprint: put.fingerprint,
        state: put.state.clone(),
        owner,
        fence,
        revision: Revision(grown(old.map_or(0, |it| it.revision.0), now)),
        attempt,
        policy: put.policy,
        checkpoint: put.checkpoint.clone(),
        // Nothing is exclusive and nothing ends, unless the state says so.
        lease_until: now,
        run_until,
        answer_until: Timestamp::MAX,
        gone_until: Timestamp::MAX,
        wake_at: put.wake_after.map(|it| later(now, it)),
        created: old.filter(|_| !new_life).map_or(now, |it| it.created),
        updated: now,
    };
    match record.state {
        State::Running => record.lease_until = later(now, put.policy.lease).min(run_until),
        State::Abandoned { .. } => {}
        State::Released => (record.answer_until, record.gone_until) = (now, now),
        // Whoever is to be woken has still to do with it.
        State::Done(_) | State::Tombstone if record.wake_at.is_some() => {}
        State::Done(_) | State::Tombstone => {
            record.answer_until = later(now, put.policy.retention);
            record.gone_until = later(record.answer_until, put.policy.tombstone);
        }
    }
    record
}

/// When a record is due for this.
fn waits_until(record: &Record, due: Due) -> Option<Timestamp> {
    match due {
        Due::Lease => (record.state == State::Running).then_some(record.lease_until),
        Due::Wake => record.wake_at,
    }
}

fn is_finished(record: &Record) -> bool {
    matches!(record.state, State::Released | State::Done(_) | State::Tombstone)
}

/// Whether a record stood for nothing long enough, so that it may be removed.
fn is_settled(record: &Record, now: Timestamp) -> bool {
    is_finished(record) && later(record.gone_until, SETTLE) <= now && record.gone_until < Timestamp::MAX
}

/// Whether sweeping has something to do with a record.
fn is_over(record: &Record, now: Timestamp) -> bool {
    is_settled(record, now) || (matches!(record.state, State::Done(_)) && record.answer_until <= now)
}

fn status(record: &Record, now: Timestamp) -> Status {
    match record.state {
        State::Running if record.lease_until > now => Status::Running,
        State::Running | State::Abandoned { .. } => Status::Unresolved,
        State::Released => Status::Released,
        State::Done(_) | State::Tombstone if record.gone_until <= now => Status::Vacant,
        State::Done(_) if record.answer_until > now => Status::Done,
        State::Done(_) | State::Tombstone => Status::Gone,
    }
}

fn matches(filter: &Filter, record: &Record, now: Timestamp) -> bool {
    let Filter { principal, kind, path, key, status: wanted, older_than } = filter;
    let listing = &record.listing;
    principal.is_none_or(|it| it == listing.principal)
        && kind.as_ref().is_none_or(|it| *it == listing.kind)
        && path.as_ref().is_none_or(|it| *it == listing.path)
        && key.as_ref().is_none_or(|it| *it == listing.key)
        && wanted.is_none_or(|it| it == status(record, now))
        && older_than.is_none_or(|it| later(record.updated, it) <= now)
}
