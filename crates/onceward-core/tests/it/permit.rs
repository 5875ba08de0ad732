//! Permits: leases, renewals, holders that sleep too long, stores that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onceward_core::decide::Verdict;
use onceward_core::{Attempt, Clock, ErrorKind, Lost, Operated, Permit, Revision, State, Status};
use onceward_testkit::{Fault, within};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::world::{SECOND, World, answer, assert_replay, begin, granted, pay, rerunning, word};

/// Work that ends when it is told to, and notes when it is dropped before that.
struct Work {
    end: oneshot::Sender<()>,
    dropped: Arc<AtomicBool>,
    kept: JoinSet<(Permit, Result<(), Lost>)>,
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Work {
    fn start(mut permit: Permit) -> Self {
        let (end, ended) = oneshot::channel();
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = OnDrop(Arc::clone(&dropped));
        let mut kept = JoinSet::new();
        kept.spawn(async move {
            let work = async {
                let guard = guard;
                ended.await.unwrap();
                std::mem::forget(guard);
            };
            let told = permit.keep(work).await;
            (permit, told)
        });
        Self { end, dropped, kept }
    }

    fn was_dropped(&self) -> bool {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Ends the work; the permit must still be good.
    async fn finish(mut self) -> Permit {
        self.end.send(()).unwrap();
        let (permit, told) = within(self.kept.join_next()).await.unwrap().unwrap();
        told.unwrap();
        permit
    }

    /// The work must have been, or be about to be, dropped.
    async fn lost(&mut self) -> Permit {
        let (permit, told) = within(self.kept.join_next()).await.unwrap().unwrap();
        assert_eq!(told, Err(Lost));
        assert!(self.was_dropped());
        permit
    }
}

/// A permit whose lease has passed, and the permit of whoever took over.
async fn overtaken(world: &World) -> (Attempt, Permit, Permit) {
    let attempt = rerunning(&pay(&world.engine).await);
    let old = granted(&world.engine, &attempt).await;
    world.clock.advance(30 * SECOND);
    let new = granted(&world.engine, &attempt).await;
    assert!(new.fence() > old.fence());
    (attempt, old, new)
}

#[tokio::test]
async fn a_paused_holder_changes_nothing() {
    for what in ["complete", "save", "release", "abandon"] {
        let world = World::new().await;
        let (attempt, mut old, new) = overtaken(&world).await;
        let before = world.record(attempt.record_id()).await;
        let told = match what {
            "complete" => old.complete(answer("from the dead")).await.map(|_| ()),
            "save" => old.save("from the dead".into()).await,
            "release" => old.release().await,
            _ => old.abandon("from the dead").await,
        };
        assert_eq!(told.unwrap_err().kind(), ErrorKind::Lost, "{what}");
        assert_eq!(world.record(attempt.record_id()).await, before, "{what}");
        new.complete(answer("paid")).await.unwrap();
        assert_replay(&begin(&world.engine, &attempt).await, "paid");
    }
}

#[tokio::test]
async fn a_paused_holders_work_is_dropped_when_it_wakes() {
    let world = World::new().await;
    let (_, old, _new) = overtaken(&world).await;
    let mut work = Work::start(old);
    drop(work.lost().await);
}

#[tokio::test]
async fn completing_after_someone_else_completed_tells_the_answer_that_stands() {
    let world = World::new().await;
    let (attempt, old, new) = overtaken(&world).await;
    new.complete(answer("paid")).await.unwrap();
    let before = world.record(attempt.record_id()).await;
    assert_eq!(old.complete(answer("from the dead")).await.unwrap(), answer("paid"));
    assert_eq!(world.record(attempt.record_id()).await, before, "never overwritten");
}

#[tokio::test]
async fn releasing_or_abandoning_after_someone_else_completed_is_refused() {
    for releases in [true, false] {
        let world = World::new().await;
        let (attempt, old, new) = overtaken(&world).await;
        new.complete(answer("paid")).await.unwrap();
        let told = if releases { old.release().await } else { old.abandon("late").await };
        assert_eq!(told.unwrap_err().kind(), ErrorKind::Lost);
        let state = world.record(attempt.record_id()).await.unwrap().state;
        assert_eq!(state, State::Done(answer("paid")), "nothing was erased");
    }
}

#[tokio::test]
async fn under_hold_a_late_completion_on_the_unchanged_revision_is_accepted() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    world.clock.advance(3600 * SECOND);
    assert_eq!(word(&begin(&world.engine, &attempt).await), "unresolved");
    assert_eq!(permit.complete(answer("paid")).await.unwrap(), answer("paid"));
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
}

#[tokio::test]
async fn work_that_outlives_the_lease_renews() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let work = Work::start(granted(&world.engine, &attempt).await);
    for _ in 0..20 {
        world.clock.until_asleep(1).await;
        world.clock.advance(10 * SECOND);
        world.clock.until_asleep(1).await;
        assert_eq!(word(&begin(&world.engine, &attempt).await), "busy");
    }
    let permit = work.finish().await;
    assert_eq!(permit.attempt(), 1);
    permit.complete(answer("paid")).await.unwrap();
    assert_replay(&begin(&world.engine, &attempt).await, "paid");
    assert_eq!(world.clock.sleepers(), 0, "no renewal outlives its work");
}

