use std::io;
use std::sync::{Arc, Mutex};

use http::Method;
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
async fn the_cause_of_a_store_failure_goes_to_the_log_not_to_the_caller() {
    let (log, _guard) = Log::start();
    let bench = Bench::new();
    bench.store.cue(Op::List, 1, onceward_testkit::Fault::Refused);
    let reply = bench.get("/api/v1/records").await;
    assert!(!reply.text.contains("on cue"), "{}", reply.text);
    assert!(log.text().contains("reach the store (on cue)"), "{}", log.text());
}
