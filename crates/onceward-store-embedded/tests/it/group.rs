//! One sync serves many calls, nobody is told too early, and a failing disk ends in errors.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use onceward_core::store::{Due, Filter, Insert, Put, Replace, Swept};
use onceward_core::{Answer, ErrorKind, State, Store, SystemClock};
use onceward_store_embedded::{EmbeddedSettings, EmbeddedStore, OpenError, Point, Probe};
use onceward_testkit::{HandClock, eventually, within};

use crate::sample::{claim, completion, id, inserted, open, settings, stored};

/// Stops the committer where a test wants it, fails it there, and counts the groups.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    stop_before: bool,
    stop_sync: bool,
    stop_after: bool,
    stopped: bool,
    fail_before: bool,
    fail_after: bool,
    fail_reopen: bool,
    reopenings: usize,
    panics: Option<Point>,
    groups: usize,
    calls: usize,
}

impl Gate {
    fn with(change: impl FnOnce(&mut GateState)) -> Arc<Self> {
        let it = Self::default();
        change(&mut it.state.lock().unwrap());
        Arc::new(it)
    }

    fn change<T>(&self, change: impl FnOnce(&mut GateState) -> T) -> T {
        let changed = change(&mut self.state.lock().unwrap());
        self.moved.notify_all();
        changed
    }

    async fn until_stopped(&self) {
        eventually(async || self.change(|it| it.stopped)).await;
    }
}

impl Probe for Gate {
    fn reached(&self, point: Point) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if let Point::BeforeWrite { calls, .. } = point {
            state.groups += 1;
            state.calls += calls;
        }
        state.reopenings += usize::from(point == Point::BeforeReopen);
        let stop = |it: &GateState| match point {
            Point::BeforeWrite { .. } => it.stop_before,
            Point::BeforeSync => it.stop_sync,
            Point::AfterWrite => it.stop_after,
            _ => false,
        };
        while stop(&state) {
            state.stopped = true;
            state = self.moved.wait(state).unwrap();
        }
        state.stopped = false;
        let panics =
            state.panics.is_some_and(|it| std::mem::discriminant(&it) == std::mem::discriminant(&point));
        if panics {
            drop(state);
            panic!("the committer breaks down, as this test wants");
        }
        let fails = match point {
            Point::BeforeWrite { .. } => state.fail_before,
            Point::AfterWrite => state.fail_after,
            Point::BeforeReopen => state.fail_reopen,
            _ => false,
        };
        if fails { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

fn open_with(settings: EmbeddedSettings, gate: &Arc<Gate>) -> EmbeddedStore {
    let probe: Arc<dyn Probe> = Arc::clone(gate) as _;
    EmbeddedStore::open_with_probe(settings, Arc::new(SystemClock), probe).expect("the store opens")
}

#[tokio::test]
async fn calls_that_wait_for_a_sync_share_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|it| it.stop_before = true);
    let store = open_with(settings(folder.path()), &gate);
    let put = claim();
    let mut calls: Vec<_> = (0..64).map(|it| store.insert(id(it), &put)).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending(), "on its way, not answered");
    }
    gate.change(|it| it.stop_before = false);
    for told in within(join_all(calls)).await {
        assert!(matches!(told, Ok(Insert::Kept(_))), "{told:?}");
    }
    let (groups, calls) = gate.change(|it| (it.groups, it.calls));
    assert_eq!(calls, 64);
    assert!(groups <= 2, "those that were there when the first group was judged, and the rest: {groups}");
}

#[tokio::test]
async fn a_group_is_never_larger_than_the_setting() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let store = open_with(EmbeddedSettings { max_group: 8, ..settings(folder.path()) }, &gate);
    let put = claim();
    let told = within(join_all((0..64).map(|it| store.insert(id(it), &put)))).await;
    assert!(told.iter().all(Result::is_ok));
    assert!(gate.change(|it| it.groups) >= 8);
}

