//! Several messages in one request.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Stream, stop};
use crate::upstream::Request;
use crate::wait::until_true;

/// What is done to a batch.
enum Says {
    Results(Vec<Value>),
    Status(u16),
    /// The connection ends.
    Cut,
    /// Never anything.
    Nothing,
}

type Script = dyn Fn(usize, &[Value]) -> Says + Send + Sync;

/// A handler of batches, which remembers them. Its threads end with the process of the test.
struct Handler {
    address: SocketAddr,
    batches: Arc<Mutex<Vec<Vec<Value>>>>,
}

impl Handler {
    /// One that says what `script` does of the n-th batch.
    fn start(script: impl Fn(usize, &[Value]) -> Says + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (batches, script): (Arc<Mutex<Vec<_>>>, Arc<Script>) = (Arc::default(), Arc::new(script));
        let book = Arc::clone(&batches);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (book, script) = (Arc::clone(&book), Arc::clone(&script));
                std::thread::spawn(move || serve(stream, &book, &*script));
            }
        });
        Self { address, batches }
    }

    fn url(&self) -> String {
        format!("http://{}/on-orders", self.address)
    }

    /// The keys of each batch.
    fn batches(&self) -> Vec<Vec<String>> {
        let batches = self.batches.lock().unwrap();
        batches.iter().map(|it| it.iter().map(|it| text(it, "key")).collect()).collect()
    }

    /// The attempts at a message, in the order in which they came.
    fn attempts(&self, key: &str) -> Vec<u64> {
        let batches = self.batches.lock().unwrap();
        let of_key = batches.iter().flatten().filter(|it| it["key"] == key);
        of_key.map(|it| it["attempt"].as_u64().unwrap()).collect()
    }
}

fn serve(mut stream: TcpStream, book: &Mutex<Vec<Vec<Value>>>, script: &Script) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = Request::read(&mut reader) {
        let batch: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(request.header("onceward-batch"), batch.len().to_string());
        let number = {
            let mut book = book.lock().unwrap();
            book.push(batch.clone());
            book.len() - 1
        };
        let (status, body) = match script(number, &batch) {
            Says::Results(results) => (200, Value::from(results).to_string()),
            Says::Status(status) => (status, String::new()),
            Says::Cut => return,
            Says::Nothing => loop {
                std::thread::park();
            },
        };
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.into_bytes(), body.into_bytes()].concat()).is_err() {
            return;
        }
    }
}

fn text(item: &Value, name: &str) -> String {
    item[name].as_str().unwrap().to_owned()
}

#[test]
fn each_message_of_a_batch_has_an_outcome_of_its_own() {
    let stream = Stream::new();
    let handler = Handler::start(|_, batch| {
        let say = |it: &Value| match (it["key"].as_str().unwrap(), it["attempt"].as_u64().unwrap()) {
            ("forgotten", _) => None,
            (key @ "refused", _) => Some(json!({ "key": key, "status": 422, "detail": "no such account" })),
            ("later", 1) => Some(json!({ "index": it["index"], "status": 503, "retry_after": 0 })),
            (key, _) => Some(json!({ "key": key, "status": 204 })),
        };
        Says::Results(batch.iter().rev().filter_map(say).collect())
    });
    for id in ["paid-1", "refused", "paid-2", "forgotten", "later", "paid-3", "paid-4"] {
        stream.publish(id, &[]);
    }
    let consumer = stream.consume_to(&handler.url(), &["--batch", "3", "--batch-wait", "200ms"]);
    stream.until_all_is_acknowledged();
    // A repeat of what was done reaches nobody.
    stream.publish("paid-1", &[]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    let batches = handler.batches();
    assert_eq!(batches[0].len(), 3, "{batches:?}");
    assert!(batches.iter().all(|it| it.len() <= 3), "{batches:?}");
    for id in ["paid-1", "paid-2", "paid-3", "paid-4", "refused", "forgotten"] {
        assert_eq!(handler.attempts(id), [1], "{id}");
    }
    assert_eq!(handler.attempts("later"), [1, 2]);
    let mut letters: Vec<_> =
        stream.letters().iter().map(|it| (text(it, "reason"), text(it, "detail"))).collect();
    letters.sort();
    let [(refused, said), (unresolved, missing)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((refused.as_str(), said.as_str()), ("handler", "the handler answered 422: no such account"));
    assert_eq!(unresolved, "unresolved");
    assert!(missing.contains("does not say what became of this message"), "{missing}");
}

#[test]
fn messages_of_one_order_key_come_in_their_order_and_never_together() {
    let stream = Stream::new();
    let handler = Handler::start(|_, _| Says::Status(200));
    for number in 1..=4 {
        for key in ["a", "b", "c"] {
            stream.publish(&format!("{key}-{number}"), &["key", key]);
        }
    }
    let consumer = stream.consume_to(&handler.url(), &["--batch", "12", "--batch-wait", "50ms"]);
    stream.until_all_is_acknowledged();
    stop(consumer);
    let batches = handler.batches();
    assert!(batches.iter().any(|it| it.len() > 1), "{batches:?}");
    for key in ["a-", "b-", "c-"] {
        let of_key = |it: &Vec<String>| it.iter().filter(|it| it.starts_with(key)).count();
        assert!(batches.iter().all(|it| of_key(it) <= 1), "{batches:?}");
        let came: Vec<_> = batches.iter().flatten().filter(|it| it.starts_with(key)).cloned().collect();
        assert_eq!(came, [1, 2, 3, 4].map(|it| format!("{key}{it}")));
    }
}

#[test]
fn a_batch_that_fails_or_is_not_answered_is_tried_again_message_by_message() {
    let stream = Stream::new();
    let handler = Handler::start(|number, _| match number {
        0 => Says::Status(500),
        1 => Says::Cut,
        _ => Says::Status(200),
    });
    let ids = ["paid-1", "paid-2", "paid-3"];
    for id in ids {
        stream.publish(id, &[]);
    }
    let words = ["--batch", "3", "--batch-wait", "200ms", "--unresolved", "rerun"];
    let consumer = stream.consume_to(&handler.url(), &words);
    stream.until_all_is_acknowledged();
    stop(consumer);
    assert_eq!(handler.batches()[0].len(), 3);
    let attempts: Vec<_> = ids.iter().map(|it| handler.attempts(it)).collect();
    assert!(attempts.iter().all(|it| it[..] == [1, 2] || it[..] == [1, 2, 3]), "{attempts:?}");
    assert!(attempts.iter().any(|it| it.len() == 3), "{attempts:?}");
    assert!(stream.letters().is_empty());
}

#[test]
fn what_a_killed_consumer_had_in_a_batch_is_held_message_by_message() {
    let stream = Stream::new();
    let handler = Handler::start(|number, _| if number == 0 { Says::Nothing } else { Says::Status(200) });
    stream.publish("paid-1", &[]);
    stream.publish("paid-2", &[]);
    let words = ["--batch", "2", "--batch-wait", "10s"];
    let mut consumer = stream.consume_to(&handler.url(), &words);
    until_true("the batch is at the handler", || !handler.batches().is_empty());
    consumer.kill();
    let consumer = stream.consume_to(&handler.url(), &words);
    until_true("it is found out", || stream.redis(&["XPENDING", "orders", "shipping"]).starts_with('0'));
    stop(consumer);
    assert_eq!(handler.batches().len(), 1, "not run again by itself");
    let letters = stream.letters();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().all(|it| it["reason"] == "unresolved"), "{letters:?}");
}
