//! One request over HTTP/1.1: a pooled connection or a new one, and never twice.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Exchange;
use super::body::RequestBody;
use super::connect::connect;
use super::fault::{Failed, Fault};
use super::pool::{Connection, Pool, idle_for};
use super::settings::UpstreamSettings;

/// How many pooled connections are tried before a new one is made. Each try ends unsent, so this bounds time
/// and never safety.
const POOLED_TRIES: usize = 3;

/// An HTTP/1.1 upstream.
#[derive(Debug)]
pub(super) struct Http1 {
    pool: Arc<Pool>,
    tracker: TaskTracker,
}

impl Http1 {
    pub(super) fn new(settings: &UpstreamSettings, tracker: TaskTracker, closed: CancellationToken) -> Self {
        let pool = Pool::new(settings.idle_connections_max, tracker.clone(), closed);
        Self { pool, tracker }
    }

    /// Sends `request` once and waits for the head of its response.
    ///
    /// # Errors
    /// `Unreachable`: provably nothing was sent. Otherwise it may have been processed.
    /// # Cancel safety
    /// Dropping this future closes the connection; the request may have been processed.
    pub(super) async fn send(
        &self,
        exchange: Exchange<'_>,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Fault> {
        let tries = if exchange.fresh { 0 } else { POOLED_TRIES };
        for _ in 0..tries {
            let Some(connection) = self.pool.take() else { break };
            match self.send_on(connection, exchange, request).await {
                Ok(response) => return Ok(response),
                Err(Failed::Ended(fault)) => return Err(fault),
                Err(Failed::Unsent(it)) => request = *it,
            }
        }
        let connection = self.connect(exchange).await?;
        Ok(self.send_on(connection, exchange, request).await?)
    }

    async fn connect(&self, exchange: Exchange<'_>) -> Result<Connection, Fault> {
        let io = connect(exchange.target, exchange.settings.connect_timeout).await?;
        // The handshake of HTTP/1.1 writes nothing.
        let (sender, connection) = http1::handshake(io).await.map_err(|_| Fault::Unreachable)?;
        let gone = CancellationToken::new();
        let tell = gone.clone().drop_guard();
        self.tracker.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to the upstream ended");
            }
            drop(tell);
        });
        Ok(Connection { sender, gone })
    }

    async fn send_on(
        &self,
        connection: Connection,
        exchange: Exchange<'_>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failed> {
        let Exchange { settings, progress, .. } = exchange;
        let Connection { mut sender, gone } = connection;
        progress.mark();
        let mut response = std::pin::pin!(sender.try_send_request(request));
        let mut sender = Some(sender);
        let response = tokio::select! {
            biased;
            response = &mut response => response,
            () = progress.stalled(settings.response_timeout) => {
                return Err(Failed::Ended(Fault::TimedOut));
            }
            () = gone.cancelled() => {
                // A request that enters the queue in the very moment when the connection ends lies there
                // unsent for as long as somebody could still put another one beside it.
                sender = None;
                response.await
            }
        };
        match response {
            Ok(response) => {
                if let Some(sender) = sender {
                    self.keep(Connection { sender, gone }, &response, settings);
                }
                Ok(response)
            }
            // The connection gives a request back only when it never began to write it.
            Err(mut error) => Err(error.take_message().map_or_else(
                || {
                    debug!(error = %error.error(), "the upstream gave no response");
                    Failed::Ended(Fault::Broken)
                },
                |request| Failed::Unsent(Box::new(request)),
            )),
        }
    }

    /// Puts the connection back once both bodies have passed through it, which may be long after the head.
    fn keep(&self, mut connection: Connection, response: &Response<Incoming>, settings: &UpstreamSettings) {
        let Some(idle_for) = idle_for(response.headers(), settings.idle_max) else { return };
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let pool = Arc::clone(&self.pool);
        self.tracker.spawn(async move {
            if connection.sender.ready().await.is_ok() {
                pool.put(connection, idle_for);
            }
        });
    }
}
