use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use onceward_admin::{
    Build, ListenerView, Metrics, ReloadResult, Served, UpstreamState, UpstreamView, Upstreams,
};
use onceward_core::{Event, Observer as _};
use onceward_testkit::{Fault, Op};

use crate::bench::Bench;

const UPSTREAM: &str = "http://10.0.0.1:80";

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
    metrics.allow_upstreams([UPSTREAM]);
    metrics.upstream_requested(UPSTREAM, "2xx");
    metrics.upstream_requested(UPSTREAM, "unreachable");
    metrics.upstream_ejected(UPSTREAM);
    metrics.show_listener(|| ListenerView {
        accepted: 3,
        open: 2,
        under_way: 1,
        ended: vec![("full", 4)],
        violations: vec![("two_lengths", 5)],
    });
    metrics.reloaded(ReloadResult::Done);
    metrics.reloaded(ReloadResult::Refused);
    metrics.tls_certificate_ends(1_900_000_000);
    metrics.damaged(2);
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
    let bench = Bench::with(|it| it.upstreams = Upstreams::new(|| vec![view(UPSTREAM, UpstreamState::Up)]));
    count_everything(&bench.metrics);
    let reply = bench.raw(Method::GET, "/metrics", &[], "").await;
    assert_eq!(reply.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(reply.text.ends_with("# EOF\n"));
    let shape = shape(&reply.text);
    let stored = include_str!("metrics.snapshot");
    assert!(shape == stored, "the metrics page has changed; if that is meant, store this:\n>>>\n{shape}<<<");
}

