//! NATS JetStream, on a server of the test's own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::ErrorKind;
use onceward_queue::source::Arrival;
use onceward_queue::source::nats::{Nats, NatsSettings};
use onceward_queue::{Kept, Message, Seen, Source};
use onceward_testkit::server::NatsServer;
use onceward_testkit::{eventually, within};

use crate::arrived::{is, next};
use crate::fixture::Fixture;

#[derive(Debug)]
struct JetStream {
    server: Mutex<NatsServer>,
    url: String,
    /// Asks the server what it has.
    asking: jetstream::Context,
}

impl JetStream {
    async fn start() -> Self {
        let server = NatsServer::start();
        let url = server.url();
        let asking = jetstream::new(async_nats::connect(&url).await.unwrap());
        let it = Self { url, server: Mutex::new(server), asking };
        it.make_stream().await;
        it
    }

    async fn make_stream(&self) {
        let subjects = vec!["orders".into(), "orders.*".into()];
        let stream = stream::Config { name: "ORDERS".into(), subjects, ..stream::Config::default() };
        self.asking.create_stream(stream).await.unwrap();
    }

    fn settings(&self) -> NatsSettings {
        let settings = NatsSettings::new(&self.url, "ORDERS", "billing");
        NatsSettings { visible_for: Duration::from_millis(900), ..settings }
    }

    fn consumer(&self) -> Nats {
        Nats::new(self.settings()).unwrap()
    }

    fn consumer_with(&self, visible_for: Duration) -> Nats {
        Nats::new(NatsSettings { visible_for, ..self.settings() }).unwrap()
    }

    async fn stream(&self) -> stream::Stream {
        self.asking.get_stream("ORDERS").await.unwrap()
    }

    async fn send(&self, id: &'static str) {
        self.asking.publish("orders", id.into()).await.unwrap().await.unwrap();
    }
}

#[async_trait]
impl Fixture for JetStream {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    async fn is_empty(&self) -> bool {
        let Ok(info) = self.stream().await.consumer_info("billing").await else { return false };
        info.num_pending == 0 && info.num_ack_pending == 0
    }

    async fn crash(&self) -> Result<(), &'static str> {
        let mut server = self.server.lock().unwrap();
        server.kill();
        server.start_again();
        Ok(())
    }
}

/// On any server; what follows asks for one of 2.10 or later.
mod promises {
    use super::JetStream;

    crate::fixture::promises!(JetStream::start());
}

