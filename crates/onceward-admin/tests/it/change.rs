use std::time::Duration;

use http::{Method, StatusCode};
use onceward_core::{Begin, RecordId};
use onceward_testkit::{Fault, Op};
use serde_json::{Value, json};

use crate::bench::{Bench, Reply};

async fn resolve(bench: &Bench, id: RecordId, body: Value) -> Reply {
    bench.call(Method::POST, &format!("/api/v1/records/{id}/resolve"), &body.to_string()).await
}

async fn remove(bench: &Bench, id: RecordId, query: &str) -> Reply {
    bench.call(Method::DELETE, &format!("/api/v1/records/{id}{query}"), "").await
}

#[track_caller]
fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (status, code), "{}", reply.text);
}

#[tokio::test]
async fn a_record_resolved_to_rerun_runs_again() {
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    assert!(matches!(bench.begins("k1").await, Begin::Unresolved));
    let revision = bench.revision(id).await.to_string();
    let reply = resolve(&bench, id, json!({ "outcome": "rerun", "revision": revision })).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let json = reply.json();
    assert_eq!(json["state"], "released");
    assert_ne!(json["revision"], revision.as_str());
    assert!(matches!(bench.begins("k1").await, Begin::Run(_)));
}

#[tokio::test]
async fn a_record_resolved_with_an_answer_replays_it() {
    let bench = Bench::new();
    let check = async |key: &str, answer: Value, expected: &[u8]| {
        let id = bench.unresolved(key).await;
        let revision = bench.revision(id).await;
        // As a number: JSON knows no bound, and ours is kept exactly.
        let reply =
            resolve(&bench, id, json!({ "outcome": "answer", "revision": revision, "answer": answer })).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.json()["state"], "done");
        let Begin::Replay(answer) = bench.begins(key).await else { panic!("no replay of {key}") };
        assert_eq!(&answer.bytes().unwrap()[..], expected);
    };
    check(
        "text",
        json!({
            "status": 201,
            "headers": [["content-type", "application/json"], ["set-cookie", "a=1"], ["Set-Cookie", "b=2"]],
            "body": "{\"paid\":true}",
        }),
        b"201\ncontent-type: application/json\nset-cookie: a=1\nset-cookie: b=2\n{\"paid\":true}",
    )
    .await;
    check("bytes", json!({ "status": 200, "body_base64": "AP/+" }), b"200\n\x00\xff\xfe").await;
    check("empty", json!({ "status": 204 }), b"204\n").await;
}

