//! Replies that are lost, calls that are late, callers that leave.

use onceward_core::store::{Insert, Replace};
use onceward_core::{Begin, Clock, ErrorKind, State};
use onceward_testkit::faulty::Landed;
use onceward_testkit::{Fault, Op, eventually, for_polls, within};
use tokio::task::JoinSet;

use crate::world::{SECOND, World, answer, ask, assert_replay, begin, granted, pay, permit, rerunning, word};

const TICK: std::time::Duration = std::time::Duration::from_millis(10);

#[tokio::test]
async fn a_lost_reply_of_a_claim_gives_the_same_begin_its_permit() {
    for fault in [Fault::ReplyLost, Fault::CallLost, Fault::Twice, Fault::Repeated] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        world.store.cue(Op::Insert, 1, fault.clone());
        let permit = permit(world.drive(TICK, world.engine.begin(&attempt)).await.unwrap());
        assert_eq!(permit.attempt(), 1, "{fault:?}");
        world.engine.maintain().await.unwrap();
        permit.complete(answer("paid")).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_take_over_gives_the_same_begin_its_permit() {
    for fault in [Fault::ReplyLost, Fault::CallLost, Fault::Twice, Fault::Repeated] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        granted(&world.engine, &attempt).await.release().await.unwrap();
        world.store.cue(Op::Replace, 1, fault.clone());
        let permit = permit(world.drive(TICK, world.engine.begin(&attempt)).await.unwrap());
        assert_eq!(permit.attempt(), 2, "{fault:?}");
        permit.complete(answer("paid")).await.unwrap();
    }
}

#[tokio::test]
async fn a_permit_found_after_lost_replies_counts_its_lease_from_the_first_call() {
    let world = World::new().await;
    let mut attempt = rerunning(&pay(&world.engine).await);
    attempt.policy.lease = 2 * SECOND;
    world.store.cue(Op::Insert, 1, Fault::ReplyLost);
    world.store.down(Fault::CallLost);
    let granted_at = world.clock.boot();
    let mut begins = JoinSet::new();
    let (engine, asked) = (world.engine.clone(), attempt.clone());
    begins.spawn(async move { engine.begin(&asked).await.unwrap() });
    while world.clock.boot() - granted_at < SECOND * 7 / 10 {
        world.clock.until_asleep(1).await;
        world.clock.advance(TICK);
        tokio::task::yield_now().await;
    }
    world.store.up();
    let mut permit = permit(world.drive(TICK, within(begins.join_next())).await.unwrap().unwrap());
    assert!(world.clock.boot() - granted_at < 2 * SECOND, "the lease is alive");
    world.store.down(Fault::Refused);
    world.drive(TICK, permit.keep(std::future::pending::<()>())).await.unwrap_err();
    let ran = world.clock.boot() - granted_at;
    assert!(ran <= 2 * SECOND + 2 * TICK, "the lease ended 2 s after the claim, the work {ran:?} after it");
}

/// A claim that lands, late, after its `begin` has given up.
async fn given_up(world: &World, attempt: &onceward_core::Attempt) {
    world.store.cue(Op::Insert, 1, Fault::Late);
    world.store.down(Fault::CallLost);
    let told = world.drive(SECOND / 10, world.engine.begin(attempt)).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Uncertain);
    world.store.up();
}

#[tokio::test]
async fn an_uncertain_claim_that_gives_up_is_released_when_found() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    given_up(&world, &attempt).await;
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await, None, "it has not landed yet");
    let landed = world.store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Insert(Insert::Kept(_))]), "{landed:?}");
    assert_eq!(word(&begin(&world.engine, &attempt).await), "busy");
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await.unwrap().state, State::Released);
    assert_eq!(granted(&world.engine, &attempt).await.attempt(), 2);
}

#[tokio::test]
async fn a_stray_is_looked_for_until_it_can_land_no_more_and_no_longer() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    given_up(&world, &attempt).await;
    world.clock.advance(10 * SECOND);
    world.engine.maintain().await.unwrap();
    let landed = world.store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Insert(Insert::Late(_))]), "{landed:?}");
    world.store.forget();
    world.engine.maintain().await.unwrap();
    assert_eq!(world.store.ops(), [Op::Sweep], "the matter is closed");
}

