//! Requests over HTTP/1.1: one at a time on each connection, which is kept for the next.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::connect::Connected;
use super::exchange::{Answered, Exchange, Over};
use super::fault::{Failed, Fault};
use super::lent::RequestBody;
use super::pool::{Connection, Pool, idle_for};
use super::settings::UpstreamSettings;
use crate::notice::Notice;
use crate::workers::seat;

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
        let gone = Notice::default();
        let tell = gone.say_on_drop(());
        let seat = seat();
        let open = self.pool.opened(seat);
        self.tracker.spawn(async move {
            let _open = open;
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "a connection to the upstream ended");
            }
            drop(tell);
        });
        Ok(Connection { sender, gone, peer, seat })
    }

    /// Sends `request` over this connection and waits for the head of its response.
    ///
    /// # Errors
    /// `Unsent`: not a byte was written. Otherwise it may have been processed.
    /// # Cancel safety
    /// Dropping this future closes the connection; the request may have been processed.
    pub(super) fn send<'a>(
        &'a self,
        connection: Connection,
        exchange: Exchange<'a>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Answered, Failed>> + 'a {
        let Exchange { settings, progress, .. } = exchange;
        let Connection { mut sender, gone, peer, seat } = connection;
        progress.mark();
        // Before the future begins, so that it need not carry the request around.
        let response = sender.try_send_request(request);
        async move {
            let mut response = std::pin::pin!(response);
            let mut sender = Some(sender);
            let response = tokio::select! {
                biased;
                response = &mut response => response,
                () = progress.stalled(settings.response_timeout) => {
                    return Err(Failed::Ended(Fault::TimedOut));
                }
                () = gone.wait() => {
                    // A request that enters the queue in the very moment when the connection ends lies there
                    // unsent for as long as somebody could still put another one beside it.
                    sender = None;
                    response.await
                }
            };
            match response {
                Ok(response) => {
                    let connection = sender.map(|sender| Connection { sender, gone, peer, seat });
                    let returning = connection.and_then(|it| self.keep(it, &response, settings));
                    Ok((response, Over::Http1(returning)))
                }
                // The connection gives a request back only when it never began to write it.
                Err(mut error) => {
                    debug!(error = %error.error(), "the upstream gave no response");
                    let unsent = error.take_message().is_some();
                    Err(if unsent { Failed::Unsent } else { Failed::Ended(Fault::Broken) })
                }
            }
        }
    }

    /// Puts the connection back once both bodies have passed through it, which may be long after the head.
    fn keep(
        &self,
        connection: Connection,
        response: &Response<Incoming>,
        settings: &UpstreamSettings,
    ) -> Option<Returning> {
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        Some(Returning {
            idle_for: idle_for(response.headers(), settings.idle_max)?,
            connection: Some(connection),
            pool: Arc::clone(&self.pool),
            max: settings.idle_connections_max,
            tracker: self.tracker.clone(),
        })
    }
}

/// Puts a connection back when the response that is read from it has ended and this is dropped.
#[derive(Debug)]
pub(super) struct Returning {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    idle_for: Duration,
    max: usize,
    tracker: TaskTracker,
}

impl Drop for Returning {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if connection.sender.is_ready() {
            return self.pool.put(connection, self.idle_for, self.max);
        }
        // The response was given up, or the request is still being sent: it becomes ready later or closes.
        let (pool, idle_for, max) = (Arc::clone(&self.pool), self.idle_for, self.max);
        self.tracker.spawn(async move {
            if connection.sender.ready().await.is_ok() {
                pool.put(connection, idle_for, max);
            }
        });
    }
}
