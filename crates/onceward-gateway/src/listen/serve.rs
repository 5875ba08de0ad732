//! One connection, from its first byte to its end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{Request, Response};
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use onceward_http::Body;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use super::counters::Count;
use super::line::{Line, Speaks};
use super::linger::Lingering;
use super::places::Place;
use super::received::Received;
use super::refusal::PLAIN_ON_TLS;
use super::requests::Requests;
use super::socket::Socket;
use super::streams::Streams;
use super::strict::Strict;
use super::{Listening, Stop};
use crate::network::CallerSocket;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of a handshake of TLS.
const TLS_HANDSHAKE: u8 = 0x16;
/// What a caller may send of one body before the service has taken it.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// What a caller may send of all bodies before the services have taken it.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// What a stream may have in the buffers of the connection.
const SEND_BUFFER_BYTES: usize = 64 << 10;
/// Streams that a caller opened and reset before they were served, or that broke a rule: more end the
/// connection (CVE-2023-44487).
const RESETS_MAX: usize = 20;
const BROKEN_STREAMS_MAX: usize = 100;

/// A connection that is about to be served.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    pub(super) line: Arc<Line>,
    pub(super) listening: Arc<Listening>,
    pub(super) stop: Stop,
    pub(super) tasks: TaskTracker,
}

impl Connection {
    /// Serves until the connection ends.
    pub(super) async fn serve<S, C>(self, service: S, stream: C, place: Place)
    where
        C: CallerSocket,
        S: Service<Request<Received>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let stream = if self.listening.workers.count() > 0 { stream.move_here() } else { Ok(stream) };
        let stream = match stream.and_then(|it| it.set_nodelay(true).map(|()| it)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it was served");
                return;
            }
        };
        let (line, stop) = (Arc::clone(&self.line), self.stop.clone());
        let mut told = seldom([cut(&line, &stop).boxed(), stop.now.cancelled().boxed()]);
        let ended = tokio::select! {
            biased;
            ended = self.begin(service, stream, place) => ended,
            Some(()) = told.next() => Ok(()),
        };
        if let Err(error) = ended {
            // Callers leave, time out and send nonsense all day; that is theirs to see.
            tracing::debug!(error, "a connection ended with an error");
        }
    }

    async fn begin<S, C>(&self, service: S, mut stream: C, place: Place) -> Result<(), BoxError>
    where
        C: CallerSocket,
        S: Service<Request<Received>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let Listening { limits, tls, counters, .. } = &*self.listening;
        let deadline = Instant::now() + limits.header_timeout;
        let Some(tls) = tls else {
            return self.sniff(service, self.socket(stream, place), deadline, false).await;
        };
        let mut first = [0];
        if timeout_at(deadline, stream.peek(&mut first)).await?? == 0 {
            return Ok(());
        }
        let mut socket = self.socket(stream, place);
        if first[0] != TLS_HANDSHAKE {
            counters.note(Count::PlainOnTls);
            self.line.unread.store(true, Ordering::Relaxed);
            let answer = async {
                socket.write_all(PLAIN_ON_TLS).await?;
                socket.shutdown().await
            };
            return Ok(timeout_at(deadline, answer).await??);
        }
        let handshake = tokio_rustls::TlsAcceptor::from(tls.config()).accept(socket);
        match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => {
                let deadline = Instant::now() + limits.header_timeout;
                self.sniff(service, stream, deadline, true).await
            }
            Ok(Err(error)) => {
                counters.note(Count::HandshakeFailed);
                Err(error.into())
            }
            Err(late) => {
                counters.note(Count::HandshakeFailed);
                Err(late.into())
            }
        }
    }

    fn socket<C: CallerSocket>(&self, stream: C, place: Place) -> Socket<C> {
        let stream = Lingering::new(stream, Arc::clone(&self.line));
        let listening = &self.listening;
        Socket::new(stream, listening.limits.write_timeout, listening.counters.clone(), place)
    }

    /// Finds out what the caller speaks, and speaks it.
    async fn sniff<S, IO>(&self, service: S, mut io: IO, deadline: Instant, tls: bool) -> Result<(), BoxError>
    where
        S: Service<Request<Received>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Listening { limits, counters, .. } = &*self.listening;
        let mut first = BytesMut::with_capacity(4 << 10);
        while first.is_empty() || (first.len() < HTTP2_PREFACE.len() && HTTP2_PREFACE.starts_with(&first)) {
            match timeout_at(deadline, io.read_buf(&mut first)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(late) => {
                    counters.note(Count::HeaderTimeout);
                    return Err(late.into());
                }
            }
        }
        let requests = Requests {
            inner: service,
            line: Arc::clone(&self.line),
            limits: *limits,
            counters: counters.clone(),
            peer: self.peer,
            tls,
        };
        let line = Arc::clone(&self.line);
        if first.starts_with(HTTP2_PREFACE) {
            line.set_speaks(Speaks::Http2);
            let io = TokioIo::new(Strict::open(io, first, limits, line, counters.clone()));
            let gone = CancellationToken::new();
            let _gone = gone.clone().drop_guard();
            return self.drive(self.http2(gone).serve_connection(io, requests)).await;
        }
        line.set_speaks(Speaks::Http1);
        let io = TokioIo::new(Strict::new(io, first, deadline, limits, line, counters.clone()));
        self.drive(self.http1().serve_connection(io, requests).with_upgrades()).await
    }

    fn http1(&self) -> http1::Builder {
        let limits = &self.listening.limits;
        let mut server = http1::Builder::new();
        // Times and sizes are looked after by the reader in front; it holds a head until it is whole.
        server
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(limits.headers_max)
            .max_buf_size(limits.head_bytes_max.saturating_add(400 << 10))
            // Not `pipeline_flush`: where bytes of a refused body are unread, it takes them for a request to come
            // and closes without having sent the answer.
            .half_close(false);
        server
    }

    fn http2(&self, gone: CancellationToken) -> http2::Builder<Streams> {
        let Listening { limits, counters, .. } = &*self.listening;
        let streams = Streams {
            tasks: self.tasks.clone(),
            gone,
            patience: limits.write_timeout,
            counters: counters.clone(),
        };
        let mut server = http2::Builder::new(streams);
        server
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams_max)
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(BROKEN_STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(limits.write_timeout)
            .keep_alive_timeout(limits.header_timeout);
        server
    }

    /// Runs a connection until it ends, is told to, or has nothing to do for too long.
    async fn drive(&self, connection: impl Leave) -> Result<(), BoxError> {
        let Listening { limits, counters, .. } = &*self.listening;
        let mut connection = std::pin::pin!(connection);
        let idle = quiet_for(&self.line, limits.idle_timeout).map(|()| counters.note(Count::IdleTimeout));
        let mut told = seldom([
            self.stop.graceful.cancelled().boxed(),
            self.line.leave.cancelled().boxed(),
            idle.boxed(),
        ]);
        tokio::select! {
            biased;
            ended = &mut connection => return Ok(ended?),
            Some(()) = told.next() => {}
        }
        self.line.leaving.store(true, Ordering::Relaxed);
        // The server knows nothing of a head that is not whole, and would close on it.
        let head_is_whole = std::future::poll_fn(|cx| {
            let ended = if self.line.is_head_begun() { connection.as_mut().poll(cx) } else { Poll::Pending };
            match ended {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if self.line.is_head_begun() => Poll::Pending,
                Poll::Pending => Poll::Ready(None),
            }
        });
        if let Some(ended) = head_is_whole.await {
            return Ok(ended?);
        }
        connection.as_mut().leave();
        tokio::select! {
            biased;
            ended = &mut connection => Ok(ended?),
            // It was told to end and does not, though nothing is under way.
            () = quiet_for(&self.line, limits.write_timeout) => Ok(()),
        }
    }
}

