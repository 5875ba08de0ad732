//! Requests over HTTP/1.1: one at a time on each connection, which is kept for the next.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::connect::Connected;
use super::exchange::Exchange;
use super::fault::{Failed, Fault};
use super::lent::RequestBody;
use super::pool::{Connection, Pool, idle_for};
use super::settings::UpstreamSettings;

/// The HTTP/1.1 connections of one upstream.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) pool: Arc<Pool>,
    tracker: TaskTracker,
}

impl Http1 {
    pub(super) fn new(tracker: TaskTracker, closed: CancellationToken) -> Self {
        Self { pool: Pool::new(tracker.clone(), closed), tracker }
    }

    /// Makes a connection ready for requests; writes nothing.
    pub(super) async fn adopt(&self, connected: Connected) -> Result<Connection, Fault> {
        let Connected { io, peer, .. } = connected;
        let (sender, connection) = http1::handshake(io).await.map_err(|_| Fault::Unreachable)?;
        let gone = CancellationToken::new();
        let tell = gone.clone().drop_guard();
        self.tracker.spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to the upstream ended");
            }
            drop(tell);
        });
        Ok(Connection { sender, gone, peer })
    }

    /// Sends `request` over this connection and waits for the head of its response.
    ///
    /// # Errors
    /// `Unsent`: not a byte was written. Otherwise it may have been processed.
    /// # Cancel safety
    /// Dropping this future closes the connection; the request may have been processed.
    pub(super) async fn send(
        &self,
        connection: Connection,
        exchange: Exchange<'_>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Failed> {
        let Exchange { settings, progress, .. } = exchange;
        let Connection { mut sender, gone, peer } = connection;
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
                    self.keep(Connection { sender, gone, peer }, &response, settings);
                }
                Ok(response)
            }
            // The connection gives a request back only when it never began to write it.
            Err(mut error) => {
                debug!(error = %error.error(), "the upstream gave no response");
                let unsent = error.take_message().is_some();
                Err(if unsent { Failed::Unsent } else { Failed::Ended(Fault::Broken) })
            }
        }
    }

    /// Puts the connection back once both bodies have passed through it, which may be long after the head.
    fn keep(&self, mut connection: Connection, response: &Response<Incoming>, settings: &UpstreamSettings) {
        let Some(idle_for) = idle_for(response.headers(), settings.idle_max) else { return };
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let (pool, max) = (Arc::clone(&self.pool), settings.idle_connections_max);
        self.tracker.spawn(async move {
            if connection.sender.ready().await.is_ok() {
                pool.put(connection, idle_for, max);
            }
        });
    }
}
