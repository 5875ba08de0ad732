use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use onceward_admin::{Metrics, Served};
use onceward_core::{Event, Observer as _};

use crate::bench::Bench;

fn served() -> Served<'static> {
    Served {
        route: Some("/payments"),
        method: "POST",
        outcome: "first_run",
        status: 201,
        elapsed: Duration::from_millis(20),
        request_bytes: Some(100),
        answer_bytes: Some(2000),
    }
}

/// The page without values, so that only names, types, units, help texts and labels are left. The series of
/// a metric are sorted: their order on the page says nothing.
fn shape(page: &str) -> String {
    let mut shape = String::new();
    let mut series = BTreeSet::new();
    for line in page.lines() {
        if line.starts_with('#') {
            shape.extend(std::mem::take(&mut series));
            shape.push_str(line);
            shape.push('\n');
            continue;
        }
        let name = line.rsplit_once(' ').unwrap().0;
        // One line for all buckets of a histogram.
        let name = name
            .split_once("le=\"")
            .map_or(name.to_owned(), |(head, tail)| format!("{head}le=…{}", tail.split_once('"').unwrap().1));
        series.insert(format!("{name}\n"));
    }
    shape.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

fn count_everything(metrics: &Metrics) {
    metrics.served(&served());
    metrics.served(&Served { route: None, outcome: "pass_through", method: "GET", status: 204, ..served() });
    metrics.upstream("2xx", Duration::from_millis(10));
    metrics.count_running(|| 3);
    for event in [
        Event::Granted { attempt: 2 },
        Event::Replayed { cached: false },
        Event::Replayed { cached: true },
        Event::Busy,
        Event::Waited(Duration::from_secs(1)),
        Event::Mismatch,
        Event::Unresolved,
        Event::Gone,
        Event::Completed { answer_bytes: 300 },
        Event::Released,
        Event::Abandoned,
        Event::LeaseLost,
        Event::FinishRetried,
        Event::Verdict,
    ] {
        metrics.on(&event);
    }
}

#[tokio::test]
async fn the_page_has_these_names_and_no_others() {
    let bench = Bench::new();
    count_everything(&bench.metrics);
    let reply = bench.raw(Method::GET, "/metrics", &[], "").await;
    assert_eq!(reply.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(reply.text.ends_with("# EOF\n"));
    let shape = shape(&reply.text);
    let stored = include_str!("metrics.snapshot");
    assert!(shape == stored, "the metrics page has changed; if that is meant, store this:\n>>>\n{shape}<<<");
}

#[tokio::test]
async fn every_event_is_counted() {
    let metrics = Metrics::new([""; 0]);
    count_everything(&metrics);
    let page = metrics.page();
    for line in [
        "onceward_decisions_total{decision=\"run\"} 1",
        "onceward_decisions_total{decision=\"replay\"} 1",
        "onceward_decisions_total{decision=\"replay_cached\"} 1",
        "onceward_decisions_total{decision=\"busy\"} 1",
        "onceward_decisions_total{decision=\"mismatch\"} 1",
        "onceward_decisions_total{decision=\"unresolved\"} 1",
        "onceward_decisions_total{decision=\"gone\"} 1",
        "onceward_finishes_total{finish=\"completed\"} 1",
        "onceward_finishes_total{finish=\"released\"} 1",
        "onceward_finishes_total{finish=\"abandoned\"} 1",
        "onceward_leases_lost_total 1",
        "onceward_finish_retries_total 1",
        "onceward_verdicts_total 1",
        "onceward_permit_attempt_sum 2.0",
        "onceward_wait_duration_seconds_sum 1.0",
        "onceward_stored_answer_bytes_sum 300.0",
        "onceward_operations_running 3",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
}

#[tokio::test]
async fn the_engine_counts_what_it_did() {
    let bench = Bench::new();
    bench.done("k1").await;
    bench.begins("k1").await;
    let id = bench.unresolved("k2").await;
    let revision = bench.revision(id).await;
    let uri = format!("/api/v1/records/{id}?revision={revision}");
    assert_eq!(bench.call(Method::DELETE, &uri, "").await.status, 200);
    bench.advance(2 * 24 * 3600);
    bench.engine.maintain().await.unwrap();
    let page = bench.raw(Method::GET, "/metrics", &[], "").await.text;
    for line in [
        "onceward_decisions_total{decision=\"run\"} 2",
        "onceward_decisions_total{decision=\"replay_cached\"} 1",
        "onceward_finishes_total{finish=\"completed\"} 1",
        "onceward_finishes_total{finish=\"abandoned\"} 1",
        "onceward_verdicts_total 1",
        "onceward_store_swept_total{to=\"tombstone\"} 1",
        "onceward_store_swept_total{to=\"removed\"} 1",
        "onceward_store_up 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
}

#[test]
fn no_request_can_add_a_series() {
    let metrics = Metrics::new(["/payments"]);
    let wild: Vec<String> = (0..100).map(|it| format!("W{it}")).collect();
    let measure = |metrics: &Metrics| metrics.page().lines().count();
    // All that wildness may become is `other`, once.
    let tame = Served { route: Some("/not-configured"), method: "BREW", status: 999, ..served() };
    metrics.served(&tame);
    metrics.upstream("teapot", Duration::ZERO);
    let before = measure(&metrics);
    for word in &wild {
        metrics.served(&Served { route: Some(word), method: word, ..tame });
        metrics.upstream(word, Duration::ZERO);
    }
    for status in 600..u16::MAX {
        metrics.served(&Served { status, ..tame });
    }
    assert_eq!(measure(&metrics), before);
    let page = metrics.page();
    let line = "onceward_requests_total{route=\"other\",method=\"other\",outcome=\"first_run\",status_class=\"other\"}";
    assert!(page.contains(line), "{page}");
    assert!(!page.contains("W1"), "{page}");
}

#[test]
fn a_configured_route_cannot_break_the_page() {
    let metrics = Metrics::new(["/a\"b\\c\nd"]);
    metrics.served(&Served { route: Some("/a\"b\\c\nd"), ..served() });
    assert!(metrics.page().contains("{route=\"/a\\\"b\\\\c\\nd\",method="));
}