/// A connection that can be told to end after what is under way.
trait Leave: Future<Output = hyper::Result<()>> {
    fn leave(self: Pin<&mut Self>);
}

impl<IO, S> Leave for http1::UpgradeableConnection<IO, S>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    Self: Future<Output = hyper::Result<()>>,
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::Error: Into<BoxError>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<IO, S> Leave for http2::Connection<IO, S, Streams>
where
    S: hyper::service::HttpService<hyper::body::Incoming>,
    Self: Future<Output = hyper::Result<()>>,
    IO: hyper::rt::Read + hyper::rt::Write + Unpin,
    S::Error: Into<BoxError>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<BoxError>,
    Streams: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The first of what happens seldom. Each is looked at when it wakes the task and not whenever the task is polled:
/// a connection is polled several times for each request, and these ended in six locks each time.
fn seldom<'a>(events: impl IntoIterator<Item = BoxFuture<'a, ()>>) -> FuturesUnordered<BoxFuture<'a, ()>> {
    events.into_iter().collect()
}

/// Waits until the connection is told to end while nothing is owed to the caller; for ever if something is.
async fn cut(line: &Line, stop: &Stop) {
    tokio::select! {
        biased;
        () = stop.graceful.cancelled() => match line.speaks() {
            // It has said nothing yet.
            None => return,
            Some(Speaks::Http1 | Speaks::Http2) => {}
        },
        () = line.leave.cancelled() => match line.speaks() {
            // Whoever never asked is the first to make room.
            None | Some(Speaks::Http1) if !line.was_asked() => return,
            // HTTP/2 says goodbye, so that a request on its way is known not to be served.
            None | Some(Speaks::Http1 | Speaks::Http2) => {}
        },
    }
    std::future::pending().await
}

/// Waits until no request has been under way for `patience`, counted from now on or from the last answer.
async fn quiet_for(line: &Line, patience: Duration) {
    let from = Instant::now();
    loop {
        let now = Instant::now();
        let due = line.quiet_since().map_or(now, |it| it.max(from)) + patience;
        if due <= now {
            return;
        }
        tokio::time::sleep_until(due).await;
    }
}

/// Whether an error of `accept` is about the connection that was to be accepted, and about no other.
pub(super) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