#[test]
fn every_metric_is_in_the_reference_and_nothing_else_is() {
    let on_page = include_str!("metrics.snapshot").lines().filter_map(|it| it.strip_prefix("# TYPE "));
    let on_page: BTreeSet<String> = on_page
        .map(|it| match it.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let reference = include_str!("../../../../docs/reference/metrics.md");
    let rows = reference.lines().filter_map(|it| it.strip_prefix("| `onceward_"));
    let told: BTreeSet<String> =
        rows.map(|it| format!("onceward_{}", it.split('`').next().unwrap())).collect();
    assert_eq!(told, on_page);
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
        "onceward_upstream_requests_total{upstream=\"http://10.0.0.1:80\",outcome=\"2xx\"} 1",
        "onceward_upstream_requests_total{upstream=\"http://10.0.0.1:80\",outcome=\"unreachable\"} 1",
        "onceward_upstream_ejections_total{upstream=\"http://10.0.0.1:80\"} 1",
        "onceward_connections_accepted_total 3",
        "onceward_connections_open 2",
        "onceward_requests_under_way 1",
        "onceward_listener_ended_total{reason=\"full\"} 4",
        "onceward_requests_violating_total{violation=\"two_lengths\"} 5",
        "onceward_reloads_total{result=\"done\"} 1",
        "onceward_reloads_total{result=\"refused\"} 1",
        "onceward_settings_stale 1",
        "onceward_tls_certificate_not_after_seconds 1900000000",
        "onceward_store_damaged_total 2",
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

fn view(url: &str, state: UpstreamState) -> UpstreamView {
    UpstreamView {
        url: url.into(),
        state,
        ejected_remaining_seconds: None,
        in_flight: 7,
        consecutive_failures: 0,
        last_error: None,
    }
}

#[test]
fn the_gauges_of_upstreams_show_those_that_are_configured_when_the_page_is_made() {
    let metrics = Metrics::new([""; 0]);
    let views = Arc::new(Mutex::new(vec![view("http://a", UpstreamState::Up)]));
    let shown = Arc::clone(&views);
    metrics.show_upstreams(Upstreams::new(move || shown.lock().unwrap().clone()));
    let page = metrics.page();
    for line in [
        "onceward_upstream_in_flight{upstream=\"http://a\"} 7",
        "onceward_upstream_ejected{upstream=\"http://a\"} 0",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
    *views.lock().unwrap() =
        vec![view("http://b\"", UpstreamState::Ejected), view("http://c", UpstreamState::Trial)];
    let page = metrics.page();
    assert!(!page.contains("http://a"), "{page}");
    for line in [
        "onceward_upstream_ejected{upstream=\"http://b\\\"\"} 1",
        "onceward_upstream_ejected{upstream=\"http://c\"} 1",
    ] {
        assert!(page.lines().any(|it| it == line), "{line} is not in\n{page}");
    }
}

#[test]
fn a_reload_may_add_routes_and_upstreams_but_not_without_bound() {
    let metrics = Metrics::new(["/payments"]);
    metrics.allow_routes(["/refunds"]);
    metrics.served(&Served { route: Some("/refunds"), ..served() });
    metrics.served(&served());
    let page = metrics.page();
    for route in ["/payments", "/refunds"] {
        assert!(page.contains(&format!("onceward_requests_total{{route=\"{route}\"")), "{route}: {page}");
    }
    for number in 0..2000 {
        let (route, url) = (format!("/r{number}"), format!("http://10.0.0.1:{number}"));
        metrics.allow_routes([route.as_str()]);
        metrics.allow_upstreams([url.as_str()]);
        metrics.served(&Served { route: Some(&route), ..served() });
        metrics.upstream_requested(&url, "2xx");
    }
    let page = metrics.page();
    let count = |name: &str| page.lines().filter(|it| it.starts_with(name)).count();
    // The thousand, and `other`.
    assert_eq!(count("onceward_requests_total{"), 1001);
    assert_eq!(count("onceward_upstream_requests_total{"), 1001);
    assert_eq!(count("onceward_upstream_ejections_total{"), 1000);
    // Those that were known stay known.
    metrics.allow_routes(["/payments"]);
    metrics.served(&served());
    let line = "onceward_requests_total{route=\"/payments\",method=\"POST\",outcome=\"first_run\",status_class=\"2xx\"} 2";
    assert!(metrics.page().contains(line));
}

#[test]
fn the_listener_is_asked_whenever_the_page_is_made() {
    let metrics = Metrics::new([""; 0]);
    let has = |line: &str| metrics.page().lines().any(|it| it == line);
    assert!(has("onceward_connections_open 0"));
    let open = Arc::new(AtomicU64::new(2));
    let now = Arc::clone(&open);
    metrics.show_listener(move || ListenerView {
        open: now.load(Ordering::Relaxed),
        violations: vec![("two_lengths", 5)],
        ..ListenerView::default()
    });
    assert!(has("onceward_connections_open 2"));
    assert!(has("onceward_requests_violating_total{violation=\"two_lengths\"} 5"));
    open.store(1, Ordering::Relaxed);
    assert!(has("onceward_connections_open 1"));
}

#[test]
fn settings_are_stale_from_a_refused_reload_until_one_that_is_taken_over() {
    let metrics = Metrics::new([""; 0]);
    let has = |line: &str| metrics.page().lines().any(|it| it == line);
    assert!(has("onceward_settings_stale 0") && has("onceward_reloads_total{result=\"refused\"} 0"));
    metrics.reloaded(ReloadResult::Refused);
    assert!(has("onceward_settings_stale 1"));
    metrics.reloaded(ReloadResult::Done);
    assert!(has("onceward_settings_stale 0"));
}

#[test]
fn nothing_is_said_of_a_certificate_where_there_is_none() {
    let metrics = Metrics::new([""; 0]);
    assert!(!metrics.page().lines().any(|it| it.starts_with("onceward_tls_certificate")));
}

#[test]
fn the_build_is_told_with_its_commit() {
    let metrics = Metrics::with(Build { version: "1.2.3".into(), commit: "0123abc".into() });
    assert!(metrics.page().contains("onceward_build_info{version=\"1.2.3\",commit=\"0123abc\"} 1"));
}

#[tokio::test]
async fn each_damaged_record_that_a_call_meets_is_counted() {
    let bench = Bench::new();
    let id = bench.done("k1").await;
    bench.store.cue(Op::Load, 1, Fault::Corrupt);
    bench.get(&format!("/api/v1/records/{id}")).await;
    let page = bench.raw(Method::GET, "/metrics", &[], "").await.text;
    assert!(page.lines().any(|it| it == "onceward_store_damaged_total 1"), "{page}");
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
    metrics.upstream_requested("http://nobody", "teapot");
    metrics.upstream_ejected("http://nobody");
    let before = measure(&metrics);
    for word in &wild {
        metrics.served(&Served { route: Some(word), method: word, ..tame });
        metrics.upstream(word, Duration::ZERO);
        metrics.upstream_requested(word, word);
        metrics.upstream_ejected(word);
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
