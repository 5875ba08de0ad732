//! Effects that a handler's answer names: stored with the outcome of the message, sent from there.

use onceward_testkit::server::RedisServer;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::get;
use crate::process::{Ended, Place, Process, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until_true;

const MEDIA_TYPE: &str = "application/vnd.onceward.effects+json";

struct Shop {
    server: RedisServer,
    handler: Upstream,
    receiver: Upstream,
    place: Place,
}

impl Shop {
    fn new() -> Self {
        let handler = Upstream::start();
        let place = Place::before(&handler.url());
        Self { server: RedisServer::start(), receiver: Upstream::start(), place, handler }
    }

    fn embedded(&self) -> String {
        format!("embedded:{}", self.place.records().display())
    }

    fn consume(&self, store: &str, more: &[&str]) -> Process {
        let from = format!("redis-streams://127.0.0.1:{}/orders?visible_for=1s", self.server.port());
        let mut command = onceward(self.place.folder());
        command
            .args(["consume", "--from", &from, "--name", "shipping", "--key", "header:event-id"])
            .args(["--to", &format!("{}/on-order", self.handler.url()), "--store", store])
            .args(["--pause", "20ms", "--lease", "1s"])
            .args(more);
        self.place.begin_command(&mut command)
    }

    /// Where effects of the kind `hooks` go.
    fn hooks(&self) -> String {
        format!("hooks={}/hooks/", self.receiver.url())
    }

    /// Publishes a message whose handler answers that.
    fn publish(&self, id: &str, media_type: &str, answer: &str) {
        let headers = ["test-type", media_type, "test-answer", answer];
        self.server.cli(&[&["XADD", "orders", "*", "body", "{}", "event-id", id], &headers[..]].concat());
    }

    fn until_all_is_acknowledged(&self) {
        until_true("every message is acknowledged", || {
            let groups = self.server.cli(&["XINFO", "GROUPS", "orders"]);
            let fields: Vec<_> = groups.lines().collect();
            let is_none = |name| fields.windows(2).any(|it| it == [name, "0"]);
            is_none("pending") && is_none("lag")
        });
    }

    fn outbox(&self, store: &str, words: &[&str]) -> Ended {
        run(onceward(self.place.folder()).arg("outbox").args(words).args(["--store", store]))
    }

    fn stats(&self, store: &str) -> Value {
        serde_json::from_str(&self.outbox(store, &["stats", "--json"]).with_code(0).stdout).unwrap()
    }
}

fn stop(mut process: Process) {
    process.signal(Signal::TERM);
    assert_eq!(process.exit_code(), 0, "{}{}", process.log(), process.errors());
}

/// An answer that names webhooks: their destinations and headers.
fn hooks(all: &[(&str, &[(&str, &str)])]) -> String {
    let effect = |(to, headers): &(&str, &[(&str, &str)])| {
        let headers: Vec<_> = headers.iter().map(|it| json!([it.0, it.1])).collect();
        json!({ "kind": "hooks", "destination": to, "headers": headers, "body": "{}" })
    };
    json!({ "effects": all.iter().map(effect).collect::<Vec<_>>() }).to_string()
}

#[test]
fn what_an_answer_names_goes_out_once_also_after_kill_9_and_for_duplicates() {
    let shop = Shop::new();
    let answer = hooks(&[("shipped", &[]), ("billed", &[("test-hold", "after")])]);
    for _ in 0..5 {
        shop.publish("paid-1", MEDIA_TYPE, &answer);
    }
    let words = ["--send", &shop.hooks(), "--metrics", "127.0.0.1:0"];
    let mut consumer = shop.consume(&shop.embedded(), &words);
    until_true("the second is at the far side", || shop.receiver.keys().len() == 2);
    shop.until_all_is_acknowledged();
    let address = consumer.until_says("metrics")["address"].as_str().unwrap().parse().unwrap();
    let page = get("/metrics").send(address).unwrap().text();
    for line in [
        "onceward_messages_total{outcome=\"duplicate_of_done\"} 4\n",
        "onceward_outbox_effects_total{outcome=\"sent\"} 1\n",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert_eq!(page.matches("# EOF").count(), 1);
    consumer.kill();
    assert_eq!(shop.stats(&shop.embedded())["unsent"], 1);
    shop.receiver.open();
    // Another who does not know the kind leaves it.
    let other = shop.consume(&shop.embedded(), &["--send", "mail=https:"]);
    shop.publish("paid-1", MEDIA_TYPE, &answer);
    shop.until_all_is_acknowledged();
    stop(other);
    let consumer = shop.consume(&shop.embedded(), &words);
    until_true("it goes out again", || shop.receiver.keys().len() == 3);
    let keys = shop.receiver.keys();
    assert_eq!(keys[1], keys[2], "under its id");
    assert_ne!(keys[0], keys[1]);
    let sent = || {
        let address = consumer.until_says("metrics")["address"].as_str().unwrap().parse().unwrap();
        get("/metrics").send(address).unwrap().text()
    };
    until_true("that is noted", || sent().contains("onceward_outbox_effects_total{outcome=\"sent\"} 1\n"));
    stop(consumer);
    assert_eq!(shop.stats(&shop.embedded())["unsent"], 0);
    assert_eq!(shop.handler.effects("paid-1").len(), 1, "the handler was asked once");
}

#[test]
fn a_relay_of_its_own_sends_what_answers_in_a_shared_store_carry_and_parks_what_is_refused() {
    let shop = Shop::new();
    let store = format!("redis://127.0.0.1:{}/1", shop.server.port());
    shop.publish("paid-1", MEDIA_TYPE, &hooks(&[("refused", &[("test-status", "422")]), ("behind", &[])]));
    shop.publish("paid-2", "application/json", &hooks(&[("of another type", &[])]));
    shop.publish("paid-3", MEDIA_TYPE, "{\"effects\":[{}]}");
    let consumer = shop.consume(&store, &[]);
    shop.until_all_is_acknowledged();
    stop(consumer);
    let dead =
        run(onceward(shop.place.folder()).args(["queue", "dead", "list", "--store", &store])).with_code(0);
    assert!(
        dead.stdout.contains("unresolved"),
        "its handler did it, and said more than can be read: {}",
        dead.stdout
    );
    assert_eq!(shop.stats(&store)["unsent"], 2);

    let relay = || {
        let mut command = onceward(shop.place.folder());
        command.args(["relay", "--store", &store, "--poll", "20ms", "--pause", "20ms", "--lease", "1s"]);
        shop.place.begin_command(command.args(["--send", &shop.hooks()]))
    };
    let running = relay();
    until_true("it is parked", || shop.stats(&store)["parked"] == 1);
    stop(running);
    let listed = shop.outbox(&store, &["list", "--json"]).with_code(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let effect = &listed["effects"][0];
    assert_eq!(
        (&effect["destination"], &effect["reason"]),
        (&"refused".into(), &"it was answered with 422".into())
    );
    let id = effect["id"].as_str().unwrap();
    assert_eq!(shop.receiver.keys(), [id]);
    let sheet = shop.outbox(&store, &["show", id]).with_code(0).stdout;
    assert!(sheet.contains("header      test-status: 422\n"), "{sheet}");
    assert_eq!(shop.outbox(&store, &["redrive", "--all"]).with_code(0).stdout, "1 redriven\n");
    let running = relay();
    until_true("it is parked again", || shop.receiver.keys().len() == 2 && shop.stats(&store)["parked"] == 1);
    assert_eq!(shop.outbox(&store, &["drop", id]).with_code(0).stdout, "1 dropped\n");
    until_true("what is behind it goes out", || shop.receiver.keys().len() == 3);
    until_true("that is noted", || shop.stats(&store)["unsent"] == 0);
    stop(running);
    assert!(shop.outbox(&store, &["drop", id]).with_code(1).stderr.contains("not parked"));
}
