//! Callers that are dropped at every await.

use std::cell::Cell;

use onceward_core::{Begin, State};
use onceward_testkit::for_polls;

use crate::world::{SECOND, World, answer, begin, pay, rerunning, word};

/// A whole operation: claim, effect, checkpoint, effect noted, answer.
async fn operation(
    world: &World,
    attempt: &onceward_core::Attempt,
    effects: &Cell<u32>,
) -> onceward_core::Result<()> {
    if let Begin::Run(mut permit) = world.engine.begin(attempt).await? {
        let kept = permit.keep(async {
            tokio::task::yield_now().await;
            effects.set(effects.get() + 1);
            tokio::task::yield_now().await;
        });
        kept.await.unwrap();
        permit.save("half way".into()).await?;
        permit.complete(answer("paid")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_permit_equals_a_crash() {
    let mut ends = Vec::new();
    for polls in 0..40 {
        let world = World::yielding().await;
        let attempt = pay(&world.engine).await;
        let effects = Cell::new(0);
        let ended = for_polls(polls, operation(&world, &attempt, &effects)).await;
        let left = world.record(attempt.record_id()).await.map(|it| it.state);
        let (effects, now) = (effects.get(), begin(&world.engine, &attempt).await);
        // What stands now, before any upkeep.
        match &left {
            None => assert_eq!((word(&now), effects), ("run", 0), "polls {polls}"),
            Some(State::Running) => assert_eq!(word(&now), "busy", "polls {polls}"),
            Some(State::Done(_)) => assert_eq!((word(&now), effects), ("replay", 1), "polls {polls}"),
            other => panic!("a drop leaves the record as a kill would, not {other:?}"),
        }
        drop(now);
        if left.is_some() {
            // After upkeep and the end of the lease: a second permit only if the first was never handed out.
            world.engine.maintain().await.unwrap();
            world.clock.advance(30 * SECOND);
            let later = begin(&world.engine, &attempt).await;
            if word(&later) == "run" {
                assert_eq!(effects, 0, "under hold never two permits, polls {polls}");
            }
            ends.push(word(&later));
        }
        if ended.is_some() {
            ends.dedup();
            assert_eq!(
                ends,
                ["run", "unresolved", "replay"],
                "a begin, a running and a done record were left"
            );
            return;
        }
    }
    panic!("the operation never ended");
}

#[tokio::test]
async fn a_drop_under_rerun_runs_again_with_a_higher_fence_and_its_checkpoint() {
    for polls in 0..40 {
        let world = World::yielding().await;
        let attempt = rerunning(&pay(&world.engine).await);
        let effects = Cell::new(0);
        let ended = for_polls(polls, operation(&world, &attempt, &effects)).await;
        let left = world.record(attempt.record_id()).await;
        world.engine.maintain().await.unwrap();
        world.clock.advance(30 * SECOND);
        match begin(&world.engine, &attempt).await {
            Begin::Run(permit) => {
                assert!(left.as_ref().is_none_or(|it| permit.fence() > it.fence));
                assert_eq!(permit.checkpoint(), left.and_then(|it| it.checkpoint).as_ref(), "polls {polls}");
            }
            Begin::Replay(_) => assert_eq!(effects.get(), 1),
            other => panic!("{} after {polls} polls", word(&other)),
        }
        if ended.is_some() {
            return;
        }
    }
    panic!("the operation never ended");
}

#[tokio::test]
async fn a_begin_that_is_dropped_never_keeps_others_out_for_longer_than_upkeep() {
    for polls in 0..20 {
        let world = World::yielding().await;
        let attempt = pay(&world.engine).await;
        let told = for_polls(polls, world.engine.begin(&attempt)).await;
        let ended = told.is_some();
        drop(told);
        if ended {
            return;
        }
        world.engine.maintain().await.unwrap();
        assert_eq!(word(&begin(&world.engine, &attempt).await), "run", "dropped after {polls} polls");
    }
    panic!("begin never ended");
}
