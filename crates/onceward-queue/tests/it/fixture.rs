//! What the promises need of a broker.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use onceward_queue::{Message, Source};

/// A broker with one topic of the test's own.
#[async_trait]
pub(crate) trait Fixture: fmt::Debug + Send + Sync {
    /// Another consumer of the topic: all share its messages. Dropped without being closed it is one that was killed, and what
    /// it had comes to the others within seconds.
    async fn source(&self) -> Arc<dyn Source>;

    /// The name of the topic.
    fn topic(&self) -> &str {
        "orders"
    }

    /// Publishes to the topic, as a producer of the application does.
    async fn publish(&self, messages: &[Message]) {
        let producer = self.source().await;
        for message in messages {
            producer.publish(message).await.unwrap();
        }
    }

    /// Whether every message was acknowledged.
    async fn is_empty(&self) -> bool;

    /// Kills the broker and starts it again on what it kept.
    ///
    /// # Errors
    /// Why that cannot be.
    async fn crash(&self) -> Result<(), &'static str> {
        Err("the broker lives in this process, and dies with its consumers")
    }
}

/// Says, for the table of `cargo xtask promises`, what a broker has nothing to show of, and why.
pub(crate) fn not_shown(promise: &str, reason: &str) {
    println!("not shown: {promise}: {reason}");
}

/// A test for each promise, over `$fixture`: an expression that makes a [`Fixture`] and is awaited. Or, where servers are slow
/// to start, a test that shows one promise after the other: `in turn $server, $fixture`, a function of the server and the
/// name of the promise. Or `$fixture; [$promise…] not shown ($reason) [$promise…]`, where a server cannot show all.
macro_rules! promises {
    (in turn $server:expr, $fixture:expr) => {
        $crate::fixture::promises! { @all in_turn ($server, $fixture) }
    };
    ($fixture:expr) => {
        $crate::fixture::promises! { @all each ($fixture) }
    };
    ($fixture:expr; [$($promise:ident)*] $(not shown ($reason:expr) [$($without:ident)*])*) => {
        $crate::fixture::promises! { @each ($fixture); $($promise)* }

        #[test]
        fn what_is_not_shown_is_named() {
            let mut named = vec![$(stringify!($promise)),*];
            $($(
                named.push(stringify!($without));
                $crate::fixture::not_shown(stringify!($without), $reason);
            )*)*
            let mut all = $crate::fixture::promises!(@all names ());
            named.sort();
            all.sort();
            assert_eq!(named, all);
        }
    };
    (@all $how:ident $fixture:tt) => {
        $crate::fixture::promises! { @$how $fixture;
            a_message_is_handled_once_and_acknowledged
            a_message_that_comes_five_times_to_two_consumers_has_its_effect_once
            what_a_killed_consumer_had_done_is_not_run_again
            a_repeat_of_a_running_message_is_not_acknowledged_and_takes_over_when_its_holder_dies
            a_handler_that_asks_for_it_runs_again_and_blocks_no_other_key
            a_handler_that_takes_the_process_with_it_is_parked_after_as_many_attempts_as_there_may_be
            an_effect_that_may_have_happened_is_held_and_parked
            the_same_id_with_another_payload_is_parked
            a_dead_letter_that_is_sent_again_runs_once_and_its_first_message_stays_dead
            a_message_without_an_id_is_parked_with_what_is_missing
            while_the_store_is_away_nothing_is_lost_run_or_asked_in_a_hot_loop
            messages_of_one_key_run_in_their_order
            a_consumer_that_stops_ends_what_runs_and_gives_the_rest_back
            a_handler_may_take_longer_than_a_delivery_lasts
            what_is_published_arrives_as_it_was
            a_consumer_that_joins_or_leaves_loses_and_doubles_nothing
            a_broker_that_is_killed_loses_and_doubles_nothing
        }
    };
    (@names (); $($promise:ident)*) => { vec![$(stringify!($promise)),*] };
    (@each ($fixture:expr); $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::promises::$promise(std::sync::Arc::new($fixture.await)).await;
            }
        )*
    };
    (@in_turn ($server:expr, $fixture:expr); $($promise:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_promise_is_kept() {
            let server = $server;
            $(
                let fixture = std::sync::Arc::new($fixture(&server, stringify!($promise)).await);
                Box::pin($crate::promises::$promise(fixture)).await;
                println!("kept: {}", stringify!($promise));
            )*
        }
    };
}
pub(crate) use promises;
