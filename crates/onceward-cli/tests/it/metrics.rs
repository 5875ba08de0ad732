//! The metrics page counts what was done.

use crate::client::{get, pay};
use crate::process::{Gateway, Place};
use crate::upstream::Upstream;

/// The value of a series; zero when it is not there.
fn count(gateway: &Gateway, series: &str) -> f64 {
    let page = gateway.page("/metrics").text();
    let line = page.lines().find_map(|it| it.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |it| it.parse().unwrap())
}

#[test]
fn the_page_counts_what_was_done() {
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url());
    std::fs::write(place.folder().join("gateway.toml"), "[[route]]\npath = \"/orders/{id}\"\n").unwrap();
    let gateway = place.start_with(&["--config", "gateway.toml"]);
    for key in ["a", "b", "c"] {
        gateway.ask(&pay(key)).assert_first();
    }
    for _ in 0..4 {
        assert!(gateway.ask(&pay("a")).is_replay());
    }
    gateway.ask(&pay("a").body("{}")).assert_problem(422, "key-reused");
    gateway.ask(&pay("d").with("Test-Cut", "yes")).assert_problem(504, "outcome-unresolved");
    gateway.ask(&pay("d")).assert_problem(409, "unresolved");
    assert_eq!(gateway.ask(&pay("e").with("Test-Status", "401")).status, 401);
    assert_eq!(gateway.ask(&get("/anything")).status, 201);
    let order = crate::client::Ask::new("POST", "/orders/4711").with("Idempotency-Key", "o").body("{}");
    gateway.ask(&order).assert_first();
    let slow = pay("f").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("f", 1);
    gateway.ask(&pay("f")).assert_problem(409, "in-progress");
    assert_eq!(count(&gateway, "onceward_operations_running"), 1.0);
    upstream.open();
    slow.join().unwrap().unwrap().assert_first();
    gateway.until_idle();

    let requests = |route: &str, method: &str, outcome: &str, class: &str| {
        let labels =
            format!("route=\"{route}\",method=\"{method}\",outcome=\"{outcome}\",status_class=\"{class}\"");
        count(&gateway, &format!("onceward_requests_total{{{labels}}}"))
    };
    assert_eq!(requests("default", "POST", "first_run", "2xx"), 4.0);
    assert_eq!(requests("default", "POST", "replay", "2xx"), 4.0);
    assert_eq!(requests("default", "POST", "mismatch", "4xx"), 1.0);
    assert_eq!(requests("default", "POST", "unknown", "5xx"), 1.0);
    assert_eq!(requests("default", "POST", "unresolved", "4xx"), 1.0);
    assert_eq!(requests("default", "POST", "released", "4xx"), 1.0);
    assert_eq!(requests("default", "POST", "busy", "4xx"), 1.0);
    assert_eq!(requests("/orders/{id}", "POST", "first_run", "2xx"), 1.0);
    assert_eq!(requests("none", "GET", "pass_through", "2xx"), 1.0);

    let decisions =
        |decision: &str| count(&gateway, &format!("onceward_decisions_total{{decision=\"{decision}\"}}"));
    assert_eq!(decisions("run"), 7.0);
    assert_eq!(decisions("replay") + decisions("replay_cached"), 4.0);
    assert_eq!(decisions("busy"), 1.0);
    assert_eq!(decisions("mismatch"), 1.0);
    assert_eq!(decisions("unresolved"), 1.0);
    let finishes = |finish: &str| count(&gateway, &format!("onceward_finishes_total{{finish=\"{finish}\"}}"));
    assert_eq!([finishes("completed"), finishes("released"), finishes("abandoned")], [5.0, 1.0, 1.0]);
    assert_eq!(count(&gateway, "onceward_store_up"), 1.0);
    assert_eq!(count(&gateway, "onceward_operations_running"), 0.0);
    let page = gateway.page("/metrics").text();
    assert!(!page.contains("4711"), "a path of a request became a label");
    assert!(page.ends_with("# EOF\n"));
}
