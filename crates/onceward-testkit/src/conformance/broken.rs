//! The suite against stores that break one law each: a case that cannot fail guards nothing.

use std::sync::Arc;

use async_trait::async_trait;
use onceward_core::store::{
    Cursor, DueCursor, DuePage, Expiry, Filter, Grant, Insert, Page, Put, Replace, SETTLE, Swept, Traits,
};
use onceward_core::{Owner, RecordId, Result, Revision, State, Store, Timestamp};

use super::{Fixture, Memory, Wrapping, run};
use crate::wrapper::{Wrapped, Wrapper};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Law {
    InsertOverwrites,
    RevisionIgnored,
    SwapCreates,
    LimitIgnored,
    EveryChangeGrants,
    AttemptsNeverBeginAgain,
    SweepHasNoLimit,
    SweepIsBlind,
    DueIsUnsorted,
    DueShowsFinished,
    DueBeginsAgain,
    DuePassesEqualTimes,
    CursorRepeats,
    FilterIgnored,
    SavedIsForgotten,
    NotDurable,
}

#[derive(Debug)]
struct Broken {
    law: Law,
    store: Arc<dyn Store>,
}

impl Broken {
    fn breaks(&self, law: Law) -> bool {
        self.law == law
    }

    fn bend(&self, put: &Put) -> Put {
        let mut put = put.clone();
        if self.breaks(Law::LimitIgnored) {
            put.not_after = Timestamp::MAX;
        }
        if self.breaks(Law::EveryChangeGrants) && put.grant.is_none() {
            put.grant = Some(Grant { owner: Owner::from_bytes([77; 16]), new_life: false });
        }
        if self.breaks(Law::AttemptsNeverBeginAgain) {
            put.grant = put.grant.map(|it| Grant { new_life: false, ..it });
        }
        if self.breaks(Law::SavedIsForgotten) {
            put.checkpoint = None;
        }
        put
    }

    /// Looks, pauses, and puts a tombstone over whatever is there then.
    async fn sweep_without_looking_again(&self) -> Result<Swept> {
        let page = self.store.list(&Filter::default(), None, 1000).await?;
        let over = page.records.into_iter().filter(|it| it.expiry(page.now) != Expiry::Keep);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        for old in over {
            if let Some(found) = self.store.load(old.id).await?.record {
                let put = Put { state: State::Tombstone, ..Put::keep(&old, Timestamp::MAX) };
                self.store.replace(old.id, found.revision, &put).await?;
            }
        }
        Ok(Swept::default())
    }
}

#[async_trait]
impl Wrapper for Broken {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        let put = self.bend(put);
        match self.store.insert(id, &put).await? {
            Insert::Found(record, now) if self.breaks(Law::InsertOverwrites) => {
                match self.store.replace(id, record.revision, &put).await? {
                    Replace::Kept(record) => Ok(Insert::Kept(record)),
                    Replace::Lost(..) | Replace::Late(_) => Ok(Insert::Found(record, now)),
                }
            }
            told => Ok(told),
        }
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        let put = self.bend(put);
        match self.store.replace(id, seen, &put).await? {
            Replace::Lost(Some(record), _) if self.breaks(Law::RevisionIgnored) => {
                self.store.replace(id, record.revision, &put).await
            }
            Replace::Lost(None, now) if self.breaks(Law::SwapCreates) => {
                Ok(match self.store.insert(id, &put).await? {
                    Insert::Kept(record) => Replace::Kept(record),
                    Insert::Found(..) | Insert::Late(_) => Replace::Lost(None, now),
                })
            }
            told => Ok(told),
        }
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        let from = if self.breaks(Law::DueBeginsAgain) { from.due().start() } else { from };
        let mut page = self.store.due(from, limit).await?;
        if self.breaks(Law::DueIsUnsorted) {
            page.records.reverse();
        }
        if self.breaks(Law::DueShowsFinished) {
            let all = self.store.list(&Filter::default(), None, limit).await?;
            page.records.extend(all.records.into_iter().filter(|it| it.answer_until < Timestamp::MAX));
        }
        if self.breaks(Law::DuePassesEqualTimes) {
            let behind_all = |it: DueCursor| {
                it.behind().map_or(it, |(time, _)| it.pass(time, RecordId::from_bytes([0xff; 32])))
            };
            page.next = page.next.map(behind_all);
        }
        Ok(page)
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let everything = Filter::default();
        let filter = if self.breaks(Law::FilterIgnored) { &everything } else { filter };
        let mut page = self.store.list(filter, cursor, limit).await?;
        if self.breaks(Law::CursorRepeats) && page.records.len() > 1 {
            let before = page.records[page.records.len() - 2].id;
            page.next = page.next.map(|_| Cursor(before));
        }
        Ok(page)
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        if self.breaks(Law::SweepIsBlind) {
            return self.sweep_without_looking_again().await;
        }
        let limit = if self.breaks(Law::SweepHasNoLimit) { 1000 } else { limit };
        self.store.sweep(limit).await
    }

    fn traits(&self) -> Traits {
        Traits { durable: self.breaks(Law::NotDurable), ..self.store.traits() }
    }
}

