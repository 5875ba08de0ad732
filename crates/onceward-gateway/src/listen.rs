//! Accepts connections and serves each until it ends or the gateway stops.

mod linger;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use onceward_http::{Body, Exchange, Told};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::linger::{Lingering, Unread};
use crate::forward::ClientAddr;

/// How the listener treats connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How long a caller may take to send the head of a request.
    pub(crate) header_timeout: Duration,
    /// How long a connection may lie idle.
    pub(crate) idle_timeout: Duration,
}

/// The three ways in which connections are told to end, each stronger than the last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Accept no more.
    pub(crate) accepting: CancellationToken,
    /// Finish the request under way and close: `Connection: close`, GOAWAY.
    pub(crate) graceful: CancellationToken,
    /// Close now.
    pub(crate) now: CancellationToken,
}

/// Accepts until told to stop. Each connection is served on `connections`, by a clone of `service`.
pub(crate) async fn accept<S>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    stop: Stop,
    connections: TaskTracker,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let server = server(limits);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.accepting.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = serve(server.clone(), stream, peer, service.clone(), stop.clone());
                connections.spawn(serving);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: those who are connected go on, and the next try waits a little.
                tracing::error!(%error, "cannot accept connections for now");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn server(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    // The same timer runs while the next request is awaited, so it is the longer of the two.
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout.max(limits.idle_timeout))
        .half_close(false)
        .pipeline_flush(true);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(1000)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.header_timeout);
    server
}

async fn serve<S>(
    server: auto::Builder<TokioExecutor>,
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    stop: Stop,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let unread = Unread::default();
    let stream = Lingering::new(stream, unread.clone());
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ClientAddr(peer));
        // HTTP/2 can end one request and leave the connection as it is.
        let has_body = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
        unread.set(false);
        let (unread, answer) = (unread.clone(), service.clone().call(request));
        async move {
            let response = answer.await?;
            unread.set(has_body && is_refusal(&response));
            Ok::<_, Infallible>(response)
        }
    });
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.graceful.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                ended = &mut connection => ended,
                () = stop.now.cancelled() => Ok(()),
            }
        }
    };
    if let Err(error) = ended {
        // Callers leave, time out and send nonsense all day; that is theirs to see.
        tracing::debug!(error, "a connection ended with an error");
    }
}

/// Whether the answer was given without regard to the request's body.
fn is_refusal(response: &Response<Body>) -> bool {
    let told = response.extensions().get::<Exchange>().map(|it| it.told);
    matches!(told, Some(Told::Refused | Told::Unavailable))
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
