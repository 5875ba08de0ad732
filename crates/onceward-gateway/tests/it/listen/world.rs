//! A listener in front of a service that a test makes up.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
pub(super) use http::{Request, Response, StatusCode};
pub(super) use http_body_util::BodyExt as _;
pub(super) use onceward_gateway::listen::{Count, Counters, Limits, Violation};
use onceward_gateway::listen::{Listening, Received, Stop, accept};
pub(super) use onceward_http::Body;
pub(super) use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

pub(super) use crate::raw::Raw;
pub(super) use crate::scripted::{until, within};

/// Short enough to be waited for.
pub(super) const SOON: Duration = Duration::from_millis(150);
/// No test comes near it.
pub(super) const LATE: Duration = Duration::from_secs(60);

/// Limits that no test runs into unless it says so.
pub(super) fn patient() -> Limits {
    Limits {
        header_timeout: LATE,
        idle_timeout: LATE,
        body_timeout: LATE,
        write_timeout: LATE,
        ..Limits::default()
    }
}

pub(super) type Asked = Request<Received>;

/// A listener. Dropping it stops it.
pub(super) struct World {
    pub(super) addr: SocketAddr,
    pub(super) counters: Counters,
    pub(super) stop: Stop,
    seen: Arc<AtomicUsize>,
}

impl World {
    /// A listener whose service says hello.
    pub(super) async fn hello(limits: Limits) -> Self {
        Self::plain(limits, |asked: Asked| async move {
            match asked.into_body().collect().await {
                Ok(whole) => Response::new(Body::from(format!("hello {}", whole.to_bytes().len()))),
                Err(_) => answer(502, "cut"),
            }
        })
        .await
    }

    pub(super) async fn plain<F>(limits: Limits, handler: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::start(Listening { limits, ..Listening::default() }, handler).await
    }

    pub(super) async fn start<F>(
        listening: Listening,
        handler: impl Fn(Asked) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, tasks, counters) = (Stop::default(), TaskTracker::new(), listening.counters.clone());
        let seen = Arc::new(AtomicUsize::new(0));
        let (handler, counted) = (Arc::new(handler), Arc::clone(&seen));
        let service = tower::service_fn(move |asked: Asked| {
            counted.fetch_add(1, Ordering::SeqCst);
            let answer = handler(asked);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tasks.spawn(accept(listener, service, listening, stop.clone(), tasks.clone()));
        Self { addr, counters, stop, seen }
    }

    /// How many requests the service got.
    pub(super) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    pub(super) async fn connect(&self) -> Raw {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw(stream)
    }

    /// A caller whose system keeps little that it did not read.
    pub(super) async fn connect_narrow(&self) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        Raw(socket.connect(self.addr).await.unwrap())
    }

    /// Sends `bytes` on a connection of its own and gives all that comes back until it is closed.
    pub(super) async fn tell(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut raw = self.connect().await;
        raw.offer(bytes).await;
        raw.read_to_end().await
    }

    pub(super) async fn assert_serves(&self) {
        let answer = self.tell("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.accepting.cancel();
        self.stop.graceful.cancel();
        self.stop.now.cancel();
    }
}

pub(super) fn answer(status: u16, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A body of `bytes` zeros, one piece after the other.
pub(super) fn zeros(bytes: usize) -> Body {
    Body::from(Bytes::from(vec![0; bytes]))
}
