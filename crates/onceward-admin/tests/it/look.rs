use std::collections::BTreeSet;
use std::time::Duration;

use http::StatusCode;
use onceward_core::{Answer, Begin, RecordId};
use onceward_testkit::{Fault, Op};
use serde_json::json;

use crate::bench::Bench;

/// The keys that a listing shows, sorted.
async fn keys(bench: &Bench, query: &str) -> Vec<String> {
    let reply = bench.get(&format!("/api/v1/records{query}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text);
    let json = reply.json();
    let mut keys: Vec<_> =
        json["records"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

async fn invalid(bench: &Bench, uri: &str, names: &str) {
    let reply = bench.get(uri).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{uri}: {}", reply.text);
    assert_eq!(reply.problem(), "admin-request-invalid");
    let detail = reply.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(names), "{uri}: {detail}");
}

#[tokio::test]
async fn a_record_is_shown_whole_but_for_its_answer() {
    let bench = Bench::new();
    let id = bench.done("k1").await;
    let record = bench.engine.show(id).await.unwrap().record.unwrap();
    bench.advance(60);
    let reply = bench.get(&format!("/api/v1/records/{id}")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert_eq!(
        reply.json(),
        json!({
            "id": id.to_string(),
            "state": "done",
            "principal": "07070707070707070707070707070707",
            "method": "POST",
            "host": "shop.example",
            "path": "/payments",
            "key": "k1",
            "attempt": 1,
            "fence": record.fence.to_string(),
            "revision": record.revision.to_string(),
            "created": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
            "lease_until": null,
            "lease_remaining_seconds": null,
            "run_until": null,
            "answer_until": "2026-01-02T00:00:00.000Z",
            "answer_remaining_seconds": 86340.0,
            "gone_until": "2026-01-09T00:00:00.000Z",
            "gone_remaining_seconds": 691140.0,
            "policy": {
                "lease_seconds": 30.0,
                "run_max_seconds": 600.0,
                "retention_seconds": 86400.0,
                "tombstone_seconds": 604800.0,
                "unresolved": "hold",
            },
            "answer": { "kind": "text", "bytes": 20 },
            "reason": null,
        })
    );
}

#[tokio::test]
async fn a_running_and_an_abandoned_record_show_their_lease_and_their_reason() {
    let bench = Bench::new();
    let permit = bench.running("k1").await;
    bench.advance(10);
    let json = bench.get(&format!("/api/v1/records/{}", permit.record_id())).await.json();
    assert_eq!(json["state"], "running");
    assert_eq!(json["lease_until"], "2026-01-01T00:00:30.000Z");
    assert_eq!(json["lease_remaining_seconds"], 20.0);
    assert_eq!(json["run_until"], "2026-01-01T00:10:00.000Z");
    assert_eq!(json["answer_until"], json!(null));
    let id = bench.unresolved("k2").await;
    let json = bench.get(&format!("/api/v1/records/{id}")).await.json();
    assert_eq!((&json["state"], &json["reason"]), (&json!("unresolved"), &json!("the upstream hung up")));
    drop(permit);
}

#[tokio::test]
async fn revisions_and_fences_are_strings_because_javascript_would_round_them() {
    let bench = Bench::new();
    // A store whose clock is centuries ahead: its revisions have more than 53 bits.
    bench.clock.advance(Duration::from_millis(10_000_000_000_000));
    let id = bench.done("k1").await;
    let record = bench.engine.show(id).await.unwrap().record.unwrap();
    assert!(record.revision.0 > 1 << 53);
    let json = bench.get(&format!("/api/v1/records/{id}")).await.json();
    assert_eq!(json["revision"], record.revision.to_string());
    assert_eq!(json["fence"], record.fence.to_string());
}

#[tokio::test]
async fn a_record_is_named_in_full_or_not_at_all() {
    let bench = Bench::new();
    let id = bench.done("k1").await;
    let reply = bench.get(&format!("/api/v1/records/{}", RecordId::from_bytes([9; 32]))).await;
    assert_eq!((reply.status, reply.problem().as_str()), (StatusCode::NOT_FOUND, "record-not-found"));
    for wrong in [id.prefix(), format!("{id}00"), "zz".repeat(32), "%ff".into()] {
        let reply = bench.get(&format!("/api/v1/records/{wrong}")).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    invalid(&bench, &format!("/api/v1/records/{}", id.prefix()), "64 hexadecimal digits").await;
    invalid(&bench, &format!("/api/v1/records/{id}?full=yes"), "`full`").await;
}

#[tokio::test]
async fn a_listing_filters_by_everything_that_is_kept_for_it() {
    let bench = Bench::new();
    bench.done("done").await;
    bench.unresolved("unresolved").await;
    let other = bench.attempt("elsewhere", "/v1/a%2Fb").await;
    let Begin::Run(permit) = bench.engine.begin(&other).await.unwrap() else { panic!("not free") };
    permit.complete(Answer::new("text", "")).await.unwrap();
    bench.advance(3600);
    let permit = bench.running("running").await;

    let all = ["done", "elsewhere", "running", "unresolved"];
    assert_eq!(keys(&bench, "").await, all);
    assert_eq!(keys(&bench, "?principal=07070707070707070707070707070707").await, all);
    assert!(keys(&bench, "?principal=anonymous").await.is_empty());
    assert_eq!(keys(&bench, "?method=POST").await, all);
    assert!(keys(&bench, "?method=post").await.is_empty());
    assert_eq!(keys(&bench, "?path=/v1/a%252Fb").await, ["elsewhere"]);
    assert_eq!(keys(&bench, "?key=done").await, ["done"]);
    assert_eq!(keys(&bench, "?state=unresolved").await, ["unresolved"]);
    assert_eq!(keys(&bench, "?state=running").await, ["running"]);
    assert_eq!(keys(&bench, "?older_than=10m").await, ["done", "elsewhere", "unresolved"]);
    assert_eq!(keys(&bench, "?older_than=10m&state=done&path=%2Fpayments").await, ["done"]);
    drop(permit);
}

#[tokio::test]
async fn pages_follow_each_other_and_together_show_each_record_once() {
    let bench = Bench::new();
    for index in 0..7 {
        bench.done(&format!("k{index}")).await;
    }
    let (mut seen, mut pages, mut cursor) = (BTreeSet::new(), 0, String::new());
    loop {
        let json = bench.get(&format!("/api/v1/records?limit=3{cursor}")).await.json();
        for record in json["records"].as_array().unwrap() {
            assert!(seen.insert(record["id"].as_str().unwrap().to_owned()), "shown twice");
        }
        pages += 1;
        let Some(next) = json["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen.len(), pages), (7, 3));
}

#[tokio::test]
async fn unknown_doubled_and_malformed_parameters_are_refused_by_name() {
    let bench = Bench::new();
    let check = async |query: &str, names: &str| {
        invalid(&bench, &format!("/api/v1/records?{query}"), names).await;
    };
    check("stat=done", "unknown parameter `stat`; known are principal, method, path, key, state").await;
    check("state=done&state=gone", "`state` is given twice").await;
    check("state=finished", "`state` must be one of running, unresolved").await;
    check("principal=me", "`principal`").await;
    check("older_than=10", "`older_than`").await;
    check("limit=0", "`limit`").await;
    check("limit=1001", "`limit`").await;
    check("limit=many", "`limit`").await;
    check("cursor=abc", "`cursor`").await;
    assert!(bench.store.log().is_empty());
}

#[tokio::test]
async fn a_store_that_is_down_is_503_and_a_record_that_cannot_be_read_is_500() {
    let bench = Bench::new();
    let id = bench.done("k1").await;
    for (fault, status, code) in [
        (Fault::Refused, 503, "admin-store-unavailable"),
        (Fault::CallLost, 503, "admin-store-unavailable"),
        (Fault::Corrupt, 500, "record-unreadable"),
    ] {
        bench.store.cue(Op::Load, 1, fault.clone());
        let reply = bench.get(&format!("/api/v1/records/{id}")).await;
        assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (status, code));
        bench.store.cue(Op::List, 1, fault);
        let reply = bench.get("/api/v1/records").await;
        assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (status, code));
    }
}
