//! A raw TCP upstream: a test reads requests from it and writes, closes or resets as it likes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

/// No test waits longer than this for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for what must happen.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("it must happen before the deadline")
}

/// Waits until `claim` holds.
pub(crate) async fn until(claim: impl Fn() -> bool) {
    within(async {
        while !claim() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// A request as it came in over the wire.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Request line and header lines.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// The values of a header, line by line.
    pub(crate) fn get(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|it| it.split_once(": "));
        lines.filter(|(it, _)| it.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// An upstream that runs one script for each connection.
pub(crate) struct Scripted {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    pub(crate) async fn start<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", script).await
    }

    /// As [`Scripted::start`], at this address.
    pub(crate) async fn at<F>(addr: &str, script: impl Fn(Peer) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let (log, count) = (Arc::clone(&seen), Arc::clone(&connections));
        let tasks = TaskTracker::new();
        let peers = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                peers.spawn(script(Peer { stream, number, buffer: Vec::new(), log: Arc::clone(&log) }));
            }
        });
        Self { addr, seen, connections }
    }

    /// Answers the first request of each connection once it is let, and then waits for the end.
    pub(crate) async fn held(answer: &'static str) -> (Self, tokio::sync::watch::Sender<bool>) {
        let (finish, finished) = tokio::sync::watch::channel(false);
        let scripted = Self::start(move |mut peer| {
            let mut finished = finished.clone();
            async move {
                peer.request().await;
                finished.wait_for(|it| *it).await.unwrap();
                peer.send(answer).await;
                peer.closed().await;
            }
        })
        .await;
        (scripted, finish)
    }

    /// Answers every request with the same bytes and keeps its connections open.
    pub(crate) async fn answering(response: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while peer.request().await.is_some() {
                peer.send(response).await;
            }
        })
        .await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// One connection, seen from the upstream.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// From zero, in the order of their coming.
    pub(crate) number: usize,
    buffer: Vec<u8>,
    log: Arc<Mutex<Vec<Seen>>>,
}

impl Peer {
    /// The next request, whole; None when the gateway closed the connection.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let mut seen = self.head().await?;
        if let Some(length) = seen.get("content-length").first() {
            let length = length.parse().unwrap();
            self.fill(|it| it.len() >= length).await?;
            seen.body = self.buffer.drain(..length).collect();
        } else if !seen.get("transfer-encoding").is_empty() {
            seen.body = self.chunks().await?;
        }
        self.log.lock().unwrap().push(seen.clone());
        Some(seen)
    }

    /// The next request without its body.
    pub(crate) async fn head(&mut self) -> Option<Seen> {
        let end = |it: &[u8]| it.windows(4).position(|it| it == b"\r\n\r\n");
        self.fill(|it| end(it).is_some()).await?;
        let length = end(&self.buffer).unwrap() + 4;
        let head = self.buffer.drain(..length).collect();
        Some(Seen { head: String::from_utf8(head).unwrap(), body: Vec::new() })
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            self.fill(|it| it.contains(&b'\n')).await?;
            let line = self.buffer.iter().position(|it| *it == b'\n').unwrap() + 1;
            let line = String::from_utf8(self.buffer.drain(..line).collect()).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            self.fill(|it| it.len() >= length + 2).await?;
            body.extend(self.buffer.drain(..length));
            self.buffer.drain(..2);
            if length == 0 {
                return Some(body);
            }
        }
    }

    async fn fill(&mut self, enough: impl Fn(&[u8]) -> bool) -> Option<()> {
        while !enough(&self.buffer) {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
        Some(())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The gateway may have given up; what it made of that is what the test looks at.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Closes with a reset instead of a clean end.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Waits until the gateway closes the connection.
    pub(crate) async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|it| it > 0) {}
    }
}
