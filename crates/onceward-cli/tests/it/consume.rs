//! Messages that are brought to an HTTP handler, and those that are dead.

use std::net::SocketAddr;
use std::process::Command;

use onceward_testkit::server::RedisServer;
use rustix::process::Signal;
use serde_json::Value;

use crate::client::get;
use crate::process::{Ended, Place, Process, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until_true;

mod batch;

struct Stream {
    server: RedisServer,
    handler: Upstream,
    place: Place,
}

impl Stream {
    fn new() -> Self {
        let handler = Upstream::start();
        Self { server: RedisServer::start(), place: Place::before(&handler.url()), handler }
    }

    fn url(&self) -> String {
        format!("redis-streams://127.0.0.1:{}/orders", self.server.port())
    }

    fn store(&self) -> String {
        format!("embedded:{}", self.place.records().display())
    }

    fn consume(&self, more: &[&str]) -> Process {
        self.consume_to(&format!("{}/on-order", self.handler.url()), more)
    }

    fn consume_to(&self, to: &str, more: &[&str]) -> Process {
        let mut command = onceward(self.place.folder());
        command
            .args(["consume", "--from", &format!("{}?visible_for=1s", self.url()), "--name", "shipping"])
            .args(["--to", to, "--key", "header:event-id"])
            .args(["--store", &self.store(), "--pause", "20ms", "--lease", "1s"])
            .args(more);
        self.place.begin_command(&mut command)
    }

    /// Publishes with `redis-cli`, as a producer in another language does.
    fn publish(&self, id: &str, headers: &[&str]) {
        self.redis(&[&["XADD", "orders", "*", "body", "{}", "event-id", id], headers].concat());
    }

    fn redis(&self, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        let said = command.args(["-p", &self.server.port().to_string()]).args(words).output().unwrap();
        String::from_utf8(said.stdout).unwrap()
    }

    fn until_all_is_acknowledged(&self) {
        until_true("every message is acknowledged", || {
            let groups = self.redis(&["XINFO", "GROUPS", "orders"]);
            let fields: Vec<_> = groups.lines().collect();
            let is_none = |name| fields.windows(2).any(|it| it == [name, "0"]);
            is_none("pending") && is_none("lag")
        });
    }

    fn dead(&self, words: &[&str]) -> Ended {
        run(onceward(self.place.folder())
            .args(["queue", "dead"])
            .args(words)
            .args(["--store", &self.store()]))
    }

    fn letters(&self) -> Vec<Value> {
        let said: Value = serde_json::from_str(&self.dead(&["list", "--json"]).with_code(0).stdout).unwrap();
        said["letters"].as_array().unwrap().clone()
    }
}

fn stop(mut consumer: Process) {
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.exit_code(), 0, "{}{}", consumer.log(), consumer.errors());
}

#[test]
fn a_message_that_was_sent_five_times_reaches_the_handler_once() {
    let stream = Stream::new();
    for _ in 0..5 {
        stream.publish("paid-1", &[]);
    }
    stream.publish("paid-2", &[]);
    let consumer = stream.consume(&["--metrics", "127.0.0.1:0"]);
    stream.until_all_is_acknowledged();
    let address: SocketAddr = consumer.until_says("metrics")["address"].as_str().unwrap().parse().unwrap();
    let page = get("/metrics").send(address).unwrap().text();
    for line in [
        "onceward_messages_total{outcome=\"done\"} 2",
        "onceward_messages_total{outcome=\"duplicate_of_done\"} 4",
        "onceward_handlers_begun_total 2",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    assert_eq!(get("/healthz").send(address).unwrap().status, 200);
    stop(consumer);
    // Also after a restart.
    stream.publish("paid-1", &[]);
    let consumer = stream.consume(&[]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    let effects = stream.handler.effects("paid-1");
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].attempt, 1);
    assert!(effects[0].fence > 0);
    assert_eq!(stream.handler.effects("paid-2").len(), 1);
    assert!(stream.dead(&["list"]).with_code(0).stdout.ends_with("(none)\n"));
}

