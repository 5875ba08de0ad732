//! The listener that serves the pages, to slow and to hostile clients, too.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tower_service::Service as _;

/// Connections at once. Health probes, a scraper and a few operators need ten.
const CONNECTIONS_MAX: usize = 256;
/// How long the head of a request may take, also the next one on a connection that is kept open.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// What a connection buffers at most; so much may the head of a request have.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// The pause after the system refused to accept: out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` on `listener` until `stop` completes and the requests under way are answered.
///
/// At most 256 connections are open. One more, and the oldest that is not being answered is closed for it, so
/// that nobody can lock operators out by holding connections. A head that takes longer than 30 s ends its
/// connection. HTTP/1.1 only.
///
/// # Errors
/// The listener failed for good.
///
/// # Cancel safety
/// Dropping the future closes everything; a change under way may have been made or not.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut stop = pin!(stop);
    let graceful = GracefulShutdown::new();
    let mut connections = Connections::default();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(BUFFER_BYTES_MAX);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = connections.ended(), if !connections.open.is_empty() => {}
            accepted = listener.accept(), if connections.has_room() => match accepted {
                Ok((stream, peer)) => {
                    let answering = Answering::default();
                    let connection = server.serve_connection(
                        TokioIo::new(stream),
                        service_fn(answerer(router.clone(), peer, answering.clone())),
                    );
                    connections.add(graceful.watch(connection), answering);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "the admin listener cannot accept connections for now");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // Idle connections close now, the others after their request.
    graceful.shutdown().await;
    Ok(())
}

/// Whether a connection waits for an answer of ours; else it waits for its client.
#[derive(Debug, Clone, Default)]
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn now(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// True until the guard is dropped.
    fn start(&self) -> impl Drop + Send + use<> {
        struct Guard(Arc<AtomicBool>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Relaxed);
            }
        }
        self.0.store(true, Ordering::Relaxed);
        Guard(Arc::clone(&self.0))
    }
}

/// The open connections, oldest first.
#[derive(Debug, Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: Vec<(AbortHandle, Answering)>,
}

impl Connections {
    /// Whether one more may come: there is room, or one that can be closed for it.
    fn has_room(&self) -> bool {
        self.open.len() < CONNECTIONS_MAX || self.oldest_waiting().is_some()
    }

    fn oldest_waiting(&self) -> Option<usize> {
        self.open.iter().position(|(_, answering)| !answering.now())
    }

    fn add(
        &mut self,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
        answering: Answering,
    ) {
        if self.open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = self.oldest_waiting()
        {
            self.open.remove(oldest).0.abort();
        }
        let task = self.tasks.spawn(async move {
            if let Err(error) = connection.await {
                // Clients leave, time out and send nonsense; that is theirs to see.
                tracing::debug!(error = &error as &dyn std::error::Error, "an admin connection ended");
            }
        });
        self.open.push((task, answering));
    }

    /// Waits until one has ended, and forgets it.
    async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return };
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        if ended.is_err_and(|it| it.is_panic()) {
            tracing::error!("an admin page panicked: its connection is closed, the others go on");
        }
        self.open.retain(|(task, _)| task.id() != id);
    }
}

/// Answers the requests of one connection.
fn answerer(
    router: Router,
    peer: SocketAddr,
    answering: Answering,
) -> impl Fn(Request<Incoming>) -> Answer + Send + 'static {
    move |request| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let (mut router, guard) = (router.clone(), answering.start());
        Box::pin(async move {
            let _guard = guard;
            router.call(request).await
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
