//! Every law of a store, each as one named case.
//!
//! A backend writes a [`Fixture`] and one line, `store_conformance!(fixture)`, which makes one test of each
//! case. Wrappers are stores, too: [`Wrapping`] runs the same suite through them.

#[cfg(test)]
pub(crate) mod broken;
mod claims;
mod drops;
mod due;
mod durability;
mod expiry;
mod fidelity;
mod fixture;
mod listing;
mod sample;
mod stamps;
mod swaps;

pub use self::claims::*;
pub use self::drops::*;
pub use self::due::*;
pub use self::durability::*;
pub use self::expiry::*;
pub use self::fidelity::*;
pub use self::fixture::{Fixture, Memory, Wrapping};
pub use self::listing::*;
pub use self::stamps::*;
pub use self::swaps::*;

/// Runs one case on a runtime of its own with so many threads. Used by
/// [`store_conformance!`](crate::store_conformance).
///
/// # Panics
/// When the case does, or when it is not done within 30 s of real time.
pub fn run(threads: usize, case: impl Future<Output = ()>) {
    use tokio::runtime::Builder;
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().expect("a runtime can be built").block_on(crate::within(case));
}

/// Hands the names of all cases to a macro, behind what else it is given in brackets.
#[doc(hidden)]
#[macro_export]
macro_rules! every_case {
    ($with:ident! $given:tt) => {
        $crate::$with! {
            @cases $given
            of_racing_inserts_one_is_kept
            a_loser_writes_nothing
            the_same_insert_twice_finds_the_first
            an_insert_on_a_finished_record_finds_it
            a_dropped_call_leaves_all_or_nothing
            due_lists_leases_that_have_passed_earliest_first
            due_lists_wake_times
            due_goes_on_behind_its_cursor
            a_finished_record_is_due_no_more
            a_returned_write_survives_reopening
            fences_grow_after_reopening_with_a_clock_that_went_back
            an_unfinished_record_never_expires
            an_expired_answer_becomes_a_tombstone_then_goes
            a_finished_record_that_is_to_be_woken_does_not_end
            a_released_record_keeps_fence_and_revision_and_goes_after_settling
            sweep_removes_only_what_it_looked_at
            sweep_works_in_bounded_steps
            every_state_reads_back_as_written
            list_filters_and_pages
            revision_and_fence_grow_over_every_change
            revision_and_fence_grow_across_removal_and_reinsertion
            only_a_grant_changes_owner_fence_and_attempt
            attempts_count_grants_and_start_again_in_a_new_life
            times_are_stamped_by_the_store
            a_jump_of_the_wall_clock_does_not_move_the_stores_time
            racing_replaces_have_one_winner
            a_stale_revision_changes_nothing
            a_swap_on_an_absent_record_creates_nothing
            a_swap_after_removal_creates_nothing
            the_same_replace_twice_is_lost_and_shows_the_owner
            a_put_past_its_not_after_writes_nothing
            hundreds_of_concurrent_calls_on_many_records_keep_every_record_whole
        }
    };
}

/// Makes one test of every conformance case. The fixture expression is evaluated once per test, so that each
/// gets a store of its own. The cases run on four threads, or on the caller's one with `threads = 1`.
#[macro_export]
macro_rules! store_conformance {
    ($fixture:expr $(,)?) => {
        $crate::store_conformance!($fixture, threads = 4);
    };
    ($fixture:expr, threads = $threads:expr $(,)?) => {
        $crate::every_case!(store_conformance! [$fixture, $threads]);
    };
    (@cases [$fixture:expr, $threads:expr] $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::run($threads, async {
                    let fixture = $fixture;
                    $crate::conformance::$case(&fixture).await;
                });
            }
        )*
    };
}

/// Runs every conformance case one after another, within one test, and says which one runs: for servers that take long
/// to start. The fixture expression is evaluated once per case.
#[macro_export]
macro_rules! store_conformance_in_turn {
    (@cases [$fixture:expr] $($case:ident)*) => {
        $(
            println!("{}", stringify!($case));
            $crate::conformance::run(4, async { $crate::conformance::$case(&$fixture).await });
        )*
    };
    ($fixture:expr $(,)?) => {
        $crate::every_case!(store_conformance_in_turn! [$fixture]);
    };
}

#[cfg(test)]
mod tests {
    /// A case that is written but not listed would never run.
    #[test]
    fn every_case_is_in_the_suite() {
        let list = include_str!("conformance.rs");
        let mut cases = 0;
        for source in [
            include_str!("conformance/claims.rs"),
            include_str!("conformance/drops.rs"),
            include_str!("conformance/due.rs"),
            include_str!("conformance/durability.rs"),
            include_str!("conformance/expiry.rs"),
            include_str!("conformance/fidelity.rs"),
            include_str!("conformance/listing.rs"),
            include_str!("conformance/stamps.rs"),
            include_str!("conformance/swaps.rs"),
        ] {
            for line in source.lines() {
                let Some(rest) = line.strip_prefix("pub async fn ") else { continue };
                let name = rest.split('(').next().unwrap();
                assert!(list.lines().any(|it| it.trim() == name), "{name} is not in the list of the macro");
                cases += 1;
            }
        }
        assert!(cases >= 27, "{cases} cases were found");
    }
}
