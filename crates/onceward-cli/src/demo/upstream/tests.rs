//! The payment API as its callers see it: over real sockets, and in process where time matters.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use axum::body::to_bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::*;

const PAYMENT: &str = r#"{"account":"alice","amount":1200}"#;

/// A server of its own for each test.
struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinSet<io::Result<()>>,
}

/// What came back, or `None` when the connection ended without a byte.
type Reply = Option<Answer>;

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mut running = JoinSet::new();
        running.spawn(serve(listener, async move { drop(stopped.await) }));
        Self { address, stop, running }
    }

    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        read_reply(self.open(method, path, headers, body).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await.unwrap()
    }

    async fn pay(&self, headers: &[&str]) -> Reply {
        self.send("POST", "/payments", headers, PAYMENT).await
    }

    /// How many payments the books hold.
    async fn count(&self) -> u64 {
        self.get("/payments").await.json()["count"].as_u64().unwrap()
    }

    async fn until_count_is(&self, count: u64) {
        let seen = async {
            while self.count().await != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), seen).await.expect("the effect is seen in time");
    }

    /// Sends a request and leaves the connection open for the reply.
    async fn open(&self, method: &str, path: &str, headers: &[&str], body: &str) -> TcpStream {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bank\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

async fn read_reply(mut socket: TcpStream) -> Reply {
    let mut text = String::new();
    let read = timeout(Duration::from_secs(10), socket.read_to_string(&mut text)).await;
    read.expect("the connection ends in time").expect("a cut is an end of file, not an error");
    if text.is_empty() {
        return None;
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

// === calls ===

#[tokio::test]
async fn a_payment_answers_201_with_its_location() {
    let server = Server::start().await;
    let answer = server.pay(&[]).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (201, Some("/payments/pay_1")));
    let expected = json!({
        "id": "pay_1", "account": "alice", "amount": 1200, "currency": "EUR", "balance": 98_800, "number": 1
    });
    assert_eq!(answer.json(), expected);
    let shown = server.get("/payments/pay_1").await.json();
    assert_eq!((&shown["amount"], &shown["key"]), (&json!(1200), &Value::Null));
}

#[tokio::test]
async fn the_same_key_twice_charges_twice_and_is_shown_as_it_arrived() {
    let server = Server::start().await;
    for attempt in ["Onceward-Attempt: 1", "Onceward-Attempt: 2"] {
        let headers = ["Idempotency-Key: \"order-1\"", "Onceward-Fence: 77", attempt];
        assert_eq!(server.pay(&headers).await.unwrap().status, 201);
    }
    let list = server.get("/payments?account=alice").await.json();
    assert_eq!((&list["count"], &list["charged"]), (&json!(2), &json!(2400)));
    let second = &list["payments"][1];
    assert_eq!(second["key"], "\"order-1\"");
    assert_eq!((&second["fence"], &second["attempt"]), (&json!("77"), &json!("2")));
}

#[tokio::test]
async fn a_transfer_moves_money() {
    let server = Server::start().await;
    let body = r#"{"from":"alice","to":"carol","amount":500,"currency":"EUR"}"#;
    let answer = server.send("POST", "/transfers", &[], body).await.unwrap();
    assert_eq!((answer.status, answer.header("location")), (201, Some("/transfers/tr_1")));
    assert_eq!(server.get("/transfers/tr_1").await.json()["to_balance"], 500);
    assert_eq!(server.get("/transfers").await.json()["count"], 1);
    assert_eq!(server.get("/accounts/carol").await.json()["balance"], 500);
    let accounts = server.get("/accounts").await.json();
    let balances: Vec<_> =
        accounts["accounts"].as_array().unwrap().iter().map(|it| it["balance"].clone()).collect();
    assert_eq!(balances, [json!(99_500), json!(50_000), json!(500)]);
}

#[tokio::test]
async fn bad_input_names_its_field_and_changes_nothing() {
    let server = Server::start().await;
    let before = server.get("/accounts").await.body;
    for (path, body, status, field) in [
        ("/payments", "", 400, "body"),
        ("/payments", "[]", 400, "body"),
        ("/payments", r#"{"amount":1}"#, 400, "account"),
        ("/payments", r#"{"account":7,"amount":1}"#, 400, "account"),
        ("/payments", r#"{"account":"alice"}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":0}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":-5}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":1.5}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":"12"}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":99999999999999999999}"#, 400, "amount"),
        ("/payments", r#"{"account":"alice","amount":1,"currency":"USD"}"#, 400, "currency"),
        ("/payments", r#"{"account":"nobody","amount":1}"#, 404, "account"),
        ("/payments", r#"{"account":"alice","amount":100001}"#, 402, "amount"),
        ("/payments", r#"{"account":"alice","amount":18446744073709551615}"#, 402, "amount"),
        ("/transfers", r#"{"to":"bob","amount":1}"#, 400, "from"),
        ("/transfers", r#"{"from":"alice","to":"alice","amount":1}"#, 400, "to"),
        ("/transfers", r#"{"from":"alice","to":"nobody","amount":1}"#, 404, "to"),
        ("/transfers", r#"{"from":"nobody","to":"bob","amount":1}"#, 404, "from"),
        ("/transfers", r#"{"from":"carol","to":"bob","amount":1}"#, 402, "amount"),
    ] {
        let answer = server.send("POST", path, &[], body).await.unwrap();
        assert_eq!((answer.status, answer.json()["field"].as_str()), (status, Some(field)), "{body}");
    }
    let misspelt = r#"{"account":"alice","amount":1,"curency":"EUR"}"#;
    let answer = server.send("POST", "/payments", &[], misspelt).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("curency"), "{}", answer.body);
    assert_eq!(server.get("/accounts").await.body, before);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let server = Server::start().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/payments/pay_1", 404),
        ("GET", "/transfers/tr_1", 404),
        ("GET", "/accounts/nobody", 404),
        ("GET", "/payments?account=nobody", 404),
        ("DELETE", "/payments", 405),
    ] {
        let answer = server.send(method, path, &[], "").await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["message"].is_string(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = Server::start().await;
    // One byte too many, so that the server has read all of it and the answer cannot be lost in a reset.
    let answer = server.send("POST", "/payments", &[], &" ".repeat((1 << 20) + 1)).await.unwrap();
    assert_eq!(answer.status, 413);
}

// === switches ===

#[tokio::test]
async fn a_cut_ends_the_connection_without_a_byte_after_the_effect() {
    let server = Server::start().await;
    assert!(server.pay(&["Demo-Cut: yes"]).await.is_none(), "an answer came back");
    assert_eq!(server.count().await, 1);
    assert_eq!(server.pay(&["Demo-Cut: no"]).await.unwrap().status, 201);
}

#[tokio::test]
async fn a_failure_after_the_effect_keeps_the_effect() {
    let server = Server::start().await;
    for (nth, status) in [(1, 500), (2, 503)] {
        let answer = server.pay(&[&format!("Demo-Fail: {status}")]).await.unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (status, None));
        assert_eq!(server.count().await, nth);
    }
}

#[tokio::test]
async fn a_failure_before_the_effect_prevents_it() {
    let server = Server::start().await;
    for (status, retry_after) in [(503, Some("1")), (429, None)] {
        let answer = server.pay(&[&format!("Demo-Fail-Before: {status}")]).await.unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (status, retry_after));
    }
    assert_eq!(server.count().await, 0);
}

#[tokio::test]
async fn a_padded_answer_has_the_asked_size_and_the_same_json() {
    let server = Server::start().await;
    let answer = server.pay(&["Demo-Answer-Bytes: 300000"]).await.unwrap();
    assert_eq!((answer.body.len(), answer.header("content-length")), (300_000, Some("300000")));
    assert_eq!(answer.json()["id"], "pay_1");
    let answer = server.pay(&["Demo-Answer-Bytes: 3"]).await.unwrap();
    assert_eq!(answer.json()["id"], "pay_2", "an answer is never shortened");
}

#[tokio::test]
async fn a_switch_that_cannot_be_read_is_refused_before_the_effect() {
    let server = Server::start().await;
    for header in [
        "Demo-Delay: soon",
        "Demo-Delay: 11m",
        "Demo-Delay-After: 2",
        "Demo-Fail: 200",
        "Demo-Fail-Before: never",
        "Demo-Cut: maybe",
        "Demo-Answer-Bytes: 99999999999",
        "Demo-Cut: yes\r\nDemo-Cut: yes",
        "Demo-Dealy: 2s",
    ] {
        let answer = server.pay(&[header]).await.unwrap();
        assert_eq!(answer.status, 400, "{header}");
        assert!(answer.body.contains("Demo-"), "{}", answer.body);
    }
    assert_eq!(server.count().await, 0);
}

// === time, in process: the clock jumps whenever nothing else can run ===

/// One call without a socket. The answer is `None` when the connection would be cut.
async fn ask(router: &Router, method: &str, path: &str, header: (&str, &str), body: &str) -> Option<Value> {
    let request = Request::builder().method(method).uri(path).header(header.0, header.1);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let Ok(response) = router.clone().call(request).await;
    if response.extensions().get::<Cut>().is_some() {
        return None;
    }
    Some(serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap())
}

async fn count(router: &Router) -> u64 {
    let list = ask(router, "GET", "/payments", ("accept", "*/*"), "").await.unwrap();
    list["count"].as_u64().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_before_the_effect_and_a_delay_after_behind_it() {
    for (header, counts) in [("demo-delay", [0, 0, 1]), ("demo-delay-after", [1, 1, 1])] {
        let router = api::router(Work::default());
        let mut call = pin!(ask(&router, "POST", "/payments", (header, "2s"), PAYMENT));
        for (at, expected) in ["at once", "after 1.9 s"].iter().zip(counts) {
            let time = Duration::from_millis(if *at == "at once" { 1 } else { 1900 });
            assert!(timeout(time, &mut call).await.is_err(), "{header} answered {at}");
            assert_eq!(count(&router).await, expected, "{header} {at}");
        }
        let answer = timeout(Duration::from_millis(100), call).await.expect("the delay is over");
        assert_eq!(answer.unwrap()["id"], "pay_1");
        assert_eq!(count(&router).await, counts[2]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_when_its_caller_leaves() {
    let work = Work::default();
    let router = api::router(work.clone());
    {
        let mut call = pin!(ask(&router, "POST", "/payments", ("demo-delay", "5s"), PAYMENT));
        let waits = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await;
        assert!(waits, "the call is under way");
    }
    assert_eq!(count(&router).await, 0);
    work.tasks.close();
    work.tasks.wait().await;
    assert_eq!(count(&router).await, 1);
}

// === the end of the server ===

#[tokio::test]
async fn a_stop_lets_calls_that_are_under_way_end() {
    let mut server = Server::start().await;
    let socket = server.open("POST", "/payments", &["Demo-Delay-After: 300ms"], PAYMENT).await;
    server.until_count_is(1).await;
    server.stop.send(()).unwrap();
    assert_eq!(read_reply(socket).await.unwrap().status, 201);
    server.running.join_next().await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_stop_cuts_off_what_takes_too_long() {
    let mut server = Server::start().await;
    let socket = server.open("POST", "/payments", &["Demo-Delay-After: 10m"], PAYMENT).await;
    server.until_count_is(1).await;
    server.stop.send(()).unwrap();
    let ended = timeout(Duration::from_secs(10), server.running.join_next()).await;
    ended.expect("the server ends in time").unwrap().unwrap().unwrap();
    assert!(read_reply(socket).await.is_none());
}

#[test]
fn the_first_line_tells_the_address() {
    let mut out = Vec::new();
    greet(&mut out, ([127, 0, 0, 1], 9000).into()).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().next(), Some("payment API listens on http://127.0.0.1:9000"));
    assert!(
        text.contains(r#"curl -i http://127.0.0.1:9000/payments -d '{"account":"alice","amount":1200}'"#)
    );
}
