//! Effects that services added to their outbox, and those that did not go out.

use std::fs;
use std::net::SocketAddr;

use onceward_testkit::server::{Postgres, RedisServer};
use rustix::process::Signal;
use serde_json::Value;

use crate::client::get;
use crate::process::{Ended, Place, Process, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until_true;

struct Shop {
    server: Postgres,
    receiver: Upstream,
    place: Place,
}

impl Shop {
    fn new() -> Self {
        let receiver = Upstream::start();
        let shop = Self { server: Postgres::start(&[]), place: Place::before(&receiver.url()), receiver };
        run(onceward(shop.place.folder()).args(["store", "migrate", &shop.url()])).with_code(0);
        shop
    }

    fn url(&self) -> String {
        self.server.url("onceward")
    }

    /// Adds an effect as a service in another language does. Gives its id.
    fn add(&self, kind: &str, destination: &str, key: &str, header: (&str, &str)) -> String {
        let (name, value) = header;
        self.server.sql(&format!(
            "SELECT encode(onceward_outbox_add_1(NULL, '{kind}', '{destination}', nullif('{key}', '')::bytea,
                 ARRAY['{name}'], ARRAY['{value}'::bytea], '{{\"order\":1}}', false), 'hex')"
        ))
    }

    fn relay(&self, words: &[&str]) -> Process {
        let mut command = onceward(self.place.folder());
        command
            .args(["relay", "--store", &self.url(), "--poll", "20ms", "--pause", "20ms", "--lease", "1s"])
            .args(["--send", &format!("hooks={}/hooks/", self.receiver.url())])
            .args(words);
        self.place.begin_command(&mut command)
    }

    fn outbox(&self, words: &[&str]) -> Ended {
        run(onceward(self.place.folder()).arg("outbox").args(words).args(["--store", &self.url()]))
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&self.outbox(&["stats", "--json"]).with_code(0).stdout).unwrap()
    }

    fn until_stats(&self, name: &str, number: u64) {
        until_true("the outbox stands so", || self.stats()[name] == number);
    }
}

fn stop(mut relay: Process) {
    relay.signal(Signal::TERM);
    assert_eq!(relay.exit_code(), 0, "{}{}", relay.log(), relay.errors());
}