pub(crate) fn fixture(law: Law) -> impl Fixture {
    let wrap: fn(Arc<dyn Store>) -> Arc<dyn Store> = match law {
        Law::InsertOverwrites => |store| Arc::new(Wrapped(Broken { law: Law::InsertOverwrites, store })),
        Law::RevisionIgnored => |store| Arc::new(Wrapped(Broken { law: Law::RevisionIgnored, store })),
        Law::SwapCreates => |store| Arc::new(Wrapped(Broken { law: Law::SwapCreates, store })),
        Law::LimitIgnored => |store| Arc::new(Wrapped(Broken { law: Law::LimitIgnored, store })),
        Law::EveryChangeGrants => |store| Arc::new(Wrapped(Broken { law: Law::EveryChangeGrants, store })),
        Law::AttemptsNeverBeginAgain => {
            |store| Arc::new(Wrapped(Broken { law: Law::AttemptsNeverBeginAgain, store }))
        }
        Law::SweepHasNoLimit => |store| Arc::new(Wrapped(Broken { law: Law::SweepHasNoLimit, store })),
        Law::SweepIsBlind => |store| Arc::new(Wrapped(Broken { law: Law::SweepIsBlind, store })),
        Law::DueIsUnsorted => |store| Arc::new(Wrapped(Broken { law: Law::DueIsUnsorted, store })),
        Law::DueShowsFinished => |store| Arc::new(Wrapped(Broken { law: Law::DueShowsFinished, store })),
        Law::DueBeginsAgain => |store| Arc::new(Wrapped(Broken { law: Law::DueBeginsAgain, store })),
        Law::DuePassesEqualTimes => {
            |store| Arc::new(Wrapped(Broken { law: Law::DuePassesEqualTimes, store }))
        }
        Law::CursorRepeats => |store| Arc::new(Wrapped(Broken { law: Law::CursorRepeats, store })),
        Law::FilterIgnored => |store| Arc::new(Wrapped(Broken { law: Law::FilterIgnored, store })),
        Law::SavedIsForgotten => |store| Arc::new(Wrapped(Broken { law: Law::SavedIsForgotten, store })),
        Law::NotDurable => |store| Arc::new(Wrapped(Broken { law: Law::NotDurable, store })),
    };
    Wrapping::new(Memory::default(), wrap)
}

/// One line per broken law: the cases that must see it.
macro_rules! seen_by {
    ($($law:ident: $($case:ident),+;)+) => {
        $(
            #[expect(non_snake_case, reason = "the module is named after the law")]
            mod $law {
                use super::*;
                $(
                    #[test]
                    #[should_panic]
                    fn $case() {
                        // Races are seen sooner or later.
                        for _ in 0..10 {
                            run(4, async { super::super::$case(&fixture(Law::$law)).await });
                        }
                    }
                )+
            }
        )+
    };
}

seen_by! {
    InsertOverwrites: of_racing_inserts_one_is_kept, a_loser_writes_nothing,
        the_same_insert_twice_finds_the_first, an_insert_on_a_finished_record_finds_it;
    RevisionIgnored: racing_replaces_have_one_winner, a_stale_revision_changes_nothing,
        the_same_replace_twice_is_lost_and_shows_the_owner,
        hundreds_of_concurrent_calls_on_many_records_keep_every_record_whole;
    SwapCreates: a_swap_on_an_absent_record_creates_nothing, a_swap_after_removal_creates_nothing;
    LimitIgnored: a_put_past_its_not_after_writes_nothing;
    EveryChangeGrants: only_a_grant_changes_owner_fence_and_attempt, times_are_stamped_by_the_store,
        revision_and_fence_grow_over_every_change;
    AttemptsNeverBeginAgain: attempts_count_grants_and_start_again_in_a_new_life;
    SweepHasNoLimit: sweep_works_in_bounded_steps;
    SweepIsBlind: sweep_removes_only_what_it_looked_at;
    DueIsUnsorted: due_lists_leases_that_have_passed_earliest_first, due_lists_wake_times;
    DueShowsFinished: a_finished_record_is_due_no_more;
    DueBeginsAgain: due_goes_on_behind_its_cursor;
    DuePassesEqualTimes: due_goes_on_behind_its_cursor;
    CursorRepeats: list_filters_and_pages;
    FilterIgnored: list_filters_and_pages;
    SavedIsForgotten: every_state_reads_back_as_written, a_dropped_call_leaves_all_or_nothing;
    NotDurable: a_returned_write_survives_reopening, every_state_reads_back_as_written;
}

#[test]
fn a_store_removes_nothing_before_twice_the_largest_budget() {
    assert!(SETTLE >= 2 * onceward_core::store::CALL_BUDGET_MAX);
}