#[tokio::test]
async fn nobody_is_told_or_shown_what_is_not_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|it| (it.stop_before, it.stop_after) = (true, true));
    let store = open_with(settings(folder.path()), &gate);
    let put = claim();
    let mut call = store.insert(id(1), &put);
    assert!(poll!(&mut call).is_pending());
    gate.until_stopped().await;
    assert_eq!(stored(&store, id(1)).await, None, "judged, not written");
    assert!(store.list(&Filter::default(), None, 10).await.unwrap().records.is_empty());
    gate.change(|it| (it.stopped, it.stop_before) = (false, false));
    gate.until_stopped().await;
    assert!(poll!(&mut call).is_pending(), "written, but its caller is told last");
    let shown = stored(&store, id(1)).await.expect("on the disk, so it may be shown");
    gate.change(|it| it.stop_after = false);
    assert_eq!(within(call).await.unwrap(), Insert::Kept(shown));
}

#[tokio::test]
async fn nobody_is_shown_what_is_in_the_log_but_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let store = open_with(settings(folder.path()), &gate);
    let first = inserted(&store, id(1), &claim()).await;
    gate.change(|it| it.stop_sync = true);
    let (put, done) = (claim(), completion(&first));
    let mut claiming = store.insert(id(2), &put);
    assert!(poll!(&mut claiming).is_pending());
    gate.until_stopped().await;
    let mut completing = store.replace(id(1), first.revision, &done);
    assert!(poll!(&mut completing).is_pending());
    assert_eq!(stored(&store, id(2)).await, None);
    assert_eq!(stored(&store, id(1)).await, Some(first));
    let page = store.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.records.len(), 1);
    gate.change(|it| it.stop_sync = false);
    let claimed = within(claiming).await.unwrap();
    assert!(matches!(within(completing).await, Ok(Replace::Kept(_))));
    assert_eq!(claimed, Insert::Kept(stored(&store, id(2)).await.unwrap()));
}

#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|it| it.stop_before = true);
    let store = open_with(EmbeddedSettings { max_queue: 2, ..settings(folder.path()) }, &gate);
    let put = claim();
    let mut calls: Vec<_> = (0..8).map(|it| store.insert(id(it), &put)).collect();
    for call in &mut calls {
        assert!(poll!(call).is_pending());
    }
    gate.change(|it| it.stop_before = false);
    assert!(within(join_all(calls)).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_replay_writes_nothing_and_needs_no_sync() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let store = open_with(settings(folder.path()), &gate);
    let first = inserted(&store, id(1), &claim()).await;
    let before = gate.change(|it| it.groups);
    assert!(matches!(store.insert(id(1), &claim()).await, Ok(Insert::Found(found, _)) if found == first));
    assert_eq!(gate.change(|it| it.groups), before);
}

#[tokio::test]
async fn a_disk_that_refuses_before_the_write_costs_only_that_group() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|it| it.fail_before = true);
    let store = open_with(settings(folder.path()), &gate);
    let error = store.insert(id(1), &claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    gate.change(|it| it.fail_before = false);
    assert_eq!(stored(&store, id(1)).await, None, "nothing was written");
    inserted(&store, id(1), &claim()).await;
}

#[tokio::test]
async fn after_a_failed_sync_nobody_is_shown_anything_until_the_files_are_open_again() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let store = open_with(settings(folder.path()), &gate);
    let before = inserted(&store, id(1), &claim()).await;
    gate.change(|it| (it.fail_after, it.fail_reopen) = (true, true));
    assert_eq!(store.insert(id(2), &claim()).await.unwrap_err().kind(), ErrorKind::Uncertain);
    gate.change(|it| it.fail_after = false);
    for error in [
        store.insert(id(3), &claim()).await.unwrap_err(),
        store.load(id(1)).await.unwrap_err(),
        store.due(Due::Lease.start(), 1).await.unwrap_err(),
        store.list(&Filter::default(), None, 1).await.unwrap_err(),
        store.sweep(1).await.unwrap_err(),
        store.check().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let held = EmbeddedSettings { lock_wait: Duration::ZERO, ..settings(folder.path()) };
    let second = EmbeddedStore::open(held, Arc::new(SystemClock)).unwrap_err();
    assert!(matches!(second, OpenError::Locked { .. }), "nobody else gets in meanwhile: {second}");
    gate.change(|it| it.fail_reopen = false);
    eventually(async || store.check().await.is_ok()).await;
    assert_eq!(store.reopened(), 1);
    assert_eq!(stored(&store, id(1)).await, Some(before), "what was told stands");
    assert!(stored(&store, id(2)).await.is_some(), "this one had reached the file, and is on the disk now");
    assert_eq!(stored(&store, id(3)).await, None);
    inserted(&store, id(4), &claim()).await;
    drop(store);
    let store = open(folder.path());
    for number in [1, 2, 4] {
        assert!(stored(&store, id(number)).await.is_some(), "{number}");
    }
}