#[tokio::test]
async fn a_stray_is_looked_for_as_long_as_the_latest_of_its_calls_may_land() {
    let world = World::new().await;
    let (attempt, slow) = (pay(&world.engine).await, ask(&world.engine, "k-2", "slow").await);
    let mut others = JoinSet::new();
    let gate = world.store.gate_after(Op::Insert, 1);
    let engine = world.engine.clone();
    others.spawn(async move { engine.begin(&slow).await.unwrap() });
    gate.reached().await;
    world.clock.advance(3 * SECOND);

    world.store.cue(Op::Insert, 1, Fault::Late);
    world.store.cue(Op::Insert, 2, Fault::Hangs);
    let mut begins = JoinSet::new();
    let (engine, asked) = (world.engine.clone(), attempt.clone());
    begins.spawn(async move { engine.begin(&asked).await });
    world.clock.until_asleep(1).await;
    // A reply that is 3 s old sets back what this process takes for the store's time, and with it the limit
    // of the second call: it may land until 2 s from now, the first call until 5 s from now.
    gate.open();
    drop(permit(within(others.join_next()).await.unwrap().unwrap()));
    world.clock.advance(TICK);
    eventually(async || world.store.ops().len() == 3).await;
    within(begins.shutdown()).await;

    world.clock.advance(4 * SECOND);
    world.engine.maintain().await.unwrap();
    let landed = world.store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Insert(Insert::Kept(_))]), "{landed:?}");
    world.engine.maintain().await.unwrap();
    assert_eq!(world.record(attempt.record_id()).await.unwrap().state, State::Released);
}

#[tokio::test]
async fn a_dropped_maintain_forgets_no_stray() {
    for polls in 1..8 {
        let world = World::yielding().await;
        let attempt = pay(&world.engine).await;
        let gate = world.store.gate_after(Op::Insert, 1);
        leave_at(&world, &attempt, &gate).await;
        drop(for_polls(polls, world.engine.maintain()).await);
        world.engine.maintain().await.unwrap();
        let state = world.record(attempt.record_id()).await.unwrap().state;
        assert_eq!(state, State::Released, "the first round was dropped after {polls} polls");
    }
}

#[tokio::test]
async fn a_stray_is_released_while_a_sweep_takes_its_time() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let gate = world.store.gate_after(Op::Insert, 1);
    leave_at(&world, &attempt, &gate).await;
    let slow = world.store.gate_before(Op::Sweep, 1);
    let mut rounds = JoinSet::new();
    let engine = world.engine.clone();
    rounds.spawn(async move { engine.maintain().await });
    slow.reached().await;
    let state = async || world.record(attempt.record_id()).await.map(|it| it.state.clone());
    eventually(async || state().await == Some(State::Released)).await;
    slow.open();
    within(rounds.join_next()).await.unwrap().unwrap().unwrap();
}

/// Begins, and leaves while the call stands at `gate`.
async fn leave_at(world: &World, attempt: &onceward_core::Attempt, gate: &onceward_testkit::Gate) {
    let mut begins = JoinSet::new();
    let (engine, asked) = (world.engine.clone(), attempt.clone());
    begins.spawn(async move { engine.begin(&asked).await });
    gate.reached().await;
    within(begins.shutdown()).await;
}

#[tokio::test]
async fn a_dropped_begin_is_released_when_found() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let gate = world.store.gate_after(Op::Insert, 1);
    leave_at(&world, &attempt, &gate).await;
    assert_eq!(word(&begin(&world.engine, &attempt).await), "busy", "it has landed");
    world.engine.maintain().await.unwrap();
    granted(&world.engine, &attempt).await.complete(answer("paid")).await.unwrap();
    world.engine.maintain().await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
}

#[tokio::test]
async fn a_stray_claim_on_an_unresolved_record_leaves_it_unresolved() {
    let world = World::new().await;
    let hold = pay(&world.engine).await;
    let rerun = rerunning(&hold);
    let mut crashed = granted(&world.engine, &rerun).await;
    crashed.save("half way".into()).await.unwrap();
    drop(crashed);
    world.clock.advance(30 * SECOND);
    // Whoever takes it over leaves before it learns of its permit: it ran nothing, but the first may have.
    let gate = world.store.gate_after(Op::Replace, 1);
    leave_at(&world, &rerun, &gate).await;
    world.engine.maintain().await.unwrap();
    world.engine.maintain().await.unwrap();

    let other = rerunning(&ask(&world.engine, "k-1", "13.00 EUR").await);
    assert_eq!(word(&begin(&world.engine, &other).await), "mismatch", "the first may have taken effect");
    world.clock.advance(30 * SECOND);
    assert_eq!(word(&begin(&world.engine, &hold).await), "unresolved", "and hold does not run it again");
    let next = granted(&world.engine, &rerun).await;
    assert_eq!(next.checkpoint().map(|it| &it[..]), Some(&b"half way"[..]));
}

