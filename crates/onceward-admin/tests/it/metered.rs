use std::sync::Arc;

use onceward_admin::{MeteredStore, Metrics};
use onceward_core::{RecordId, SystemClock};
use onceward_testkit::conformance::{Fixture as _, Memory, Wrapping};
use onceward_testkit::{Fault, Op, for_polls};

use crate::bench::Bench;

mod conformance {
    use super::*;

    fn metered() -> Wrapping<Memory> {
        Wrapping::new(Memory::default(), |store| {
            Arc::new(MeteredStore::new(store, Arc::new(SystemClock), Metrics::new([""; 0])))
        })
    }

    onceward_testkit::store_conformance!(metered());
    onceward_testkit::store_reference!(metered(), runs = 50);
    onceward_testkit::store_history!(metered(), runs = 5);
}

#[tokio::test]
async fn each_call_is_measured_by_operation_and_outcome() {
    let bench = Bench::new();
    bench.done("k1").await;
    bench.begins("k1").await;
    let store = bench.engine.store();
    let id = RecordId::from_bytes([9; 32]);
    for fault in [Fault::Refused, Fault::CallLost, Fault::Corrupt] {
        bench.store.cue(Op::Load, 1, fault);
        store.load(id).await.unwrap_err();
    }
    store.check().await.unwrap();
    let page = bench.metrics.page();
    for (operation, outcome, count) in [
        // The hash key, and then the claim.
        ("insert", "kept", 2),
        ("replace", "kept", 1),
        ("load", "unavailable", 1),
        ("load", "uncertain", 1),
        ("load", "corrupt", 1),
        ("check", "ok", 1),
    ] {
        let line = format!(
            "onceward_store_call_duration_seconds_count{{operation=\"{operation}\",outcome=\"{outcome}\"}} {count}\n"
        );
        assert!(page.contains(&line), "{line}{page}");
    }
}

#[tokio::test]
async fn the_time_of_a_call_is_that_of_the_given_clock() {
    let bench = Bench::new();
    let gate = bench.store.gate_before(Op::Check, 1);
    let store = Arc::clone(bench.engine.store());
    let (checked, ()) = tokio::join!(store.check(), async {
        gate.reached().await;
        bench.advance(3);
        gate.open();
    });
    checked.unwrap();
    let page = bench.metrics.page();
    let line = "onceward_store_call_duration_seconds_sum{operation=\"check\",outcome=\"ok\"} 3.0\n";
    assert!(page.contains(line), "{page}");
}

#[tokio::test]
async fn a_call_that_hangs_and_is_dropped_is_measured_too() {
    let bench = Bench::new();
    bench.store.cue(Op::Check, 1, Fault::Hangs);
    assert!(for_polls(1, bench.engine.store().check()).await.is_none());
    let line = "onceward_store_call_duration_seconds_count{operation=\"check\",outcome=\"dropped\"} 1\n";
    assert!(bench.metrics.page().contains(line));
}

#[tokio::test]
async fn hints_are_passed_on() {
    let (store, listeners) = onceward_testkit::hinting(Memory::default().open().await);
    let store = MeteredStore::new(store, Arc::new(SystemClock), Metrics::new([""; 0]));
    onceward_testkit::hints_are_passed_on(&store, &listeners).await;
}