#[tokio::test]
async fn only_what_the_server_has_counted_from_the_start_comes_for_the_first_time() {
    let jet = JetStream::start().await;
    jet.send("before").await;
    let source = jet.consumer();
    let before = next(&source).await;
    assert!(
        is(&before, "before", Seen::Perhaps),
        "a server that was killed before may have forgotten a delivery"
    );
    within(source.acknowledge(&[before.receipt])).await.unwrap();
    jet.send("after").await;
    let after = next(&source).await;
    assert!(is(&after, "after", Seen::First));
    jet.crash().await.unwrap();
    // What was acknowledged just before comes again, too: the server writes that down a little later.
    let mut again = Vec::new();
    while !again.contains(&after.message.body) {
        match within(source.receive(1)).await {
            Ok(arrivals) => {
                for arrival in arrivals {
                    let Arrival::Delivered(delivery) = arrival else { panic!("{arrival:?}") };
                    assert_ne!(delivery.seen, Seen::First);
                    again.push(delivery.message.body.clone());
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_leaves_lets_others_have_at_once_what_it_has_and_what_came_while_it_did_not_look() {
    let jet = JetStream::start().await;
    let settings = NatsSettings { visible_for: Duration::from_secs(600), ..jet.settings() };
    let (one, two) = (Nats::new(settings.clone()).unwrap(), Nats::new(settings).unwrap());
    {
        // It waits, and is dropped as by a consumer that stops.
        let receiving = one.receive(10);
        tokio::pin!(receiving);
        let durable = async || {
            let info = jet.stream().await.consumer_info("billing").await;
            info.is_ok_and(|it| it.num_waiting == 1)
        };
        tokio::select! {
            _ = &mut receiving => panic!("there is nothing"),
            () = eventually(durable) => {}
        }
    }
    jet.send("m-1").await;
    eventually(async || jet.stream().await.consumer_info("billing").await.unwrap().num_ack_pending == 1)
        .await;
    within(one.close()).await;
    let first = next(&two).await;
    assert!(is(&first, "m-1", Seen::Before(Some(2))));
    within(two.close()).await;
    let three = jet.consumer_with(Duration::from_secs(600));
    assert!(is(&next(&three).await, "m-1", Seen::Before(Some(3))));
}

#[tokio::test]
async fn what_is_given_back_waits_for_its_time_and_holds_up_nothing() {
    let jet = JetStream::start().await;
    let source = jet.consumer_with(Duration::from_secs(600));
    jet.send("m-1").await;
    let first = next(&source).await;
    within(source.give_back(&[first.receipt], Duration::from_secs(1))).await.unwrap();
    jet.send("m-2").await;
    assert_eq!(&next(&source).await.message.body[..], b"m-2");
    assert!(is(&next(&source).await, "m-1", Seen::Before(Some(2))));
}

#[tokio::test]
async fn what_is_not_a_consumers_any_more_is_neither_kept_nor_given_back_by_it() {
    let jet = JetStream::start().await;
    let (one, two) = (jet.consumer(), jet.consumer());
    jet.send("m-1").await;
    let first = next(&one).await;
    let second = next(&two).await;
    assert!(is(&second, "m-1", Seen::Before(Some(2))), "the time of the first delivery is over");
    assert_eq!(
        within(one.extend(std::slice::from_ref(&first.receipt))).await.unwrap(),
        std::slice::from_ref(&first.receipt)
    );
    within(one.give_back(&[first.receipt], Duration::ZERO)).await.unwrap();
    let kept = within(two.extend(std::slice::from_ref(&second.receipt))).await.unwrap();
    assert_eq!(kept, []);
    // Had it been given back, it would come before what is sent now.
    jet.send("m-2").await;
    assert_eq!(&next(&one).await.message.body[..], b"m-2");
}

#[tokio::test]
async fn a_receipt_of_a_stream_that_was_made_anew_acknowledges_nothing() {
    let jet = JetStream::start().await;
    let source = jet.consumer_with(Duration::from_secs(600));
    jet.send("old").await;
    let old = next(&source).await;
    jet.asking.delete_stream("ORDERS").await.unwrap();
    jet.make_stream().await;
    jet.send("new").await;
    // The first look finds that the durable is gone.
    let new = loop {
        match within(source.receive(1)).await {
            Ok(mut arrivals) => break arrivals.pop().unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        }
    };
    let Arrival::Delivered(new) = new else { panic!("{new:?}") };
    assert_eq!((&old.position, &new.message.body[..]), (&new.position, &b"new"[..]), "the same place");
    within(source.acknowledge(&[old.receipt])).await.unwrap();
    assert!(!jet.is_empty().await);
    within(source.acknowledge(&[new.receipt])).await.unwrap();
    assert!(jet.is_empty().await);
}

#[tokio::test]
async fn what_was_published_under_one_id_is_kept_once_and_what_is_sent_again_is_not_that() {
    let jet = JetStream::start().await;
    let source = Nats::new(NatsSettings { id_header: Some("event-id".into()), ..jet.settings() }).unwrap();
    let header = |name: &str, value: &'static str| (name.to_owned(), Bytes::from_static(value.as_bytes()));
    let mut message = Message {
        topic: "orders".into(),
        key: None,
        headers: vec![header("event-id", "e-1")],
        body: Bytes::new(),
    };
    for _ in 0..3 {
        within(source.publish(&message)).await.unwrap();
    }
    assert_eq!(jet.stream().await.cached_info().state.messages, 1);
    message.headers.push(header(onceward_queue::REDRIVEN, "letter"));
    within(source.publish(&message)).await.unwrap();
    assert_eq!(jet.stream().await.cached_info().state.messages, 2);
}

#[tokio::test]
async fn what_no_stream_takes_is_seen() {
    let jet = JetStream::start().await;
    let source = jet.consumer();
    for topic in ["nobody.listens", "orders.*", "", "or ders"] {
        let message = Message { topic: topic.into(), key: None, headers: Vec::new(), body: Bytes::new() };
        let error = within(source.publish(&message)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{topic}: {error:?}");
    }
}

#[tokio::test]
async fn what_will_not_go_by_waiting_is_refused_and_what_will_is_not() {
    let server = NatsServer::start_with("authorization { user: u, password: \"ge@heim\" }");
    let of = |url: String, stream: &str| Nats::new(NatsSettings::new(&url, stream, "billing")).unwrap();
    let refused = async |source: Nats| within(source.receive(1)).await.unwrap_err();
    let wrong = refused(of(format!("nats://u:wrong@127.0.0.1:{}", server.port()), "ORDERS")).await;
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
    let source = of(format!("nats://u:ge%40heim@127.0.0.1:{}", server.port()), "ORDERS");
    assert!(!format!("{source:?}").contains("geheim"));
    let missing = refused(source).await;
    assert_eq!(
        (missing.kind(), missing.to_string().contains("make it first")),
        (ErrorKind::Invalid, true),
        "{missing}"
    );
    let port = onceward_testkit::server::free_port();
    let away = refused(of(format!("nats://127.0.0.1:{port}"), "ORDERS")).await;
    assert_eq!(away.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_durable_that_breaks_what_is_promised_is_refused() {
    let jet = JetStream::start().await;
    let stream = jet.stream().await;
    let good =
        consumer::pull::Config { ack_wait: Duration::from_secs(1), max_deliver: -1, ..Default::default() };
    let bad = [
        ("limited", consumer::pull::Config { max_deliver: 3, ..good.clone() }),
        ("short", consumer::pull::Config { ack_wait: Duration::from_millis(800), ..good.clone() }),
        ("all", consumer::pull::Config { ack_policy: consumer::AckPolicy::All, ..good.clone() }),
        (
            "hasty",
            consumer::pull::Config {
                backoff: vec![Duration::from_millis(100)],
                max_deliver: -1,
                ..good.clone()
            },
        ),
        ("empty", consumer::pull::Config { headers_only: true, ..good.clone() }),
        ("other", consumer::pull::Config { filter_subject: "orders.x".into(), ..good.clone() }),
    ];
    let source = |durable: &str| {
        let settings =
            NatsSettings { durable: durable.into(), subject: Some("orders".into()), ..jet.settings() };
        Nats::new(settings).unwrap()
    };
    for (name, config) in bad {
        let config = consumer::pull::Config { durable_name: Some(name.into()), ..config };
        stream.create_consumer(config).await.unwrap();
        let error = within(source(name).receive(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
    }
    let config =
        consumer::pull::Config { durable_name: Some("good".into()), filter_subject: "orders".into(), ..good };
    stream.create_consumer(config).await.unwrap();
    jet.send("m-1").await;
    next(&source("good")).await;
}

#[tokio::test]
async fn a_server_that_answers_nobody_is_found_out_and_waited_for() {
    let jet = JetStream::start().await;
    let source = jet.consumer();
    jet.send("m-1").await;
    let first = next(&source).await;
    jet.server.lock().unwrap().pause();
    let error = within(source.acknowledge(&[first.receipt])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Uncertain);
    jet.server.lock().unwrap().resume();
    // It heard it all the same.
    eventually(async || jet.is_empty().await).await;
    within(source.close()).await;
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_asked_for_and_only_with_whom_is_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = NatsServer::start_with(&format!("tls {{ cert_file: {ca:?}, key_file: {key:?} }}"));
    let of = |host: &str, ca| {
        let settings = NatsSettings::new(&format!("nats://{host}:{}", server.port()), "ORDERS", "billing");
        Nats::new(NatsSettings { tls: true, ca, ..settings }).unwrap()
    };
    let said = async |source: Nats| within(source.receive(1)).await.unwrap_err();
    let through = said(of("localhost", Some(ca.clone()))).await;
    assert!(through.to_string().contains("make it first"), "{through}");
    for stranger in [of("127.0.0.1", Some(ca)), of("localhost", None)] {
        let refused = said(stranger).await;
        assert!(!refused.to_string().contains("make it first"), "{refused}");
    }
}

#[tokio::test]
async fn the_age_of_a_stream_is_its_window_and_what_waits_is_counted() {
    let server = JetStream::start().await;
    let source = server.consumer();
    assert_eq!(source.windows().await.unwrap().kept, Some(Kept::WithoutEnd));
    let day = Duration::from_secs(24 * 3600);
    let config = server.stream().await.cached_info().config.clone();
    server.asking.update_stream(stream::Config { max_age: day, ..config }).await.unwrap();
    assert_eq!(source.windows().await.unwrap().kept, Some(Kept::For(day)));
    for id in ["1", "2", "3"] {
        server.send(id).await;
    }
    let first = next(&source).await;
    assert_eq!(source.lag().await.unwrap(), Some(3));
    source.acknowledge(&[first.receipt]).await.unwrap();
    eventually(async || source.lag().await.unwrap() == Some(2)).await;
}
