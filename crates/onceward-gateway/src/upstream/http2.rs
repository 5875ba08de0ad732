//! One request over HTTP/2 with prior knowledge: all of them share one connection, remade when it is gone.

use std::fmt;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Exchange;
use super::body::RequestBody;
use super::connect::connect;
use super::fault::{Failed, Fault};

/// An HTTP/2 upstream.
#[derive(Debug, Clone)]
pub(super) struct Http2 {
    shared: Arc<Mutex<Option<Shared>>>,
    tracker: TaskTracker,
    /// From then on no connection is kept.
    closed: CancellationToken,
}

struct Shared {
    sender: SendRequest<RequestBody>,
    used: Instant,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("used", &self.used).finish_non_exhaustive()
    }
}

impl Http2 {
    pub(super) fn new(tracker: TaskTracker, closed: CancellationToken) -> Self {
        Self { shared: Arc::default(), tracker, closed }
    }

    /// Sends `request` once and waits for the head of its response.
    ///
    /// # Errors
    /// `Unreachable`: provably nothing was processed. Otherwise it may have been.
    /// # Cancel safety
    /// Dropping this future resets the stream; the request may have been processed.
    pub(super) async fn send(
        &self,
        exchange: Exchange<'_>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Fault> {
        match self.send_on(exchange, request).await {
            // The shared connection turned out to be closed; a new one gets the request that never left.
            Err(Failed::Unsent(request)) if !exchange.fresh => {
                self.shared.lock().await.take();
                Ok(self.send_on(exchange, *request).await?)
            }
            done => Ok(done?),
        }
    }

    async fn send_on(
        &self,
        exchange: Exchange<'_>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failed> {
        let Exchange { settings, progress, .. } = exchange;
        // Waiting for somebody else's connect counts as connecting.
        let mut sender = tokio::time::timeout(settings.connect_timeout, self.sender(exchange))
            .await
            .unwrap_or(Err(Fault::Unreachable))
            .map_err(Failed::Ended)?;
        progress.mark();
        let response = sender.try_send_request(request);
        // A request that enters the queue in the very moment when the connection ends lies there unsent for as
        // long as somebody could still put another one beside it.
        drop(sender);
        let response = tokio::select! {
            biased;
            response = response => response,
            () = progress.stalled(settings.response_timeout) => {
                // Perhaps only this stream hangs, perhaps the peer is gone: the next request takes no chance.
                self.shared.lock().await.take();
                return Err(Failed::Ended(Fault::TimedOut));
            }
        };
        response.map_err(|mut error| match error.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => {
                debug!(error = %error.error(), "the upstream gave no response");
                let unprocessed = never_processed(error.error());
                Failed::Ended(if unprocessed { Fault::Unreachable } else { Fault::Broken })
            }
        })
    }

    async fn sender(&self, exchange: Exchange<'_>) -> Result<SendRequest<RequestBody>, Fault> {
        if exchange.fresh {
            return self.connect(exchange).await;
        }
        let mut shared = self.shared.lock().await;
        let idle_max = exchange.settings.idle_max;
        let usable = |it: &&mut Shared| !it.sender.is_closed() && it.used.elapsed() < idle_max;
        if let Some(it) = shared.as_mut().filter(usable) {
            it.used = Instant::now();
            return Ok(it.sender.clone());
        }
        // The old one, if any, goes on until its last stream ends.
        *shared = None;
        let sender = self.connect(exchange).await?;
        if !self.closed.is_cancelled() {
            *shared = Some(Shared { sender: sender.clone(), used: Instant::now() });
        }
        Ok(sender)
    }

    async fn connect(&self, exchange: Exchange<'_>) -> Result<SendRequest<RequestBody>, Fault> {
        let io = connect(exchange.target, exchange.settings.connect_timeout).await?;
        let tasks = OnTracker(self.tracker.clone());
        let (sender, connection) = http2::handshake(tasks, io).await.map_err(|_| Fault::Unreachable)?;
        let (shared, closed) = (Arc::clone(&self.shared), self.closed.clone());
        self.tracker.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = closed.cancelled() => {
                    // Without a sender the connection ends after its last stream.
                    shared.lock().await.take();
                    connection.await
                }
            };
            shared.lock().await.take_if(|it| it.sender.is_closed());
            if let Err(error) = ended {
                debug!(%error, "a connection to the upstream ended");
            }
        });
        Ok(sender)
    }
}

/// Runs the tasks of a connection where shutdown waits for them.
#[derive(Clone)]
struct OnTracker(TaskTracker);

impl<F> hyper::rt::Executor<F> for OnTracker
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Whether the upstream itself vouches that it did not process the request: it refused the stream, or it went
/// away naming a last stream below ours (`h2` gives the error of a received GOAWAY to no other stream).
/// A GOAWAY that complains of an error vouches for nothing: its sender was confused.
fn never_processed(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            let refused = h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            let went_away = h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR);
            return h2.is_remote() && (refused || went_away);
        }
        cause = error.source();
    }
    false
}