/// The answers of a group go to its callers' thread as one task. Whatever becomes of that group, of those callers and of
/// the store, each hears or has left, and what it hears is what the disk has.
#[tokio::test]
async fn callers_on_one_thread_all_hear_the_truth_whatever_happens_meanwhile() {
    for (fails, closes) in [(false, false), (true, false), (false, true), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::with(|_| ());
        let store = open_with(settings(folder.path()), &gate);
        let mut claimed = Vec::new();
        for number in 0..50 {
            claimed.push(inserted(&store, id(number), &claim()).await);
        }
        gate.change(|it| (it.stop_after, it.fail_after) = (true, fails));
        let put = claim();
        let dones: Vec<_> = claimed.iter().map(|it| (completion(it), it.revision, it.id)).collect();
        let mut swaps: Vec<_> = dones.iter().map(|(put, seen, id)| store.replace(*id, *seen, put)).collect();
        let mut inserts: Vec<_> = (50..100).map(|it| store.insert(id(it), &put)).collect();
        for call in &mut inserts {
            assert!(poll!(call).is_pending());
        }
        for call in &mut swaps {
            assert!(poll!(call).is_pending());
        }
        gate.until_stopped().await;
        // Every third caller leaves: some of them in the group that is being written, some in the line.
        let stay = |at: usize| !at.is_multiple_of(3);
        let mut at = 0..;
        inserts.retain(|_| at.next().is_some_and(stay));
        let mut at = 0..;
        swaps.retain(|_| at.next().is_some_and(stay));
        gate.change(|it| (it.stop_after, it.fail_after) = (false, false));
        if closes {
            store.close();
        }
        let inserts = within(join_all(inserts)).await;
        let swaps = within(join_all(swaps)).await;
        assert_eq!((inserts.len(), swaps.len()), (33, 33), "fails: {fails}, closes: {closes}");
        if !fails {
            assert!(inserts.iter().all(|it| matches!(it, Ok(Insert::Kept(_)))), "{inserts:?}");
            assert!(swaps.iter().all(|it| matches!(it, Ok(Replace::Kept(_)))), "{swaps:?}");
        }
        drop((store, gate));
        let store = open(folder.path());
        for (at, told) in (50..).filter(|it| stay(usize::from(*it) - 50)).zip(inserts) {
            let there = stored(&store, id(at)).await;
            match told {
                Ok(told) => assert_eq!(Some(told), there.map(Insert::Kept)),
                Err(it) if it.kind() == ErrorKind::Uncertain => {}
                Err(it) => assert!(it.kind() == ErrorKind::Unavailable && there.is_none(), "{at}: {it}"),
            }
        }
        for (at, told) in (0..50).filter(|it| stay(usize::from(*it))).zip(swaps) {
            let there = stored(&store, id(at)).await.unwrap();
            match told {
                Ok(told) => assert_eq!(told, Replace::Kept(there)),
                Err(it) if it.kind() == ErrorKind::Uncertain => {}
                Err(it) => assert!(
                    it.kind() == ErrorKind::Unavailable && there.state == State::Running,
                    "{at}: {it}"
                ),
            }
        }
    }
}

/// An empty place, or an older copy, has forgotten what was claimed: whatever the operator moves there meanwhile.
#[tokio::test]
async fn after_a_fault_only_the_very_directory_is_opened_again() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, aside) = (parent.path().join("data"), parent.path().join("aside"));
    let copy = parent.path().join("copy");
    let gate = Gate::with(|_| ());
    drop(open(&folder));
    for older in [false, true] {
        let store = open_with(settings(&folder), &gate);
        if older {
            drop(open(&copy));
        } else {
            inserted(&store, id(1), &claim()).await;
        }
        gate.change(|it| (it.fail_after, it.fail_reopen, it.reopenings) = (true, true, 0));
        store.insert(id(2 + u16::from(older)), &claim()).await.unwrap_err();
        std::fs::rename(&folder, &aside).unwrap();
        if older {
            std::fs::rename(&copy, &folder).unwrap();
        } else {
            std::fs::create_dir(&folder).unwrap();
        }
        gate.change(|it| (it.fail_after, it.fail_reopen, it.reopenings) = (false, false, 0));
        eventually(async || store.reopened() > 0 || gate.change(|it| it.reopenings) >= 3).await;
        assert_eq!(store.reopened(), 0, "another directory is taken for the store's, older: {older}");
        std::fs::rename(&folder, parent.path().join(format!("other-{older}"))).unwrap();
        std::fs::rename(&aside, &folder).unwrap();
        eventually(async || store.check().await.is_ok()).await;
        assert!(stored(&store, id(1)).await.is_some(), "what was told stands");
    }
}

