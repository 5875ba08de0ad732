//! Operators: each change swaps on the revision that was shown.

use std::sync::Arc;

use onceward_core::decide::Verdict;
use onceward_core::store::{Due, Filter};
use onceward_core::transition::{carried, delivered};
use onceward_core::{Operated, RecordId, Revision, State, Timestamp};
use onceward_testkit::{Fault, Op};

use crate::world::{SECOND, World, answer, assert_replay, begin, granted, pay, rerunning, word};

#[tokio::test]
async fn an_operator_names_the_revision_he_saw() {
    let world = World::new().await;
    let attempt = rerunning(&pay(&world.engine).await);
    let id = attempt.record_id();
    drop(granted(&world.engine, &attempt).await);
    let seen = world.record(id).await.unwrap().revision;
    world.clock.advance(30 * SECOND);
    // Between look and verdict somebody took it over.
    let permit = granted(&world.engine, &attempt).await;
    let before = world.record(id).await.unwrap();
    for (revision, forced) in [(seen, false), (seen, true), (Revision(0), true)] {
        for verdict in [Verdict::Rerun, Verdict::Remove, Verdict::Answer(answer("by hand"))] {
            let told = world.engine.verdict(id, revision, &verdict, forced).await.unwrap();
            assert_eq!(told, Operated::Changed(Arc::new(before.clone())));
            assert_eq!(world.record(id).await.as_ref(), Some(&before));
        }
    }
    permit.complete(answer("paid")).await.unwrap();
}

#[tokio::test]
async fn a_verdict_that_loses_a_race_is_told_what_stands() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    world.clock.advance(30 * SECOND);
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    // The holder completes after the operator's look inside the verdict and before its swap.
    let gate = world.store.gate_before(Op::Replace, 1);
    let mut verdicts = tokio::task::JoinSet::new();
    let (engine, id) = (world.engine.clone(), attempt.record_id());
    verdicts.spawn(async move { engine.verdict(id, seen, &Verdict::Rerun, false).await });
    gate.reached().await;
    permit.complete(answer("paid")).await.unwrap();
    gate.open();
    let told = onceward_testkit::within(verdicts.join_next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(&told, Operated::Changed(it) if it.state == State::Done(answer("paid"))), "{told:?}");
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
}

#[tokio::test]
async fn a_living_lease_needs_force() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let _permit = granted(&world.engine, &attempt).await;
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    world.clock.advance(10 * SECOND);
    let id = attempt.record_id();
    for verdict in [Verdict::Rerun, Verdict::Remove, Verdict::Answer(answer("x"))] {
        let told = world.engine.verdict(id, seen, &verdict, false).await.unwrap();
        assert_eq!(told, Operated::LeaseAlive(20 * SECOND));
    }
    assert!(matches!(world.engine.verdict(id, seen, &Verdict::Rerun, true).await, Ok(Operated::Done(_))));
}

#[tokio::test]
async fn an_unresolved_record_is_run_again_or_answered_by_verdict() {
    for by_hand in [false, true] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        drop(granted(&world.engine, &attempt).await);
        world.clock.advance(30 * SECOND);
        assert_eq!(word(&begin(&world.engine, &attempt).await), "unresolved");
        let seen = world.record(attempt.record_id()).await.unwrap().revision;
        let verdict = if by_hand { Verdict::Answer(answer("by hand")) } else { Verdict::Rerun };
        let told = world.engine.verdict(attempt.record_id(), seen, &verdict, false).await.unwrap();
        assert!(matches!(told, Operated::Done(_)), "{told:?}");
        if by_hand {
            assert_replay(&begin(&world.engine, &attempt).await, "by hand");
        } else {
            assert_eq!(granted(&world.engine, &attempt).await.attempt(), 2);
        }
    }
}

#[tokio::test]
async fn a_final_answer_is_never_overwritten_by_a_verdict() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    let before = world.record(attempt.record_id()).await.unwrap();
    for verdict in [Verdict::Rerun, Verdict::Answer(answer("by hand"))] {
        for forced in [false, true] {
            let told = world.engine.verdict(before.id, before.revision, &verdict, forced).await.unwrap();
            assert_eq!(told, Operated::NothingToResolve);
        }
    }
    assert_eq!(world.record(before.id).await, Some(before));
}

#[tokio::test]
async fn a_verdict_on_nothing_says_so_and_a_failed_one_is_an_error() {
    let world = World::new().await;
    let nothing = RecordId::from_bytes([9; 32]);
    let told = world.engine.verdict(nothing, Revision(1), &Verdict::Rerun, true).await.unwrap();
    assert_eq!(told, Operated::NotFound);
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.abandon("x").await.unwrap();
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    world.store.cue(Op::Replace, 1, Fault::CallLost);
    world.engine.verdict(attempt.record_id(), seen, &Verdict::Rerun, false).await.unwrap_err();
    assert_eq!(world.record(attempt.record_id()).await.unwrap().revision, seen);
}

#[tokio::test]
async fn the_hash_key_is_shown_to_nobody() {
    let world = World::new().await;
    assert_eq!(world.engine.list(&Filter::default(), None, 10).await.unwrap().records, []);
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.release().await.unwrap();
    assert_eq!(world.engine.list(&Filter::default(), None, 10).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn what_an_answer_carries_stands_in_the_way_of_its_removal_until_it_is_delivered() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    world.store.cue(Op::Replace, 1, Fault::Repeated);
    permit.complete_with(answer("paid"), "a mail".into()).await.unwrap();
    // Long after its retention would have been over.
    world.clock.advance(100 * 24 * 3600 * SECOND);
    world.engine.store().sweep(100).await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
    let due = world.engine.store().due(Due::Wake.start(), 10).await.unwrap().records;
    assert_eq!(due.iter().map(|it| carried(it)).collect::<Vec<_>>(), [Some(&"a mail".into())]);
    let told = world.engine.verdict(due[0].id, due[0].revision, &Verdict::Remove, true).await.unwrap();
    assert_eq!(told, Operated::Carries);

    let put = delivered(&due[0], Timestamp::MAX);
    world.engine.store().replace(due[0].id, due[0].revision, &put).await.unwrap();
    let record = world.record(due[0].id).await.unwrap();
    assert_eq!((carried(&record), record.wake_at), (None, None));
    assert_eq!(record.updated.until(record.answer_until), record.policy.retention);
    let told = world.engine.verdict(record.id, record.revision, &Verdict::Remove, false).await.unwrap();
    assert!(matches!(told, Operated::Done(_)), "{told:?}");
}
