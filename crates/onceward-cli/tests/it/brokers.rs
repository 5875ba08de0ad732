//! Messages of brokers that come from PyPI, brought to an HTTP handler.

use std::net::SocketAddr;
use std::process::Command;

use bytes::Bytes;
use onceward::queue::Message;
use onceward_testkit::server::{Ministack, Tansu};
use rustix::process::Signal;

use crate::client::{Ask, get};
use crate::process::{Place, Process, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until_true;

/// A consumer that finds no credentials of this machine's.
fn consumer(place: &Place, handler: &Upstream, from: &str) -> Command {
    let mut command = onceward(place.folder());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"] {
        command.env_remove(name);
    }
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/nowhere")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        .env("ONCEWARD_FROM", from)
        .args(["consume", "--name", "shipping", "--key", "json:/id", "--metrics", "127.0.0.1:0"])
        .args(["--to", &format!("{}/on-order", handler.url())])
        .args(["--store", &format!("embedded:{}", place.records().display())]);
    command
}

/// Publishes three times what is one order.
async fn publish(from: &str) {
    let source = onceward::queue::source::open::open(from, "producer").unwrap();
    for number in 0..3 {
        let message = Message {
            topic: "orders".into(),
            key: Some(Bytes::from_static(b"account-7")),
            headers: vec![("number".into(), number.to_string().into())],
            body: Bytes::from_static(br#"{"id":"paid-1"}"#),
        };
        source.publish(&message).await.unwrap();
    }
    source.close().await;
}

/// Waits until the consumer has counted so many, and stops it.
fn stop_after(mut consumer: Process, line: &str) {
    let address: SocketAddr = consumer.until_says("metrics")["address"].as_str().unwrap().parse().unwrap();
    until_true(line, || get("/metrics").send(address).is_ok_and(|it| it.text().contains(line)));
    consumer.signal(Signal::TERM);
    assert_eq!(consumer.exit_code(), 0, "{}{}", consumer.log(), consumer.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_consumed() {
    let server = Tansu::start("orders", 2).await;
    let from =
        format!("kafka://{}/orders?commit_every=10ms&session=6s&fetch.wait.max.ms=50", server.bootstrap());
    let handler = Upstream::start();
    let place = Place::before(&handler.url());
    // Also after a restart.
    for repeats in [2, 3] {
        publish(&from).await;
        let consumer = place.begin_command(&mut consumer(&place, &handler, &from));
        let counted = format!("onceward_messages_total{{outcome=\"duplicate_of_done\"}} {repeats}\n");
        tokio::task::block_in_place(|| stop_after(consumer, &counted));
    }
    assert_eq!(handler.effects("paid-1").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqs_is_consumed_with_credentials_that_are_found() {
    let server = Ministack::start();
    let host = server.url().replace("http://", "");
    let made = Ask::new("POST", "/")
        .with("content-type", "application/x-www-form-urlencoded")
        .body("Action=CreateQueue&QueueName=orders&Version=2012-11-05")
        .send(host.parse().unwrap())
        .unwrap();
    assert_eq!(made.status, 200, "{}", made.text());
    let from = |login: &str| format!("sqs+http://{login}{host}/000000000000/orders?region=us-east-1&wait=1s");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id = test\naws_secret_access_key = test\n").unwrap();
    // What publishes has them in its URL.
    let handler = Upstream::start();
    let place = Place::before(&handler.url());
    publish(&from("test:test@")).await;
    let mut command = consumer(&place, &handler, &from(""));
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let counted = "onceward_messages_total{outcome=\"duplicate_of_done\"} 2\n";
    let consuming = place.begin_command(&mut command);
    tokio::task::block_in_place(|| stop_after(consuming, counted));
    assert_eq!(handler.effects("paid-1").len(), 1);
    let ended = run(&mut consumer(&place, &handler, &from(""))).with_code(4);
    assert!(ended.stderr.contains("credentials"), "{}", ended.stderr);
}