#[test]
fn what_a_killed_consumer_left_open_is_held_until_somebody_looks() {
    let stream = Stream::new();
    let mut consumer = stream.consume(&[]);
    stream.publish("paid-1", &["test-hold", "after"]);
    stream.handler.until_effects("paid-1", 1);
    consumer.kill();
    stream.handler.open();
    let consumer = stream.consume(&[]);
    // The lease of the one that was killed is over first.
    until_true("it is found out", || stream.redis(&["XPENDING", "orders", "shipping"]).starts_with('0'));
    stop(consumer);
    assert_eq!(stream.handler.effects("paid-1").len(), 1, "not run again by itself");
    let letters = stream.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["reason"], &letters[0]["topic"]), (&"unresolved".into(), &"orders".into()));
    let id = letters[0]["id"].as_str().unwrap();
    let shown = stream.dead(&["show", id]).with_code(0).stdout;
    assert!(shown.contains("header    event-id: paid-1\n") && shown.ends_with("\n{}\n"), "{shown}");
    let to = stream.url();
    let refused = stream.dead(&["redrive", id, "--to", &to]).with_code(1);
    assert!(refused.stderr.contains("--did-not-happen"), "{}", refused.stderr);
    stream.dead(&["redrive", id, "--to", &to, "--did-not-happen"]).with_code(0);
    assert_eq!(stream.letters(), [Value::Null; 0]);
    let consumer = stream.consume(&[]);
    stream.handler.until_effects("paid-1", 2);
    stream.until_all_is_acknowledged();
    stop(consumer);
}

#[test]
fn what_the_handler_refuses_is_a_dead_letter_that_can_be_dropped() {
    let stream = Stream::new();
    let consumer = stream.consume(&["--attempts", "3"]);
    stream.publish("refused", &["test-status", "422"]);
    stream.publish("throttled", &["test-status", "429"]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    assert_eq!(stream.handler.effects("refused").len(), 1);
    assert_eq!(stream.handler.effects("throttled").len(), 3, "as often as it may");
    let mut letters = stream.letters();
    letters.sort_by_key(|it| it["detail"].to_string());
    let wanted = [("handler", "the handler answered 422", 1), ("attempts", "the handler answered 429", 3)];
    for (letter, (reason, said, attempts)) in letters.iter().zip(wanted) {
        assert_eq!((&letter["reason"], &letter["attempts"]), (&reason.into(), &attempts.into()));
        // And what it said.
        let detail = letter["detail"].as_str().unwrap();
        assert!(detail.starts_with(said) && detail.contains(": {\"receipt\":"), "{detail}");
    }
    let id = letters[0]["id"].as_str().unwrap();
    stream.dead(&["drop", id]).with_code(0);
    assert_eq!(stream.letters().len(), 1);
    stream.dead(&["redrive", id, "--to", &stream.url()]).with_code(1);
    let gone = stream.dead(&["show", id]).with_code(1);
    assert!(gone.stderr.contains("no such letter"), "{}", gone.stderr);
}

#[test]
fn a_letter_without_an_id_comes_back_and_whoever_sends_it_again_is_told() {
    let stream = Stream::new();
    stream.redis(&["XADD", "orders", "*", "body", "{}"]);
    let consumer = stream.consume(&[]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    let letters = stream.letters();
    assert_eq!(letters[0]["reason"], "no-identity");
    let redriven = stream.dead(&["redrive", letters[0]["id"].as_str().unwrap(), "--to", &stream.url()]);
    let said = redriven.with_code(0).stdout;
    assert!(said.contains("finds no id in it") && said.contains("new letter"), "{said}");
    let consumer = stream.consume(&[]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    assert_eq!(stream.letters()[0]["reason"], "no-identity", "as it said");
}

#[test]
fn what_cannot_be_consumed_is_refused_by_name() {
    let place = Place::before("http://127.0.0.1:9");
    let refused = |from: &str, to: &str, key: &str| {
        let words = ["consume", "--from", from, "--to", to, "--key", key, "--name", "shipping"];
        run(onceward(place.folder()).args(words)).with_code(2).stderr
    };
    let (from, to, key) = ("redis-streams://127.0.0.1:9/orders", "http://127.0.0.1:9/", "position");
    assert!(refused("orders", to, key).contains("--from: `orders` is no URL"));
    assert!(refused("redis-streams://127.0.0.1:9/orders?grup=x", to, key).contains("no parameter `grup`"));
    assert!(refused(from, to, "event-id").contains("header:NAME"));
    assert!(refused(from, "orders", key).contains("--to"));
    assert!(refused(from, "ftp://127.0.0.1/x", key).contains("--to"));
}