#[tokio::test]
async fn an_error_never_yields_a_permit() {
    let world = World::new().await;
    let fresh = pay(&world.engine).await;
    let released = ask(&world.engine, "k-2", "x").await;
    granted(&world.engine, &released).await.release().await.unwrap();
    for fault in [Fault::Refused, Fault::CallLost, Fault::ReplyLost, Fault::Late, Fault::Corrupt] {
        for attempt in [&fresh, &released] {
            world.store.down(fault.clone());
            let told = world.drive(SECOND / 10, world.engine.begin(attempt)).await;
            assert!(told.is_err(), "{fault:?} gave {}", word(&told.unwrap()));
            world.store.up();
            world.store.deliver_late().await.unwrap();
            // What landed for nobody is freed; then the key runs once more.
            world.engine.maintain().await.unwrap();
            world.clock.advance(10 * SECOND);
            world.engine.maintain().await.unwrap();
            granted(&world.engine, attempt).await.release().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_store_that_goes_away_after_a_lost_reply_leaves_the_claim_uncertain() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    world.store.cue(Op::Insert, 1, Fault::ReplyLost);
    world.store.down(Fault::Refused);
    let told = world.drive(SECOND / 10, world.engine.begin(&attempt)).await;
    world.store.up();
    assert!(world.record(attempt.record_id()).await.is_some(), "the claim has landed");
    let kind = told.unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Uncertain, "`Unavailable` would say that nothing was claimed");
}

#[tokio::test]
async fn a_store_that_is_down_at_the_claim_is_said_at_once() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    world.store.down(Fault::Refused);
    let told = within(world.engine.begin(&attempt)).await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.clock.sleepers(), 0);
}

#[tokio::test]
async fn completion_is_repeated_until_the_store_answers() {
    for fault in [Fault::Refused, Fault::CallLost, Fault::ReplyLost] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        let permit = granted(&world.engine, &attempt).await;
        world.store.down(fault.clone());
        let mut completions = JoinSet::new();
        completions.spawn(permit.complete(answer("paid")));
        for _ in 0..20 {
            world.clock.until_asleep(1).await;
            world.clock.advance(SECOND);
            assert!(completions.try_join_next().is_none(), "nothing is said while the store says nothing");
        }
        world.store.up();
        let told = world.drive(SECOND, within(completions.join_next())).await;
        assert_eq!(told.unwrap().unwrap().unwrap(), answer("paid"), "{fault:?}");
        assert_replay(&begin(&world.engine, &attempt).await, "paid");
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_completion_tells_the_stored_answer() {
    for fault in [Fault::ReplyLost, Fault::Repeated, Fault::Twice] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        let permit = granted(&world.engine, &attempt).await;
        world.store.cue(Op::Replace, 1, fault.clone());
        let told = world.drive(TICK, permit.complete(answer("paid"))).await.unwrap();
        assert_eq!(told, answer("paid"), "{fault:?}");
        let record = world.record(attempt.record_id()).await.unwrap();
        assert_eq!(record.state, State::Done(answer("paid")));
    }
}

#[tokio::test]
async fn a_resent_release_save_or_abandon_is_ok() {
    for fault in [Fault::ReplyLost, Fault::Repeated, Fault::Twice, Fault::CallLost, Fault::Refused] {
        let world = World::new().await;
        let attempt = rerunning(&pay(&world.engine).await);
        let mut permit = granted(&world.engine, &attempt).await;
        world.store.cue(Op::Replace, 1, fault.clone());
        world.drive(TICK, permit.save("half way".into())).await.unwrap();
        world.store.cue(Op::Replace, 1, fault.clone());
        world.drive(TICK, permit.abandon("gave up")).await.unwrap();
        let permit = granted(&world.engine, &attempt).await;
        assert_eq!((permit.attempt(), permit.checkpoint().map(|it| &it[..])), (2, Some(&b"half way"[..])));
        world.store.cue(Op::Replace, 1, fault.clone());
        world.drive(TICK, permit.release()).await.unwrap();
        assert_eq!(granted(&world.engine, &attempt).await.attempt(), 3, "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_copy_of_a_completion_overwrites_nothing() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    world.store.cue(Op::Replace, 1, Fault::Late);
    world.drive(TICK, permit.complete(answer("paid"))).await.unwrap();
    let before = world.record(attempt.record_id()).await;
    let landed = world.store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Replace(Replace::Lost(Some(_), _))]), "{landed:?}");
    assert_eq!(world.record(attempt.record_id()).await, before);
    assert!(matches!(begin(&world.engine, &attempt).await, Begin::Replay(_)));
}

#[tokio::test]
async fn a_stray_that_cannot_be_read_stops_neither_the_others_nor_the_sweep() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    given_up(&world, &attempt).await;
    world.store.cue(Op::Load, 1, Fault::Corrupt);
    world.engine.maintain().await.unwrap();
    world.store.forget();
    world.engine.maintain().await.unwrap();
    assert_eq!(world.store.ops(), [Op::Sweep], "an operator sees the record; upkeep goes on");
}

#[tokio::test]
async fn a_very_long_path_is_listed_cut_and_told_apart_whole() {
    let world = World::new().await;
    let mut attempt = pay(&world.engine).await;
    attempt.scope.path = format!("/{}", "é".repeat(40_000));
    let permit = granted(&world.engine, &attempt).await;
    let listed = world.record(permit.record_id()).await.unwrap().listing.path.clone();
    assert!(listed.len() <= 1027 && listed.ends_with('…'), "{} bytes", listed.len());
    let mut other = attempt.clone();
    other.scope.path.push('x');
    assert_ne!(other.record_id(), attempt.record_id());
}
