//! Webhooks: through the gateway to a handler, and by way of a broker.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use onceward_testkit::server::RedisServer;
use rustix::process::Signal;

use crate::client::Ask;
use crate::process::{Place, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until_true;

const SECRET: &str = "it's a secret";
/// `printf '{"id":"evt-1"}' | openssl dgst -sha256 -hmac "it's a secret"`
const SIGNED: &str = "sha256=77c5708d5e201a40562d69964f195e3571eb841ba99a40bfee271f96da8d0d09";
const BODY: &str = r#"{"id":"evt-1"}"#;

fn event(signature: &str) -> Ask {
    Ask::new("POST", "/hooks").with("X-Hub-Signature-256", signature).body(BODY)
}

#[test]
fn an_event_that_is_signed_reaches_the_handler_once_and_another_never() {
    let handler = Upstream::start();
    let place = Place::before(&handler.url());
    fs::write(place.folder().join("old.secret"), "another secret\n").unwrap();
    let settings = "[[route]]\npath = \"/hooks\"\nkey = \"required\"\nkey_from = \"json:/id\"\nprincipal = \"none\"\n\
                    verify = \"github\"\nverify_secret_file = \"hooks.secret\"\n";
    fs::write(place.folder().join("hooks.toml"), settings).unwrap();
    let start = |place: &Place| place.start_with(&["--config", "hooks.toml"]);
    let refused = run(place.command().args(["--config", "hooks.toml"])).with_code(4);
    assert!(refused.stderr.contains("verify_secret_file hooks.secret"), "{}", refused.stderr);
    fs::write(place.folder().join("hooks.secret"), "another secret\n").unwrap();
    let gateway = start(&place);
    assert_eq!(gateway.ask(&event(SIGNED)).status, 403);
    // The sender changes over: both are known, without a restart.
    fs::write(place.folder().join("hooks.secret"), format!("another secret\n{SECRET}\n")).unwrap();
    gateway.process.signal(Signal::HUP);
    until_true("the new secret is known", || gateway.ask(&event(SIGNED)).status != 403);
    let again = gateway.ask(&event(SIGNED));
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")), "{again:?}");
    assert_eq!(gateway.ask(&event(&SIGNED.replace('a', "b"))).status, 403);
    assert_eq!(gateway.ask(&Ask::new("POST", "/hooks").body("{}")).status, 403);
    assert_eq!(handler.effects("evt-1").len(), 1);
}

#[test]
fn an_event_is_answered_once_the_broker_has_it_and_handled_once() {
    let mut server = RedisServer::start();
    let handler = Upstream::start();
    let place = Place::before(&handler.url());
    fs::write(place.folder().join("hooks.secret"), SECRET).unwrap();
    let stream = format!("redis-streams://127.0.0.1:{}/hooks", server.port());
    let mut command = onceward(place.folder());
    command.args([
        "receive",
        "--listen",
        "127.0.0.1:0",
        "--to",
        &stream,
        "--path",
        "/hooks",
        "--key",
        "json:/id",
    ]);
    command.args(["--verify", "github", "--secret-file", "hooks.secret"]);
    let mut receiver = place.begin_command(&mut command);
    let address: SocketAddr = receiver.until_says("receiving")["address"].as_str().unwrap().parse().unwrap();
    let ask = |it: Ask| it.send(address).unwrap().status;
    assert_eq!(ask(event("sha256=00")), 403);
    assert_eq!(ask(Ask::new("POST", "/other")), 404);
    assert_eq!(ask(Ask::new("PUT", "/hooks")), 405);
    for _ in 0..3 {
        assert_eq!(ask(event(SIGNED)), 202);
    }
    let redis = |server: &RedisServer, words: &[&str]| {
        let said = Command::new("redis-cli").args(["-p", &server.port().to_string()]).args(words).output();
        String::from_utf8(said.unwrap().stdout).unwrap()
    };
    assert_eq!(redis(&server, &["XLEN", "hooks"]).trim(), "3", "what was refused is not there");
    // While the broker is away nobody is told that an event was taken.
    server.kill();
    assert_eq!(ask(event(SIGNED)), 503);
    server.start_again();
    until_true("it is taken again", || ask(event(SIGNED)) == 202);
    receiver.signal(Signal::TERM);
    assert_eq!(receiver.exit_code(), 0, "{}{}", receiver.log(), receiver.errors());
    let mut command = onceward(place.folder());
    command.args(["consume", "--from", &stream, "--name", "hooks", "--key", "header:event-id"]);
    command.args(["--to", &format!("{}/hooks", handler.url())]);
    command.args(["--store", &format!("embedded:{}", place.records().display())]);
    let mut consumer = place.begin_command(&mut command);
    until_true("every event is acknowledged", || {
        let groups = redis(&server, &["XINFO", "GROUPS", "hooks"]);
        let fields: Vec<_> = groups.lines().collect();
        ["pending", "lag"].iter().all(|name| fields.windows(2).any(|it| it == [*name, "0"]))
    });
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.exit_code(), 0);
    assert_eq!(handler.effects("evt-1").len(), 1);
}

#[test]
fn what_would_take_in_events_of_anybody_is_said_out_loud() {
    let place = Place::before("http://127.0.0.1:1");
    let words = [
        "receive",
        "--listen",
        "127.0.0.1:0",
        "--to",
        "redis-streams://127.0.0.1:1/hooks",
        "--key",
        "json:/id",
    ];
    let refused = run(onceward(place.folder()).args(words)).with_code(2);
    assert!(refused.stderr.contains("--unsigned"), "{}", refused.stderr);
    let placed =
        run(onceward(place.folder()).args(&words[..6]).args(["position", "--unsigned"])).with_code(2);
    assert!(placed.stderr.contains("--key: an event has no position"), "{}", placed.stderr);
    let words = [&words[..], &["--verify", "github", "--secret-file", "none"]].concat();
    let refused = run(onceward(place.folder()).args(words)).with_code(2);
    assert!(refused.stderr.contains("--secret-file: none: No such file"), "{}", refused.stderr);
}
