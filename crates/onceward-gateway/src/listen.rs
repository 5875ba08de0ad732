//! Accepts connections and serves each until it ends or the gateway stops.
//!
//! ```text
//! socket ─▶ place ─▶ TLS ─▶ strict reader (HTTP/1 only) ─▶ hyper ─▶ limits of a request ─▶ service
//! ```
//! Whatever a caller does ends at its own connection, or at its own stream of HTTP/2. Bytes that two readers
//! could take for two different requests never reach the service: see [`Violation`]. How much one caller may
//! take from the others is bounded by [`Limits`].

mod counters;
mod framing;
mod limits;
mod line;
mod linger;
mod places;
mod received;
mod refusal;
mod requests;
mod sent;
mod serve;
mod socket;
mod streams;
mod strict;
mod tls;
mod violation;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use onceward_http::Body;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

pub use self::counters::{Count, Counters};
pub use self::limits::Limits;
use self::line::Line;
use self::places::Places;
pub use self::received::{BodyError, Received};
use self::serve::{Connection, is_about_one_connection};
pub use self::tls::{ReloadableTls, Tls, TlsError, TlsWarning};
pub use self::violation::Violation;
use crate::network::Listener;
use crate::workers::Workers;

/// How a listener listens.
#[derive(Debug, Clone, Default)]
pub struct Listening {
    /// How much one caller may take from the others.
    pub limits: Limits,
    /// TLS, or plain HTTP.
    pub tls: Option<ReloadableTls>,
    /// What is counted on the way.
    pub counters: Counters,
    /// Who serves.
    pub workers: Workers,
}

/// The three ways in which connections are told to end, each stronger than the last.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Accept no more.
    pub accepting: CancellationToken,
    /// Finish the request under way and close: `Connection: close`, GOAWAY.
    pub graceful: CancellationToken,
    /// Close now.
    pub now: CancellationToken,
}

/// Accepts until told to stop. Each connection is served on `connections`, by a clone of `service`.
///
/// Each request carries [`ClientAddr`](crate::ClientAddr) and, over TLS, [`SecureClient`](crate::SecureClient) as extensions.
///
/// # Cancel safety
/// Dropping this stops accepting; connections go on.
pub async fn accept<L, S>(listener: L, service: S, listening: Listening, stop: Stop, connections: TaskTracker)
where
    L: Listener,
    S: Service<Request<Received>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let places = Places::new(listening.limits.connections_max, listening.counters.clone());
    let listening = Arc::new(listening);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.accepting.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let line = Line::new();
                let place = tokio::select! {
                    biased;
                    place = places.take(&line) => place,
                    () = stop.accepting.cancelled() => return,
                };
                let connection = Connection {
                    peer,
                    line,
                    listening: Arc::clone(&listening),
                    stop: stop.clone(),
                    tasks: connections.clone(),
                };
                listening.workers.serve(&connections, connection.serve(service.clone(), stream, place));
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