/// After a failed sync the journal's pages are no proof of what the disk has, so nothing is appended behind them.
#[tokio::test]
async fn after_a_failed_sync_writing_goes_on_in_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let store = open_with(settings(folder.path()), &gate);
    inserted(&store, id(1), &claim()).await;
    gate.change(|it| it.fail_after = true);
    store.insert(id(2), &claim()).await.unwrap_err();
    gate.change(|it| it.fail_after = false);
    eventually(async || store.check().await.is_ok()).await;
    inserted(&store, id(3), &claim()).await;
    assert!(!folder.path().join("log/1.log").exists(), "the old segment is gone");
    drop(store);
    // The old journal may be gone or not: it is no longer needed.
    let _ = std::fs::remove_file(folder.path().join("db/0.jnl"));
    let store = open(folder.path());
    for number in [1, 2, 3] {
        assert!(stored(&store, id(number)).await.is_some(), "{number}");
    }
}

#[tokio::test]
async fn a_committer_that_panics_leaves_nobody_waiting_and_the_store_out_of_order() {
    for point in [Point::BeforeWrite { calls: 0, changes: 0 }, Point::AfterWrite] {
        let folder = tempfile::tempdir().unwrap();
        let gate = Gate::with(|it| (it.stop_before, it.panics) = (true, Some(point)));
        let store = open_with(settings(folder.path()), &gate);
        let put = claim();
        let mut taken_up = store.insert(id(1), &put);
        assert!(poll!(&mut taken_up).is_pending());
        gate.until_stopped().await;
        let mut waiting: Vec<_> = (2..5).map(|it| store.insert(id(it), &put)).collect();
        for call in &mut waiting {
            assert!(poll!(call).is_pending());
        }
        gate.change(|it| it.stop_before = false);
        assert_eq!(within(taken_up).await.unwrap_err().kind(), ErrorKind::Uncertain);
        assert_eq!(store.load(id(1)).await.unwrap_err().kind(), ErrorKind::Unavailable);
        for told in within(join_all(waiting)).await {
            assert_eq!(told.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        for error in [
            within(store.insert(id(6), &claim())).await.unwrap_err(),
            within(store.sweep(1)).await.unwrap_err(),
            within(store.check()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        drop(store);
        let store = open(folder.path());
        assert_eq!(stored(&store, id(1)).await.is_some(), point == Point::AfterWrite);
        assert_eq!(stored(&store, id(2)).await, None, "nothing was written of it");
    }
}

#[tokio::test]
async fn sweeping_long_answers_goes_in_steps_of_few_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::with(|_| ());
    let clock = HandClock::new();
    let probe: Arc<dyn Probe> = Arc::clone(&gate) as _;
    let store =
        EmbeddedStore::open_with_probe(settings(folder.path()), Arc::new(clock.clone()), probe).unwrap();
    let long = State::Done(Answer::new("test", vec![7; 1 << 20]));
    let put = Put { state: long, ..claim() };
    for number in 0..10 {
        inserted(&store, id(number), &put).await;
    }
    clock.advance(put.policy.retention);
    let before = gate.change(|it| it.groups);
    let swept = store.sweep(1000).await.unwrap();
    assert_eq!(swept, Swept { tombstones: 10, ..Swept::default() });
    assert_eq!(gate.change(|it| it.groups) - before, 4, "three answers of a mebibyte are below 4 MiB");
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    inserted(&store, id(1), &claim()).await;
    store.close();
    store.close();
    for error in [store.insert(id(2), &claim()).await.unwrap_err(), store.load(id(1)).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("closed"), "{error}");
    }
}
