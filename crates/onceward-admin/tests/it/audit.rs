use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::Method;
use onceward_admin::{Refusal, Reload, ReloadRefused, Reloaded};
use onceward_testkit::{Op, for_polls};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use crate::bench::{Bench, PEER, TOKEN};

/// All log lines of this thread, as JSON.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    pub(crate) fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(log.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The fields of the audit lines, without their message.
    fn audit(&self) -> Vec<Value> {
        let lines = self.text();
        let lines = lines.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
        lines
            .filter(|it| it["target"] == onceward_admin::AUDIT)
            .map(|mut it| {
                it["fields"].as_object_mut().unwrap().remove("message");
                it["fields"].take()
            })
            .collect()
    }
}

#[tokio::test]
async fn each_change_and_each_refused_one_is_one_line_without_keys_and_bodies() {
    let (log, _guard) = Log::start();
    let bench = Bench::new();
    let id = bench.unresolved("very-secret-key").await;
    let uri = format!("/api/v1/records/{id}/resolve");
    let seen = bench.revision(id).await;
    let mut expected = Vec::new();

    let stale = json!({ "outcome": "rerun", "revision": (seen - 1).to_string() });
    bench.call(Method::POST, &uri, &stale.to_string()).await;
    expected.push(json!({
        "action": "resolve", "outcome": "record-changed", "record": id.to_string(), "verdict": "rerun",
        "revision_before": (seen - 1).to_string(), "peer": PEER,
    }));

    bench.call(Method::POST, &uri, "{\"very\":\"secret\"}").await;
    expected.push(json!({
        "action": "resolve", "outcome": "admin-request-invalid", "record": id.to_string(), "peer": PEER,
    }));

    bench.raw(Method::POST, &uri, &[("authorization", "Bearer very-secret-token")], "").await;
    expected.push(json!({ "action": "unauthorized", "outcome": "admin-unauthorized", "peer": PEER }));

    let answer = json!({
        "outcome": "answer", "revision": seen.to_string(), "force": "host lost",
        "answer": { "status": 200, "headers": [["x-a", "very-secret-header"]], "body": "very-secret-body" },
    });
    assert_eq!(bench.call(Method::POST, &uri, &answer.to_string()).await.status, 200);
    let after = bench.revision(id).await;
    let digest = blake3::hash(b"200\nx-a: very-secret-header\n\nvery-secret-body").to_hex();
    expected.push(json!({
        "action": "resolve", "outcome": "done", "record": id.to_string(), "verdict": "answer",
        "answer_digest": digest[..16], "forced": "host lost", "revision_before": seen.to_string(), "revision_after": after.to_string(),
        "peer": PEER,
    }));

    let uri = format!("/api/v1/records/{id}?revision={after}");
    assert_eq!(bench.call(Method::DELETE, &uri, "").await.status, 200);
    expected.push(json!({
        "action": "remove", "outcome": "done", "record": id.to_string(), "verdict": "remove",
        "revision_before": after.to_string(), "revision_after": bench.revision(id).await.to_string(),
        "peer": PEER,
    }));

    // Looking is no change.
    bench.get(&format!("/api/v1/records/{id}")).await;
    bench.get("/api/v1/records?key=very-secret-key").await;
    assert_eq!(log.audit(), expected);
    for secret in ["very-secret", TOKEN] {
        assert!(!log.text().contains(secret), "{secret} is in the log:\n{}", log.text());
    }
}

#[tokio::test]
async fn a_change_whose_client_left_is_audited_as_unfinished() {
    let (log, _guard) = Log::start();
    let bench = Bench::new();
    let id = bench.unresolved("k1").await;
    let seen = bench.revision(id).await;
    let gate = bench.store.gate_after(Op::Replace, 1);
    let uri = format!("/api/v1/records/{id}?revision={seen}");
    assert!(for_polls(1, bench.call(Method::DELETE, &uri, "")).await.is_none());
    gate.reached().await;
    assert_eq!(
        log.audit(),
        [json!({
            "action": "remove", "outcome": "unfinished", "record": id.to_string(), "verdict": "remove",
            "revision_before": seen.to_string(), "peer": PEER,
        })]
    );
}

