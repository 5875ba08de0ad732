//! Concurrent calls to a store, noted as they began and ended, and checked afterwards: whether there is an order in
//! which a store that does one thing at a time would have told the same.
//!
//! That is linearizability. It holds for a store if it holds for each of its records, so each record's calls are
//! checked alone. A call may have no end: its reply was lost, its caller left, or its process died; then it took
//! effect at any time after it began, or never.
//!
//! - [`check`]: the search for such an order, for anything that can be said as a [`Sequential`].
//! - [`OneRecord`]: what one record does, call after call, with revisions and fences.
//! - [`Client`]: makes random calls to a few records and notes them; [`run`] lets several of them meet.
//!
//! ```
//! # use onceward_testkit::conformance::Memory;
//! onceward_testkit::store_history!(Memory::default(), runs = 3);
//! # fn main() {}
//! ```

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::conformance::Fixture;

mod calls;
mod check;
mod client;
mod one_record;
#[cfg(test)]
mod tests;

pub use self::calls::{Called, Event, Log, What, histories};
pub use self::check::{Sequential, Stuck, check};
pub use self::client::{Client, Plan};
pub use self::one_record::{Ask, Facts, Kind, OneRecord, Told};

/// Makes one test: histories of concurrent calls to the stores of a fixture have an order. The fixture expression is
/// evaluated once per run. `runs` is how many the short lane makes, see [`Lane`](crate::Lane).
#[macro_export]
macro_rules! store_history {
    ($fixture:expr, runs = $runs:expr $(,)?) => {
        #[test]
        fn concurrent_calls_have_an_order() {
            $crate::Lane::from_env($runs).each(|seed| {
                // Every other one on one thread, where callers may be answered in another way.
                let threads = if seed % 2 == 0 { 4 } else { 1 };
                $crate::conformance::run(threads, async { $crate::history::run(seed, &$fixture).await });
            });
        }
    };
}

/// How many clients meet, and how many calls each of them makes.
const CLIENTS: u64 = 8;
const CALLS: usize = 150;

/// Lets clients loose on a store of `fixture` and checks what they noted. One seed makes the same clients; which of
/// their calls meet is up to the machine.
///
/// # Panics
/// When a record's calls have no order: with the shortest part of them that has none.
pub async fn run(seed: u64, fixture: &impl Fixture) {
    let store = fixture.open().await;
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    for who in 0..CLIENTS {
        let plan = Plan { clock: fixture.clock(), ..Plan::new(seed, who) };
        let mut client = Client::new(Arc::clone(&store), Arc::clone(&log) as Arc<dyn Log>, plan);
        clients.spawn(async move { client.calls(CALLS).await });
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    let events = std::mem::take(&mut *log.lock().expect("no client panicked"));
    assert_order(seed, &events);
}

/// Checks the calls of every record; gives how many there were.
///
/// # Panics
/// When a record's calls have no order: with the shortest part of them that has none, and with `seed`.
pub fn assert_order(seed: u64, events: &[Event]) -> usize {
    let mut calls = 0;
    for (record, history) in histories(events) {
        calls += history.len();
        if let Err(stuck) = check(&OneRecord, &history) {
            panic!("seed {seed}: the calls of record {record} have no order:\n{stuck}");
        }
    }
    calls
}