#[tokio::test]
async fn a_revision_of_more_than_53_bits_is_taken_exactly_as_number_and_as_string() {
    let bench = Bench::new();
    bench.clock.advance(Duration::from_millis(10_000_000_000_000));
    for key in ["number", "string"] {
        let id = bench.unresolved(key).await;
        let seen = bench.revision(id).await;
        assert!(seen > 1 << 53);
        let revision = |it: u64| if key == "number" { json!(it) } else { json!(it.to_string()) };
        let reply = resolve(&bench, id, json!({ "outcome": "rerun", "revision": revision(seen + 1) })).await;
        refused(&reply, 409, "record-changed");
        let reply = resolve(&bench, id, json!({ "outcome": "rerun", "revision": revision(seen) })).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_stale_revision_changes_nothing_and_is_shown_the_record() {
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    let revision = bench.revision(id).await;
    for reply in [
        resolve(&bench, id, json!({ "outcome": "rerun", "revision": (revision - 1).to_string() })).await,
        remove(&bench, id, &format!("?revision={}", revision - 1)).await,
    ] {
        refused(&reply, 409, "record-changed");
        let json = reply.json();
        assert_eq!(json["revision"], revision.to_string());
        assert_eq!(json["record"]["id"], id.to_string());
        assert_eq!(json["record"]["state"], "unresolved");
    }
    assert_eq!(bench.revision(id).await, revision);
    assert!(matches!(bench.begins("k1").await, Begin::Unresolved));
}

#[tokio::test]
async fn a_live_lease_is_overruled_only_with_a_reason() {
    let bench = Bench::new();
    let permit = bench.running("k1").await;
    let id = permit.record_id();
    let revision = bench.revision(id).await.to_string();
    bench.advance(10);
    let reply = resolve(&bench, id, json!({ "outcome": "rerun", "revision": revision })).await;
    refused(&reply, 409, "lease-alive");
    assert_eq!(reply.json()["lease_remaining_seconds"], 20.0);
    refused(&remove(&bench, id, &format!("?revision={revision}")).await, 409, "lease-alive");
    for reason in ["", "   ", "two\nlines"] {
        let body = json!({ "outcome": "rerun", "revision": revision, "force": reason });
        refused(&resolve(&bench, id, body).await, 400, "admin-request-invalid");
    }
    refused(&remove(&bench, id, &format!("?revision={revision}&force=")).await, 400, "admin-request-invalid");
    assert_eq!(bench.revision(id).await.to_string(), revision);

    let body = json!({ "outcome": "rerun", "revision": revision, "force": "the host burnt down" });
    assert_eq!(resolve(&bench, id, body).await.status, StatusCode::OK);
    permit.complete(onceward_core::Answer::new("text", "too late")).await.unwrap_err();
    assert!(matches!(bench.begins("k1").await, Begin::Run(_)));
}

#[tokio::test]
async fn a_lease_that_has_passed_needs_no_force() {
    let bench = Bench::new();
    let permit = bench.running("k1").await;
    let id = permit.record_id();
    drop(permit);
    bench.advance(31);
    let revision = bench.revision(id).await.to_string();
    let reply = resolve(&bench, id, json!({ "outcome": "rerun", "revision": revision })).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}

#[tokio::test]
async fn a_record_with_its_answer_has_nothing_to_resolve_but_can_be_removed() {
    let bench = Bench::new();
    let id = bench.done("k1").await;
    let revision = bench.revision(id).await.to_string();
    for body in [
        json!({ "outcome": "rerun", "revision": revision }),
        json!({ "outcome": "answer", "revision": revision, "answer": { "status": 200 } }),
    ] {
        refused(&resolve(&bench, id, body).await, 409, "nothing-to-resolve");
    }
    assert!(matches!(bench.begins("k1").await, Begin::Replay(_)));
    let reply = remove(&bench, id, &format!("?revision={revision}")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert!(matches!(bench.begins("k1").await, Begin::Run(_)));
}

#[tokio::test]
async fn a_forced_removal_gives_its_reason_in_the_query() {
    let bench = Bench::new();
    let permit = bench.running("k1").await;
    let id = permit.record_id();
    let revision = bench.revision(id).await;
    let reply = remove(&bench, id, &format!("?revision={revision}&force=host+burnt+down")).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    drop(permit);
}

#[tokio::test]
async fn a_record_that_is_not_there_is_404() {
    let bench = Bench::new();
    let id = RecordId::from_bytes([9; 32]);
    refused(
        &resolve(&bench, id, json!({ "outcome": "rerun", "revision": "1" })).await,
        404,
        "record-not-found",
    );
    refused(&remove(&bench, id, "?revision=1").await, 404, "record-not-found");
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_an_uncertain_change_is_called_uncertain() {
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    let revision = bench.revision(id).await.to_string();
    let body = json!({ "outcome": "rerun", "revision": revision });
    bench.store.cue(Op::Load, 1, Fault::Refused);
    refused(&resolve(&bench, id, body.clone()).await, 503, "admin-store-unavailable");
    bench.store.cue(Op::Replace, 1, Fault::Refused);
    refused(&remove(&bench, id, &format!("?revision={revision}")).await, 503, "admin-store-unavailable");
    assert_eq!(bench.revision(id).await.to_string(), revision);
    bench.store.cue(Op::Replace, 1, Fault::ReplyLost);
    refused(&resolve(&bench, id, body).await, 503, "verdict-uncertain");
    assert_ne!(bench.revision(id).await.to_string(), revision);
}

#[tokio::test]
async fn a_change_that_reached_the_store_too_late_may_be_repeated_as_it_is() {
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    let revision = bench.revision(id).await.to_string();
    let gate = bench.store.gate_before(Op::Replace, 1);
    let uri = format!("?revision={revision}");
    let (reply, ()) = tokio::join!(remove(&bench, id, &uri), async {
        gate.reached().await;
        bench.advance(3600);
        gate.open();
    });
    refused(&reply, 503, "admin-store-unavailable");
    assert_eq!(bench.revision(id).await.to_string(), revision);
    assert_eq!(remove(&bench, id, &uri).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_is_wrong_with_a_change_is_named() {
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    let revision = bench.revision(id).await.to_string();
    let check = async |body: Value, names: &str| {
        let reply = resolve(&bench, id, body).await;
        refused(&reply, 400, "admin-request-invalid");
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(names), "{names}: {detail}");
    };
    check(json!({ "outcome": "rerun" }), "`revision`").await;
    check(json!({ "revision": revision }), "`outcome`").await;
    check(json!({ "outcome": "rerun", "revision": -1 }), "`revision`").await;
    check(json!({ "outcome": "rerun", "revision": 1.5 }), "`revision`").await;
    check(json!({ "outcome": "rerun", "revision": "+1" }), "`revision`").await;
    check(json!({ "outcome": "rerun", "revision": "" }), "`revision`").await;
    check(json!({ "outcome": "release", "revision": revision }), "`release`").await;
    check(json!({ "outcome": "rerun", "revision": revision, "froce": "x" }), "`froce`").await;
    check(json!({ "outcome": "rerun", "revision": revision, "answer": { "status": 200 } }), "`answer`").await;
    check(json!({ "outcome": "answer", "revision": revision }), "`answer`").await;
    check(json!([1]), "body cannot be read").await;
    let answer = async |answer: Value, names: &str| {
        check(json!({ "outcome": "answer", "revision": revision, "answer": answer }), names).await;
    };
    answer(json!({}), "`status`").await;
    answer(json!({ "status": 100 }), "`answer.status`").await;
    answer(json!({ "status": 600 }), "`answer.status`").await;
    answer(json!({ "status": 200, "trailers": [] }), "`trailers`").await;
    answer(json!({ "status": 200, "body": "a", "body_base64": "YQ==" }), "not both").await;
    answer(json!({ "status": 200, "body_base64": "?" }), "`answer.body_base64`").await;
    answer(json!({ "status": 204, "body": "a" }), "`answer.body`").await;
    answer(json!({ "status": 200, "headers": [["a b", "c"]] }), "`answer.headers[0]`").await;
    answer(json!({ "status": 200, "headers": [["a", "b"], ["a", "c\r\nd: e"]] }), "`answer.headers[1]`")
        .await;
    for name in
        ["Content-Length", "Transfer-Encoding", "connection", "keep-alive", "Date", "idempotent-replayed"]
    {
        answer(json!({ "status": 200, "headers": [[name, "1"]] }), "must be left out").await;
    }
    answer(json!({ "status": 418 }), "no teapots here").await;

    refused(&remove(&bench, id, "").await, 400, "admin-request-invalid");
    refused(&remove(&bench, id, "?revision=x").await, 400, "admin-request-invalid");
    refused(
        &remove(&bench, id, &format!("?revision={revision}&forced=x")).await,
        400,
        "admin-request-invalid",
    );
    let uri = format!("/api/v1/records/{id}/resolve?revision={revision}");
    refused(&bench.call(Method::POST, &uri, "{}").await, 400, "admin-request-invalid");
    assert_eq!(bench.revision(id).await.to_string(), revision, "nothing was changed");
}

#[tokio::test]
async fn an_answer_of_several_mib_is_taken_and_a_body_beyond_the_bound_is_413() {
    let bench = Bench::new();
    let id = bench.unresolved("big").await;
    let revision = bench.revision(id).await;
    let answer = json!({ "status": 200, "body": "a".repeat(10 << 20) });
    let body = json!({ "outcome": "answer", "revision": revision, "answer": answer });
    assert_eq!(resolve(&bench, id, body).await.status, StatusCode::OK);
    let id = bench.unresolved("too-big").await;
    let body = " ".repeat((16 << 20) + 1);
    let uri = format!("/api/v1/records/{id}/resolve");
    refused(&bench.call(Method::POST, &uri, &body).await, 413, "admin-request-too-large");
}
