use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use onceward_admin::serve;
use onceward_testkit::{Op, eventually, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::bench::{Bench, TOKEN};

/// The most connections that the listener holds open.
const CONNECTIONS_MAX: usize = 256;

struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinSet<io::Result<()>>,
}

async fn served(bench: &Bench) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, bench.router.clone(), async {
        let _ = stopped.await;
    }));
    Served { address, stop, serving }
}

impl Served {
    /// A connection that has sent this and waits.
    async fn sent(&self, text: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(text.as_bytes()).await.unwrap();
        connection
    }
}

/// The status line of the next answer; empty when the connection was closed instead.
async fn status(connection: &mut TcpStream) -> String {
    let mut bytes = [0; 12];
    match within(connection.read_exact(&mut bytes)).await {
        Ok(_) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(_) => String::new(),
    }
}

/// Whether the other side has closed this one.
fn is_closed(connection: &TcpStream) -> bool {
    !matches!(connection.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn the_pages_are_served_until_told_to_stop() {
    let mut served = served(&Bench::new()).await;
    // Kept alive and idle: it must not hold up the end.
    let mut connection = served.sent("GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&mut connection).await, "HTTP/1.1 200");
    served.stop.send(()).unwrap();
    within(served.serving.join_next()).await.unwrap().unwrap().unwrap();
    TcpStream::connect(served.address).await.unwrap_err();
}

#[tokio::test]
async fn whoever_holds_every_connection_locks_nobody_out() {
    let served = served(&Bench::new()).await;
    let (mut held, mut operators) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS_MAX {
        held.push(served.sent("GET /healthz HTTP/1.1\r\nx-slow: ").await);
    }
    for closed in 1..=3 {
        let mut operator = served.sent("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(status(&mut operator).await, "HTTP/1.1 200");
        // The oldest gave way, one for one.
        within(held[closed - 1].readable()).await.unwrap();
        assert_eq!(held.iter().filter(|it| is_closed(it)).count(), closed);
        operators.push(operator);
    }
}

#[tokio::test]
async fn a_request_that_is_being_answered_gives_way_to_nobody() {
    let bench = Bench::new();
    let served = served(&bench).await;
    let gate = bench.store.gate_before(Op::List, 1);
    let list =
        format!("GET /api/v1/records HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    let mut oldest = served.sent(&list).await;
    within(gate.reached()).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX + 10 {
        held.push(served.sent("GET /healthz HTTP/1.1\r\nx-slow: ").await);
    }
    eventually(async || held.iter().filter(|it| is_closed(it)).count() == 11).await;
    assert!(!is_closed(&oldest));
    gate.open();
    assert_eq!(status(&mut oldest).await, "HTTP/1.1 200");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_to_an_end_in_30_s_ends_its_connection() {
    for begun in ["", "GET /healthz HTTP/1.1\r\nx-slow: ", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let served = served(&Bench::new()).await;
        let mut connection = served.sent(begun).await;
        if begun.ends_with("\r\n\r\n") {
            assert_eq!(status(&mut connection).await, "HTTP/1.1 200");
        }
        let begin = tokio::time::Instant::now();
        let mut rest = Vec::new();
        // Time passes by itself where everybody waits.
        let read = tokio::time::timeout(Duration::from_secs(300), connection.read_to_end(&mut rest)).await;
        read.expect("the connection is closed").unwrap();
        let waited = begin.elapsed();
        assert!((29..=31).contains(&waited.as_secs()), "{begun:?}: {waited:?}");
    }
}

#[tokio::test]
async fn a_head_of_more_than_64_kib_is_refused() {
    let served = served(&Bench::new()).await;
    let mut connection = served.sent("GET /healthz HTTP/1.1\r\nhost: a\r\n").await;
    let line = format!("x-long: {}\r\n", "a".repeat(1000));
    for _ in 0..200 {
        if connection.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(["HTTP/1.1 431", ""].contains(&status(&mut connection).await.as_str()));
}