#[tokio::test]
async fn who_asks_is_told_as_they_said_in_every_line() {
    let (log, _guard) = Log::start();
    let refusal = Refusal { setting: Some("listen".into()), says: "needs a restart".into() };
    let reload = Reload::new(move || std::future::ready(Err(ReloadRefused::Refused(vec![refusal.clone()]))));
    let bench = Bench::with(|it| it.reload = reload);
    let id = bench.unresolved("k1").await;
    let seen = bench.revision(id).await;
    let bearer = format!("Bearer {TOKEN}");
    let named = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("onceward-operator", "Ada L. <ada@example.com>"),
    ];
    let rerun = json!({ "outcome": "rerun", "revision": seen.to_string() }).to_string();
    let resolve = format!("/api/v1/records/{id}/resolve");
    assert_eq!(bench.raw(Method::POST, &resolve, &named, &rerun).await.status, 200);
    let removal = format!("/api/v1/records/{id}?revision={seen}");
    assert_eq!(bench.raw(Method::DELETE, &removal, &named, "").await.status, 409);
    assert_eq!(bench.raw(Method::POST, "/api/v1/reload", &named, "").await.status, 422);
    assert_eq!(bench.raw(Method::POST, "/api/v1/records/zz/resolve", &named, &rerun).await.status, 400);
    // Without the token nothing is believed.
    let stranger = bench.raw(Method::POST, "/api/v1/reload", &named[2..], "").await;
    assert_eq!(stranger.status, 401);
    let lines = log.audit();
    let told: Vec<_> = lines
        .iter()
        .map(|it| [&it["action"], &it["outcome"], &it["operator"]].map(|it| it.as_str().unwrap_or("-")))
        .collect();
    let ada = "Ada L. <ada@example.com>";
    assert_eq!(
        told,
        [
            ["resolve", "done", ada],
            ["remove", "record-changed", ada],
            ["reload", "reload-refused", ada],
            ["resolve", "admin-request-invalid", ada],
            ["unauthorized", "admin-unauthorized", "-"],
        ]
    );
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_log_line_is_refused_before_anything_is_done() {
    let (log, _guard) = Log::start();
    let reloads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reloads);
    let bench = Bench::with(|it| {
        it.reload = Reload::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(Reloaded::default()))
        });
    });
    let id = bench.unresolved("k1").await;
    let seen = bench.revision(id).await;
    let bearer = format!("Bearer {TOKEN}");
    let rerun = json!({ "outcome": "rerun", "revision": seen.to_string() }).to_string();
    let asks = [
        (Method::POST, format!("/api/v1/records/{id}/resolve"), rerun.as_str()),
        (Method::DELETE, format!("/api/v1/records/{id}?revision={seen}"), ""),
        (Method::POST, "/api/v1/reload".to_owned(), ""),
    ];
    let base = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let long = "x".repeat(101);
    for wrong in ["", " ", "two\tparts", "J\u{fc}rgen", "\u{202e}evil", long.as_str()] {
        let lines = [&base[..], &[("onceward-operator", wrong)]].concat();
        for (method, uri, body) in &asks {
            let reply = bench.raw(method.clone(), uri, &lines, body).await;
            assert_eq!((reply.status.as_u16(), reply.problem().as_str()), (400, "admin-request-invalid"));
            assert!(reply.text.contains("Onceward-Operator"), "{wrong}: {}", reply.text);
        }
    }
    let twice = [&base[..], &[("onceward-operator", "a"), ("onceward-operator", "b")]].concat();
    assert_eq!(bench.raw(Method::POST, "/api/v1/reload", &twice, "").await.status, 400);
    assert_eq!((bench.revision(id).await, reloads.load(Ordering::Relaxed)), (seen, 0));
    let lines = log.audit();
    assert_eq!(lines.len(), 6 * 3 + 1);
    assert!(lines.iter().all(|it| it["operator"].is_null() && it["outcome"] == "admin-request-invalid"));

    let longest = "x".repeat(100);
    let lines = [&base[..], &[("onceward-operator", longest.as_str())]].concat();
    assert_eq!(bench.raw(Method::POST, "/api/v1/reload", &lines, "").await.status, 200);
    assert_eq!(reloads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn equal_answers_have_equal_digests_and_others_have_others() {
    let (log, _guard) = Log::start();
    let bench = Bench::new();
    let give = async |key: &str, answer: Value| {
        let id = bench.unresolved(key).await;
        let body = json!({ "outcome": "answer", "revision": bench.revision(id).await, "answer": answer });
        let reply =
            bench.call(Method::POST, &format!("/api/v1/records/{id}/resolve"), &body.to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    };
    give("a", json!({ "status": 200, "headers": [["X-A", "1"]], "body": "b" })).await;
    give("b", json!({ "status": 200, "headers": [["x-a", "1"]], "body_base64": "Yg==" })).await;
    give("c", json!({ "status": 201, "headers": [["x-a", "1"]], "body": "b" })).await;
    give("d", json!({ "status": 200, "headers": [["x-a", "2"]], "body": "b" })).await;
    give("e", json!({ "status": 200, "headers": [["x-a", "1"]], "body": "c" })).await;
    give("f", json!({ "status": 200, "body": "x-a: 1\n\nb" })).await;
    let lines = log.audit();
    let digests: Vec<_> = lines.iter().map(|it| it["answer_digest"].as_str().unwrap()).collect();
    assert_eq!(digests[0], digests[1]);
    let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
    assert_eq!(distinct.len(), 5, "{digests:?}");
    assert!(digests.iter().all(|it| it.len() == 16));
}

#[tokio::test]
async fn a_reload_whose_client_left_is_audited_as_unfinished() {
    let (log, _guard) = Log::start();
    let bench = Bench::with(|it| it.reload = Reload::new(std::future::pending));
    assert!(for_polls(1, bench.call(Method::POST, "/api/v1/reload", "")).await.is_none());
    assert_eq!(log.audit(), [json!({ "action": "reload", "outcome": "unfinished", "peer": PEER })]);
}

#[tokio::test]
async fn the_cause_of_a_store_failure_goes_to_the_log_not_to_the_caller() {
    let (log, _guard) = Log::start();
    let bench = Bench::new();
    bench.store.cue(Op::List, 1, onceward_testkit::Fault::Refused);
    let reply = bench.get("/api/v1/records").await;
    assert!(!reply.text.contains("on cue"), "{}", reply.text);
    assert!(log.text().contains("reach the store (on cue)"), "{}", log.text());
}
