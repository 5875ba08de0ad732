//! E-mail, to a server that takes what a test wants.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use onceward_core::{Fence, Timestamp};
use onceward_queue::outbox::mail::Mail;
use onceward_queue::outbox::{EffectId, Outgoing, SendFailure, Sender as _};
use onceward_testkit::within;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers a whole mail with `answer`, and keeps it. Gives its port, and what it got.
async fn server(answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, got) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let (mut serving, keeping) = (JoinSet::new(), Arc::clone(&got));
    serving.spawn(async move {
        // A sender may open another connection before it is done with the last one.
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(take_mails(stream, Arc::clone(&keeping), answer));
        }
    });
    (port, got, serving)
}

async fn take_mails(mut stream: TcpStream, keeping: Arc<Mutex<Vec<String>>>, answer: &'static str) {
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading).lines();
    writing.write_all(b"220 here\r\n").await.unwrap();
    let mut mail: Option<String> = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let said = match (&mut mail, line.as_str()) {
            (Some(_), ".") => {
                keeping.lock().unwrap().extend(mail.take());
                answer
            }
            (Some(mail), _) => {
                mail.push_str(&line);
                mail.push('\n');
                continue;
            }
            (None, "DATA") => {
                mail = Some(String::new());
                "354 go on"
            }
            (None, "QUIT") => "221 bye",
            (None, _) => "250 fine",
        };
        if writing.write_all(format!("{said}\r\n").as_bytes()).await.is_err() {
            break;
        }
    }
}

fn effect(destination: &str) -> Outgoing {
    Outgoing {
        id: EffectId::from_bytes([0xab; 16]),
        kind: "mail".into(),
        destination: destination.into(),
        key: None,
        headers: vec![("Subject".into(), Bytes::from_static("Bezahlt, schön".as_bytes()))],
        body: Bytes::from_static(b"Your order is on its way."),
        attempt: 1,
        fence: Fence(1),
        created: Timestamp::ZERO,
    }
}

fn mail(port: u16) -> Mail {
    Mail::new(&format!("smtp://127.0.0.1:{port}"), "Shop <orders@shop.example>").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_has_the_same_message_id_on_every_try() {
    let (port, got, _serving) = server("250 taken").await;
    let mail = mail(port);
    for _ in 0..2 {
        within(mail.send(&effect("Ann <ann@a.example>, bob@b.example"))).await.unwrap();
    }
    let got = got.lock().unwrap().clone();
    for it in &got {
        assert!(it.contains(&format!("Message-ID: <{}@shop.example>", "ab".repeat(16))), "{it}");
        assert!(it.contains("From: Shop <orders@shop.example>") && it.contains("bob@b.example"), "{it}");
        assert!(it.contains("\n\nYour order is on its way."), "{it}");
    }
    assert_eq!(got.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_again_or_never() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let told = within(mail(nobody).send(&effect("ann@a.example"))).await;
    assert!(matches!(told, Err(SendFailure::Retry { .. })), "{told:?}");
    for (answer, again) in [("451 later", true), ("554 never", false)] {
        let (port, _, _serving) = server(answer).await;
        let told = within(mail(port).send(&effect("ann@a.example"))).await;
        assert_eq!(matches!(told, Err(SendFailure::Retry { .. })), again, "{answer}: {told:?}");
        assert_eq!(matches!(told, Err(SendFailure::Park { .. })), !again, "{answer}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_mail_is_parked_before_anything_is_sent() {
    let (port, got, _serving) = server("250 taken").await;
    let mut injected = effect("ann@a.example");
    injected.headers = vec![("reply-to".into(), Bytes::from_static(b"a@b.example\r\nBcc: c@d.example"))];
    let mut raw = effect("ann@a.example");
    raw.body = Bytes::from_static(b"\xff");
    for it in [effect(""), effect("nobody"), effect("a@b.example\r\nBcc: c@d.example"), injected, raw] {
        let told = within(mail(port).send(&it)).await;
        assert!(matches!(told, Err(SendFailure::Park { .. })), "{told:?}");
    }
    assert_eq!(*got.lock().unwrap(), [""; 0]);
    assert!(Mail::new("http://x", "a@b.example").is_err() && Mail::new("smtp://x", "nobody").is_err());
}