#[tokio::test]
async fn renewals_end_at_run_max_and_the_record_shows_unresolved() {
    let world = World::new().await;
    let mut attempt = pay(&world.engine).await;
    attempt.policy.run_max = 60 * SECOND;
    let start = world.clock.boot();
    let work = Work::start(granted(&world.engine, &attempt).await);
    while world.clock.boot() - start < 59 * SECOND {
        world.clock.until_asleep(1).await;
        world.clock.advance(SECOND);
        tokio::task::yield_now().await;
        assert_eq!(word(&begin(&world.engine, &attempt).await), "busy");
    }
    world.clock.advance(SECOND);
    assert_eq!(word(&begin(&world.engine, &attempt).await), "unresolved");
    let shown = world.engine.show(attempt.record_id()).await.unwrap();
    assert_eq!(shown.record.unwrap().status_at(shown.now), Status::Unresolved);
    world.clock.advance(600 * SECOND);
    assert!(!work.was_dropped(), "under hold nobody else runs");
    work.finish().await.complete(answer("paid")).await.unwrap();
}

#[tokio::test]
async fn under_rerun_the_work_is_dropped_at_run_max() {
    let world = World::new().await;
    let mut attempt = rerunning(&pay(&world.engine).await);
    attempt.policy.run_max = 60 * SECOND;
    let start = world.clock.boot();
    let mut work = Work::start(granted(&world.engine, &attempt).await);
    drop(world.drive(SECOND, work.lost()).await);
    let ran = world.clock.boot() - start;
    assert!(ran >= 60 * SECOND && ran <= 62 * SECOND, "{ran:?}");
}

#[tokio::test]
async fn under_rerun_work_is_dropped_when_the_lease_cannot_be_renewed() {
    for fault in [Fault::Refused, Fault::CallLost] {
        let world = World::new().await;
        let attempt = rerunning(&pay(&world.engine).await);
        let start = world.clock.boot();
        let mut work = Work::start(granted(&world.engine, &attempt).await);
        world.store.down(fault);
        drop(world.drive(SECOND, work.lost()).await);
        let ran = world.clock.boot() - start;
        assert!(ran <= 31 * SECOND, "somebody else may run after 30 s, it ran {ran:?}");
        assert!(ran >= 29 * SECOND, "there was hope until then, it ran {ran:?}");
    }
}

#[tokio::test]
async fn under_rerun_work_is_dropped_even_when_the_store_never_answers() {
    let world = World::new().await;
    let attempt = rerunning(&pay(&world.engine).await);
    let mut work = Work::start(granted(&world.engine, &attempt).await);
    world.store.down(Fault::Hangs);
    world.clock.until_asleep(1).await;
    world.clock.advance(10 * SECOND);
    // It stands in its first renewal now, or soon; the lease ends 20 s later.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(20 * SECOND);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(work.was_dropped(), "somebody else may run now");
    drop(work.lost().await);
}

