//! One connection to what is measured, over HTTP/1.1 or HTTP/2 without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Result, Trouble};

/// How long an ordinary answer may take before it counts as none.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A request body of any kind.
pub type Body = UnsyncBoxBody<Bytes, Trouble>;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Its trailers, if it had any.
    pub trailers: Option<HeaderMap>,
}

/// One connection. Its task ends with it.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    _task: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Connects and speaks HTTP/1.1.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn http1(to: SocketAddr) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(connect(to).await?)).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // What goes wrong shows in the answer that does not come.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender: Sender::Http1(sender), _task: task })
    }

    /// Connects and speaks HTTP/2 with prior knowledge.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn http2(to: SocketAddr) -> Result<Self> {
        let io = TokioIo::new(connect(to).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender: Sender::Http2(sender), _task: task })
    }

    /// Whether the other side has closed it, as far as is known.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and gives the answer once its head is there.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The connection broke, or the answer did not come whole within 20 s.
    pub async fn ask(&mut self, request: Request<Body>) -> Result<Answer> {
        let whole = async { read(self.send(request).await?).await };
        timeout(PATIENCE, whole).await.map_err(|_| "no whole answer within 20 s")?
    }
}

/// Reads the rest of an answer.
///
/// # Errors
/// The connection broke.
pub async fn read(response: Response<Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Answer { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers })
}

/// Asks once on a connection of its own.
///
/// # Errors
/// No connection, or no whole answer within 20 s.
pub async fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    let request = Request::get(path).header("host", to.to_string()).body(empty())?;
    timeout(PATIENCE, Connection::http1(to)).await??.ask(request).await
}

async fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|it| match it {}).boxed_unsync()
}

/// A body that is there at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|it| match it {}).boxed_unsync()
}

/// A body of unknown length, made while it is sent.
pub fn streamed(blocks: impl futures_util::Stream<Item = Bytes> + Send + 'static) -> Body {
    BodyExt::boxed_unsync(StreamBody::new(blocks.map(|it| Ok(Frame::data(it)))))
}

/// `count` blocks of 64 KiB, each with its number in front, and the hash of them all.
///
/// With a pace, a block is sent only every so often.
pub fn blocks(
    count: u64,
    pace: Option<Duration>,
) -> impl futures_util::Stream<Item = Bytes> + Send + 'static {
    let ticks = pace.map(tokio::time::interval);
    stream::unfold((0, ticks), move |(number, mut ticks)| async move {
        if number == count {
            return None;
        }
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        Some((block(number), (number + 1, ticks)))
    })
}

/// How long one block is.
pub const BLOCK: u64 = 64 * 1024;

/// One block of 64 KiB with its number in front.
pub fn block(number: u64) -> Bytes {
    let mut block = vec![b'.'; 64 * 1024];
    block[..8].copy_from_slice(&number.to_be_bytes());
    block.into()
}

/// The hash of `count` blocks, as the sink of the upstream writes it.
pub fn hash_of_blocks(count: u64) -> String {
    let mut hash = blake3::Hasher::new();
    (0..count).for_each(|it| {
        hash.update(&block(it));
    });
    hash.finalize().to_hex().to_string()
}
