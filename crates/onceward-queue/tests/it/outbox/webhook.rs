//! Webhooks, to a receiver that answers what a test wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use onceward_core::{Clock as _, Fence, SystemClock, Timestamp};
use onceward_queue::outbox::webhook::{Webhook, WebhookSecret};
use onceward_queue::outbox::{Effect, EffectId, Outgoing, Relay, SendFailure, Sender as _};
use onceward_testkit::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::place::{Place, Running};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Answers each request with the next of its answers, or hangs up where that is empty, and keeps what it was asked.
struct Receiver {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Receiver {
    async fn new(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (mut serving, noting) = (JoinSet::new(), Arc::clone(&asked));
        let answers: Vec<&'static str> = answers.to_vec();
        let mut answers = answers.into_iter();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                while let Some(request) = read(&mut stream).await {
                    noting.lock().unwrap().push(request);
                    let answer = answers.next().unwrap();
                    if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        });
        Self { port, asked, _serving: serving }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/on?x=1", self.port)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A whole request, head in lower case. `None` where there is none any more.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = std::str::from_utf8(&bytes[..at]).unwrap().to_lowercase();
            let length = head.lines().find_map(|it| it.strip_prefix("content-length: "));
            let whole = at + 4 + length.map_or(0, |it| it.parse::<usize>().unwrap());
            if bytes.len() >= whole {
                return Some(format!("{head}\n\n{}", std::str::from_utf8(&bytes[at + 4..]).unwrap()));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn outgoing(destination: String) -> Outgoing {
    Outgoing {
        id: EffectId::from_bytes([0xab; 16]),
        kind: "http".into(),
        destination,
        key: None,
        headers: Vec::new(),
        body: Bytes::from_static(br#"{"order":1}"#),
        attempt: 1,
        fence: Fence(1),
        created: Timestamp::ZERO,
    }
}

fn webhook() -> Webhook {
    Webhook::new().unwrap().plain_http()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_carries_its_id_its_time_and_a_signature_that_nobody_else_can_give() {
    let receiver = Receiver::new(&["HTTP/1.1 204 No Content\r\n\r\n"; 2]).await;
    let mut effect = outgoing(receiver.url());
    effect.headers =
        [("Content-Type", "application/json"), ("Webhook-Signature", "v1,mine"), ("Host", "other")]
            .map(|(name, value)| (name.to_owned(), Bytes::from_static(value.as_bytes())))
            .into();
    let secret = WebhookSecret::standard(SECRET).unwrap();
    let both = [secret.clone(), WebhookSecret::standard("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap()];
    within(webhook().signed(secret).send(&effect)).await.unwrap();
    within(webhook().signed_by(move |_| both.to_vec()).send(&effect)).await.unwrap();
    let asked = receiver.asked();
    let head = |asked: &str, name: &str| {
        let found: Vec<_> = asked.lines().filter_map(|it| it.strip_prefix(&format!("{name}: "))).collect();
        assert_eq!(found.len(), 1, "{name} in {asked}");
        found[0].to_owned()
    };
    assert!(asked[0].starts_with("post /on?x=1 http/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with("\n\n{\"order\":1}"), "{}", asked[0]);
    assert_eq!(head(&asked[0], "idempotency-key"), "ab".repeat(16));
    assert_eq!(head(&asked[0], "webhook-id"), "ab".repeat(16));
    assert_eq!(head(&asked[0], "content-type"), "application/json");
    assert!(head(&asked[0], "host").starts_with("127.0.0.1:"));
    let sent: u64 = head(&asked[0], "webhook-timestamp").parse().unwrap();
    assert!((SystemClock.wall().as_millis() / 1000).abs_diff(sent) < 60);
    assert!(head(&asked[0], "webhook-signature").starts_with("v1,"));
    assert_eq!(head(&asked[1], "webhook-signature").split(' ').count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_decides_what_becomes_of_a_webhook_and_no_redirect_is_followed() {
    let elsewhere = Receiver::new(&[]).await;
    let moved = format!("HTTP/1.1 307 Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", elsewhere.url());
    let answers = [
        "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 429 Later\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 Nothing\r\nContent-Length: 0\r\n\r\n",
        &*moved.leak(),
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    let receiver = Receiver::new(&answers).await;
    let (webhook, effect) = (webhook(), outgoing(receiver.url()));
    let mut told = Vec::new();
    for _ in answers {
        told.push(within(webhook.send(&effect)).await);
    }
    let again = |status, after: Option<u64>| {
        Err(SendFailure::Retry {
            reason: format!("it was answered with {status}"),
            after: after.map(Duration::from_secs),
        })
    };
    let park = |status| Err(SendFailure::park(format!("it was answered with {status}")));
    assert_eq!(told[..4], [again(500, None), again(429, Some(7)), park(404), park(307)]);
    assert!(matches!(&told[4], Err(SendFailure::Retry { reason, .. }) if reason.starts_with("no answer: ")));
    assert_eq!(told[5], Ok(()));
    assert_eq!(receiver.asked().len(), answers.len(), "nothing is sent twice by itself");
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_parked_and_who_is_not_there_is_tried_again() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let there = Receiver::new(&[]).await;
    let strict = Webhook::new().unwrap();
    for destination in [String::new(), "/on".into(), "mailto:a@b".into(), there.url()] {
        let told = within(strict.send(&outgoing(destination.clone()))).await;
        assert!(matches!(told, Err(SendFailure::Park { .. })), "{destination}: {told:?}");
    }
    let mut bad = outgoing(there.url());
    bad.headers = vec![("x".into(), Bytes::from_static(b"a\r\nb: c"))];
    assert!(matches!(within(webhook().send(&bad)).await, Err(SendFailure::Park { .. })));
    assert!(there.asked().is_empty());
    let told = within(webhook().send(&outgoing(format!("http://{nobody}/")))).await;
    assert!(matches!(told, Err(SendFailure::Retry { .. })), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_sends_a_webhook_under_one_id_until_it_is_taken() {
    let answers =
        ["HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"];
    let receiver = Receiver::new(&answers).await;
    let place = Place::new().await;
    let effect = Effect {
        kind: "http".into(),
        destination: receiver.url(),
        key: Some("1".into()),
        headers: Vec::new(),
        body: "{}".into(),
    };
    let ids = place.add(&[effect]).await;
    let relay = Relay::new(place.pool.clone(), place.outbox.clone());
    let relay = Running::new(relay.sender("http", webhook()).settings(place.settings.clone()));
    place.until_all_is_sent().await;
    relay.stop().await;
    let asked = receiver.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| it.contains(&format!("idempotency-key: {}", ids[0]))));
}
