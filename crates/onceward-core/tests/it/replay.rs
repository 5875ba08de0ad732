//! Stored answers, and how long this process remembers them.

use onceward_core::decide::Verdict;
use onceward_core::{EngineSettings, Operated};
use onceward_testkit::{Fault, Op, for_polls};

use crate::world::{SECOND, World, answer, ask, assert_replay, begin, granted, pay, permit, word};

#[tokio::test]
async fn the_fingerprint_is_compared_on_cache_hits() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    let other = ask(&world.engine, "k-1", "13.00 EUR").await;
    world.store.forget();
    assert_eq!(word(&begin(&world.engine, &other).await), "mismatch");
    assert_eq!(world.store.ops(), [], "it was a hit");
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
}

#[tokio::test]
async fn a_cached_answer_ends_with_its_retention() {
    let world = World::shared().await;
    let settings = EngineSettings { cache_life: std::time::Duration::MAX, ..EngineSettings::default() };
    let other = world.another_with(2, settings).await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    world.clock.advance(attempt.policy.retention / 2);
    assert_replay(&begin(&other, &attempt).await, "paid");
    world.clock.advance(attempt.policy.retention / 2 - SECOND);
    for engine in [&world.engine, &other] {
        assert_replay(&begin(engine, &attempt).await, "paid");
    }
    world.clock.advance(SECOND);
    for engine in [&world.engine, &other] {
        assert_eq!(word(&begin(engine, &attempt).await), "gone");
    }
    world.clock.advance(attempt.policy.tombstone);
    assert_eq!(permit(begin(&other, &attempt).await).attempt(), 1, "then a new life begins");
}

#[tokio::test]
async fn without_a_cache_every_replay_asks_the_store() {
    let world = World::new().await;
    let settings = EngineSettings { cache_bytes: 0, ..EngineSettings::default() };
    let engine = world.another_with(2, settings).await;
    let attempt = pay(&engine).await;
    granted(&engine, &attempt).await.complete(answer("paid")).await.unwrap();
    world.store.forget();
    assert_replay(&begin(&engine, &attempt).await, "paid");
    assert_replay(&begin(&engine, &attempt).await, "paid");
    assert_eq!(world.store.ops(), [Op::Insert, Op::Insert]);
}

#[tokio::test]
async fn serving_a_replay_changes_nothing_that_is_stored() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    let before = world.record(attempt.record_id()).await;
    for engine in [&world.engine, &other] {
        assert_replay(&begin(engine, &attempt).await, "paid");
        assert_eq!(world.record(attempt.record_id()).await, before);
    }
}

#[tokio::test]
async fn a_replay_that_cannot_be_read_is_an_error_and_hurts_nobody_else() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    world.store.cue(Op::Insert, 1, Fault::Corrupt);
    let told = world.engine.begin(&attempt).await;
    assert_eq!(told.unwrap_err().kind(), onceward_core::ErrorKind::Corrupt);
    granted(&world.engine, &ask(&world.engine, "k-2", "other").await).await.release().await.unwrap();
}

/// Completes, and removes the answer by an operator's verdict.
async fn removed(world: &World) -> onceward_core::Attempt {
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    let told = world.engine.verdict(attempt.record_id(), seen, &Verdict::Remove, false).await.unwrap();
    assert!(matches!(told, Operated::Done(_)), "{told:?}");
    attempt
}

#[tokio::test]
async fn a_removed_answer_is_not_replayed_from_the_cache() {
    let world = World::new().await;
    let attempt = removed(&world).await;
    granted(&world.engine, &attempt).await.complete(answer("paid again")).await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid again");
}

#[tokio::test]
async fn on_a_shared_store_a_removed_answer_outlives_every_cache_and_then_runs_again() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = removed(&world).await;
    // Both replay while any process may; nobody replays what another runs again.
    for engine in [&world.engine, &other] {
        assert_replay(&begin(engine, &attempt).await, "paid");
    }
    world.clock.advance(60 * SECOND);
    let permit = granted(&other, &attempt).await;
    assert_eq!(word(&begin(&world.engine, &attempt).await), "busy");
    permit.complete(answer("paid again")).await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid again");
}

#[tokio::test]
async fn a_verdict_whose_caller_left_still_empties_the_cache() {
    for polls in 1..20 {
        let world = World::yielding().await;
        let attempt = pay(&world.engine).await;
        granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
        let seen = world.record(attempt.record_id()).await.unwrap().revision;
        let verdict = world.engine.verdict(attempt.record_id(), seen, &Verdict::Remove, false);
        let told = for_polls(polls, verdict).await;
        let removed = world.record(attempt.record_id()).await.unwrap().revision != seen;
        let next = word(&begin(&world.engine, &attempt).await);
        assert_eq!(next, if removed { "run" } else { "replay" }, "dropped after {polls} polls");
        if told.is_some() {
            assert!(removed && polls > 2, "there were awaits to be dropped at");
            return;
        }
    }
    panic!("the verdict never ended");
}

/// An answer that packs well.
fn long() -> onceward_core::Answer {
    onceward_core::Answer::new("text", "paid, ".repeat(10_000))
}

/// What the store was given for the answer.
async fn stored(world: &World, id: onceward_core::RecordId) -> onceward_core::Answer {
    let record = world.record(id).await.unwrap();
    let onceward_core::State::Done(answer) = record.state else { panic!("it is done") };
    answer
}

#[tokio::test]
async fn a_long_answer_is_packed_for_the_store_and_whole_for_everybody_else() {
    let world = World::shared().await;
    let other = world.another(2).await;
    let attempt = pay(&world.engine).await;
    let told = granted(&world.engine, &attempt).await.complete(long()).await.unwrap();
    assert_eq!(told.stored_len(), told.len(), "the first caller's answer is at hand");
    let stored = stored(&world, attempt.record_id()).await;
    assert!(stored.stored_len() * 10 < stored.len(), "{} bytes", stored.stored_len());
    for engine in [&world.engine, &other] {
        for _from_store_then_from_cache in 0..2 {
            let onceward_core::Begin::Replay(answer) = begin(engine, &attempt).await else { panic!() };
            assert_eq!(answer.bytes().unwrap(), long().bytes().unwrap());
        }
    }
}

#[tokio::test]
async fn a_long_answer_of_an_operator_is_packed_too() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.abandon("who knows").await.unwrap();
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    let verdict = Verdict::Answer(long());
    let told = world.engine.verdict(attempt.record_id(), seen, &verdict, false).await.unwrap();
    assert!(matches!(told, Operated::Done(_)), "{told:?}");
    let stored = stored(&world, attempt.record_id()).await;
    assert!(stored.stored_len() * 10 < stored.len(), "{} bytes", stored.stored_len());
    assert_eq!(stored, long());
}

#[tokio::test]
async fn a_resent_long_answer_is_recognised_as_the_one_that_landed() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    world.store.cue(Op::Replace, 1, Fault::ReplyLost);
    let told = world.drive(SECOND / 100, permit.complete(long())).await.unwrap();
    assert_eq!(told, long());
    world.store.forget();
    assert!(matches!(begin(&world.engine, &attempt).await, onceward_core::Begin::Replay(it) if it == long()));
    assert_eq!(world.store.ops(), [], "it is in the cache like any other");
}