#[tokio::test]
async fn under_hold_work_goes_on_through_a_store_outage() {
    for fault in [Fault::Refused, Fault::CallLost, Fault::Hangs] {
        let world = World::new().await;
        let attempt = pay(&world.engine).await;
        let work = Work::start(granted(&world.engine, &attempt).await);
        world.store.down(fault.clone());
        for _ in 0..30 {
            world.clock.advance(10 * SECOND);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        world.store.up();
        assert!(!work.was_dropped(), "{fault:?}");
        work.finish().await.complete(answer("paid")).await.unwrap();
        assert_replay(&begin(&world.engine, &attempt).await, "paid");
    }
}

#[tokio::test]
async fn after_an_outage_under_hold_the_lease_is_alive_again() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let work = Work::start(granted(&world.engine, &attempt).await);
    world.store.down(Fault::Refused);
    for _ in 0..40 {
        world.clock.until_asleep(1).await;
        world.clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    world.store.up();
    assert_eq!(word(&begin(&world.engine, &attempt).await), "unresolved");
    world.clock.until_asleep(1).await;
    world.clock.advance(SECOND);
    world.clock.until_asleep(1).await;
    assert_eq!(word(&begin(&world.engine, &attempt).await), "busy");
    work.finish().await.complete(answer("paid")).await.unwrap();
}

async fn free(world: &World, attempt: &Attempt, seen: Revision) {
    let told = world.engine.verdict(attempt.record_id(), seen, &Verdict::Rerun, true).await.unwrap();
    assert!(matches!(told, Operated::Done(_)), "{told:?}");
}

#[tokio::test]
async fn an_operators_forced_verdict_cancels_the_work() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let mut work = Work::start(granted(&world.engine, &attempt).await);
    world.clock.until_asleep(1).await;
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    free(&world, &attempt, seen).await;
    let second = granted(&world.engine, &attempt).await;
    world.clock.advance(10 * SECOND);
    let old = work.lost().await;
    assert_eq!(old.complete(answer("from the dead")).await.unwrap_err().kind(), ErrorKind::Lost);
    second.complete(answer("paid")).await.unwrap();
}

#[tokio::test]
async fn an_operators_verdict_cancels_work_that_is_past_run_max() {
    let world = World::new().await;
    let mut attempt = pay(&world.engine).await;
    attempt.policy.run_max = 30 * SECOND;
    let mut work = Work::start(granted(&world.engine, &attempt).await);
    world.clock.until_asleep(1).await;
    world.clock.advance(31 * SECOND);
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    free(&world, &attempt, seen).await;
    let second = granted(&world.engine, &attempt).await;
    for _ in 0..60 {
        world.clock.advance(SECOND);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    drop(second);
    assert!(work.was_dropped(), "two of them run, and nothing tells the first");
    drop(work.lost().await);
}

#[tokio::test]
async fn an_answer_by_an_operator_is_what_the_holder_is_told() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    let permit = granted(&world.engine, &attempt).await;
    let seen = world.record(attempt.record_id()).await.unwrap().revision;
    let verdict = Verdict::Answer(answer("by hand"));
    world.engine.verdict(attempt.record_id(), seen, &verdict, true).await.unwrap();
    assert_eq!(permit.complete(answer("paid")).await.unwrap(), answer("by hand"));
    assert_replay(&begin(&world.engine, &attempt).await, "by hand");
}

#[tokio::test]
async fn an_abandoned_operation_is_unresolved_at_once_and_a_late_answer_still_counts() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.abandon("the connection broke").await.unwrap();
    assert_eq!(word(&begin(&world.engine, &attempt).await), "unresolved");
    let state = world.record(attempt.record_id()).await.unwrap().state;
    assert_eq!(state, State::Abandoned { reason: "the connection broke".into() });
}

#[tokio::test]
async fn a_later_attempt_can_only_be_stricter() {
    let world = World::new().await;
    let hold = pay(&world.engine).await;
    drop(granted(&world.engine, &hold).await);
    world.clock.advance(30 * SECOND);
    assert_eq!(word(&begin(&world.engine, &rerunning(&hold)).await), "unresolved");
}

#[tokio::test]
async fn reasons_are_cut_at_a_whole_character() {
    let world = World::new().await;
    let attempt = pay(&world.engine).await;
    granted(&world.engine, &attempt).await.abandon(&"é".repeat(200)).await.unwrap();
    let state = world.record(attempt.record_id()).await.unwrap().state;
    assert_eq!(state, State::Abandoned { reason: "é".repeat(127) });
}
