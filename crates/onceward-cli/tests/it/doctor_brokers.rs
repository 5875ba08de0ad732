//! `onceward doctor --from`: what brokers say of how long they deliver again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use onceward_testkit::server::{NatsServer, RedisServer};
use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Place, onceward, run};
use crate::upstream::Upstream;

/// A stream whose messages are kept for so many days, made in the words of the protocol.
fn stream(server: &NatsServer, days: u64) {
    let mut connection = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let age = days * 24 * 3600 * 1_000_000_000;
    let asked = format!("{{\"name\":\"orders\",\"subjects\":[\"orders\"],\"max_age\":{age}}}");
    let words = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB made 1\r\nPUB $JS.API.STREAM.CREATE.orders made {}\r\n{asked}\r\n",
        asked.len()
    );
    connection.write_all(words.as_bytes()).unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("stream_create_response") {
        let mut more = [0; 4096];
        let read = connection.read(&mut more).unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&said));
        said.extend(&more[..read]);
    }
}

fn doctor(folder: &Path, words: &[&str]) -> Command {
    let mut command = onceward(folder);
    command.args(["doctor", "--json"]).args(words);
    command
}

/// The findings about brokers, and the exit code.
fn told(command: &mut Command) -> (Vec<(String, String, String)>, i32) {
    let ended = run(command);
    assert_eq!(ended.stderr, "");
    let all: Value = serde_json::from_str(&ended.stdout).unwrap();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let all = all["findings"].as_array().unwrap().iter();
    let about = all.filter(|it| it["check"].as_str().unwrap().starts_with("broker-"));
    let told = about.map(|it| (text(&it["check"]), text(&it["level"]), text(&it["says"]))).collect();
    (told, ended.code.unwrap())
}

#[test]
fn brokers_are_held_against_what_a_consumer_remembers() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    stream(&nats, 30);
    let folder = tempfile::tempdir().unwrap();
    let of_redis = format!("redis-streams://:hunter2@127.0.0.1:{}/orders", redis.port());
    let of_nats = format!("nats://127.0.0.1:{}/orders", nats.port());
    let ask = |words: &[&str]| told(&mut doctor(folder.path(), words));
    redis.cli(&["CONFIG", "SET", "requirepass", "hunter2"]);

    let (found, code) = ask(&["--from", &of_redis, "--from", &of_nats]);
    let [(check, level, says), (other_check, other_level, other)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((check.as_str(), level.as_str()), ("broker-memory", "warning"), "{says}");
    assert!(says.contains("no time bounds") && !says.contains("hunter2"), "{says}");
    assert_eq!((other_check.as_str(), other_level.as_str()), ("broker-memory", "error"), "{other}");
    assert!(other.starts_with(&of_nats) && other.contains("30days"), "{other}");
    assert_eq!(code, 1);

    // Remembered for longer, as its consumers are told to, too.
    let (found, _) = ask(&["--from", &of_nats, "--retention", "30d"]);
    assert_eq!(found[0].1, "ok", "{found:?}");
    let (found, _) = ask(&["--from", &format!("{of_redis}?delete=true")]);
    assert_eq!(found[0].1, "ok", "{found:?}");
    // Nothing was made.
    let made = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "-a", "hunter2", "--no-auth-warning", "EXISTS", "orders"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&made.stdout).trim(), "0");

    let (found, _) = told(doctor(folder.path(), &[]).env("ONCEWARD_FROM", &of_nats));
    assert_eq!(found.len(), 1, "the variable names one, too");
    let (found, _) = told(doctor(folder.path(), &["--offline"]).env("ONCEWARD_FROM", &of_nats));
    assert_eq!(found, [], "nobody is connected to");
    drop(nats);
    let (found, code) = ask(&["--from", &of_nats]);
    assert_eq!(
        (found[0].0.as_str(), found[0].1.as_str(), code),
        ("broker-reachable", "error", 1),
        "{found:?}"
    );
    let ended = run(&mut doctor(folder.path(), &["--from", "pigeon://loft/orders"])).with_code(2);
    assert!(ended.stderr.contains("--from"), "{}", ended.stderr);
}

#[test]
fn a_consumer_that_has_the_store_does_not_keep_its_broker_from_being_looked_at() {
    let (redis, handler) = (RedisServer::start(), Upstream::start());
    let place = Place::before(&handler.url());
    let from = format!("redis-streams://127.0.0.1:{}/orders", redis.port());
    let store = format!("embedded:{}", place.records().display());
    let mut command = onceward(place.folder());
    command.args(["consume", "--from", &from, "--name", "shipping", "--key", "header:event-id"]);
    command.args(["--to", &format!("{}/on-order", handler.url()), "--store", &store]);
    let mut consumer = place.begin_command(&mut command);
    consumer.until_says("consuming");
    let words = ["--store", &store, "--admin", "127.0.0.1:9", "--from", &from];
    let ask = |words: &[&str]| {
        let mut command = doctor(place.folder(), words);
        command.env("ONCEWARD_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef");
        command
    };
    let (found, code) = told(&mut ask(&words));
    assert_eq!(
        (found[0].0.as_str(), found[0].1.as_str(), code),
        ("broker-memory", "warning", 0),
        "{found:?}"
    );
    // Without a broker to look at there is nothing to say.
    run(&mut ask(&words[..4])).with_code(5);
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.exit_code(), 0);
}