#[test]
fn what_was_added_goes_out_to_whom_its_kind_says_and_other_kinds_stay() {
    let (shop, redis) = (Shop::new(), RedisServer::start());
    let hook = shop.add("hooks", "on-paid", "1", ("content-type", "application/json"));
    let event = shop.add("events", "paid", "1", ("trace", "t-1"));
    shop.add("mail", "ann@a.example", "", ("subject", "Paid"));
    let secret = shop.place.folder().join("secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let stream = format!("events=redis-streams://127.0.0.1:{}/any", redis.port());
    let relay = shop.relay(&[
        "--send",
        &stream,
        "--secret",
        &format!("hooks=file:{}", secret.display()),
        "--metrics",
        "127.0.0.1:0",
    ]);
    shop.receiver.until_effects(&hook, 1);
    until_true("it is published", || redis.cli(&["XLEN", "paid"]).trim() == "1");
    let entry = redis.cli(&["XRANGE", "paid", "-", "+"]);
    for part in ["event-id", &event, "trace", "t-1", "{\"order\":1}"] {
        assert!(entry.contains(part), "{part} is not in {entry}");
    }
    shop.until_stats("unsent", 1);
    let address: SocketAddr = relay.until_says("metrics")["address"].as_str().unwrap().parse().unwrap();
    let page = || get("/metrics").send(address).unwrap().text();
    until_true("both are counted", || page().contains("onceward_outbox_effects_total{outcome=\"sent\"} 2\n"));
    assert!(page().contains("onceward_outbox_counted 1\n"), "{}", page());
    assert_eq!(get("/healthz").send(address).unwrap().status, 200);
    assert_eq!(relay.until_says("relaying")["kinds"], "hooks,events");
    stop(relay);
    assert_eq!(shop.receiver.effects(&hook).len(), 1);
    assert!(shop.outbox(&["list"]).with_code(0).stdout.ends_with("(none)\n"));
}

#[test]
fn what_is_parked_is_shown_and_goes_out_under_its_id_or_never() {
    let shop = Shop::new();
    let refused = shop.add("hooks", "on-paid", "a", ("test-status", "422"));
    let behind = shop.add("hooks", "on-paid", "a", ("x", "1"));
    let elsewhere = shop.add("hooks", "https://evil.example/", "b", ("x", "\x1b[31mred"));
    let busy = shop.add("hooks", "on-paid", "c", ("test-status", "503"));
    let relay = shop.relay(&["--attempts", "3"]);
    shop.until_stats("parked", 3);
    stop(relay);
    assert_eq!(shop.receiver.effects(&busy).len(), 3, "as often as it may");
    assert_eq!(shop.stats()["unsent"], 4);
    let listed = shop.outbox(&["list", "--json"]).with_code(0).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let shown: Vec<_> =
        listed["effects"].as_array().unwrap().iter().map(|it| (&it["id"], &it["reason"])).collect();
    assert_eq!(shown[0], (&refused.clone().into(), &"it was answered with 422".into()));
    assert_eq!(shown[1].1, "its destination is not below the URL that it may go to");
    assert_eq!(shown[2], (&busy.clone().into(), &"failed 3 times: it was answered with 503".into()));
    let first = shop.outbox(&["list", "--limit", "1"]).with_code(0).stdout;
    assert!(first.contains(&refused) && !first.contains(&busy), "{first}");
    let cursor = first.lines().last().unwrap().strip_prefix("more: --cursor ").unwrap();
    let second = shop.outbox(&["list", "--cursor", cursor]).with_code(0).stdout;
    assert!(!second.contains(&refused) && second.contains(&busy), "{second}");
    let sheet = shop.outbox(&["show", &elsewhere]).with_code(0).stdout;
    assert!(
        sheet.contains("header      x: \u{fffd}[31mred\n") && sheet.ends_with("\n{\"order\":1}\n"),
        "{sheet}"
    );
    // One is dropped, and what is behind it goes out; the others are tried again.
    assert_eq!(shop.outbox(&["drop", &refused]).with_code(0).stdout, "1 dropped\n");
    assert_eq!(shop.outbox(&["redrive", "--all", "--kind", "hooks"]).with_code(0).stdout, "2 redriven\n");
    let again = shop.outbox(&["redrive", &refused]).with_code(1);
    assert!(again.stderr.contains("1 of these effects are not parked"), "{}", again.stderr);
    shop.outbox(&["show", &refused]).with_code(1);
    let relay = shop.relay(&["--attempts", "3"]);
    shop.receiver.until_effects(&behind, 1);
    shop.receiver.until_effects(&busy, 6);
    shop.until_stats("parked", 2);
    stop(relay);
    assert_eq!(shop.receiver.effects(&refused).len(), 1);
}

#[test]
fn a_relay_that_is_told_to_stop_ends_what_is_on_its_way_and_one_that_is_killed_is_replaced() {
    let shop = Shop::new();
    let held = shop.add("hooks", "on-paid", "a", ("test-hold", "before"));
    let mut relay = shop.relay(&[]);
    shop.receiver.until_arrived(&held, 1);
    relay.signal(Signal::TERM);
    relay.until_says("relaying");
    assert!(relay.is_running());
    shop.receiver.open();
    assert_eq!(relay.exit_code(), 0);
    assert_eq!(shop.stats()["unsent"], 0, "it is noted");
    let shop = Shop::new();
    let held = shop.add("hooks", "on-paid", "a", ("test-hold", "after"));
    let next = shop.add("hooks", "on-paid", "a", ("x", "1"));
    let mut killed = shop.relay(&[]);
    shop.receiver.until_effects(&held, 1);
    killed.kill();
    shop.receiver.open();
    let relay = shop.relay(&[]);
    shop.receiver.until_effects(&next, 1);
    stop(relay);
    assert_eq!(shop.receiver.effects(&held).len(), 2, "twice, under one id");
}

#[test]
fn what_cannot_be_relayed_is_refused_by_name() {
    let place = Place::before("http://127.0.0.1:9");
    let refused =
        |words: &[&str], code: i32| run(onceward(place.folder()).args(words)).with_code(code).stderr;
    let hooks = "hooks=https://shop.example/";
    let relay = |store: &str, send: &str| refused(&["relay", "--store", store, "--send", send], 2);
    assert!(relay("mysql://a/b", hooks).contains("--store: "));
    assert!(relay("postgres://a,b/c", hooks).contains("cannot have several hosts"));
    assert!(relay("postgres://a/b", "hooks").contains("KIND="));
    assert!(relay("postgres://a/b", "hooks=here").contains("--send hooks: `here` is no URL"));
    assert!(
        refused(&["outbox", "show", "--store", "postgres://a/b", "x"], 2).contains("32 hexadecimal digits")
    );
    let nobody = format!("postgres://a@127.0.0.1:{}/b", onceward_testkit::server::free_port());
    refused(&["relay", "--store", &nobody, "--send", hooks], 4);
    refused(&["outbox", "list", "--store", &nobody], 4);
}
