//! A new connection to the upstream.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::fault::Fault;
use super::settings::Target;

/// Resolves the name and connects, trying its addresses in turn, all of it within `limit`.
///
/// # Errors
/// `Unreachable`: refused, no such name, or too slow. Nothing was sent.
pub(super) async fn connect(target: &Target, limit: Duration) -> Result<TokioIo<TcpStream>, Fault> {
    let connecting = TcpStream::connect((target.connect_host.as_str(), target.port));
    let connected = tokio::time::timeout(limit, connecting).await.map_err(io::Error::from).flatten();
    let stream = connected.map_err(|error| {
        debug!(%error, "no connection to the upstream");
        Fault::Unreachable
    })?;
    // A request is written whole; waiting for more bytes would only delay it.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection to the upstream stays slow");
    }
    Ok(TokioIo::new(stream))
}
