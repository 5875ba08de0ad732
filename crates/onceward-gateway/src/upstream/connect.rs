//! A new connection to the upstream.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::settings::Target;

/// Resolves the name and connects, trying its addresses in turn, all of it within `limit`.
///
/// # Errors
/// Refused, unreachable, unknown name, or `TimedOut`. Nothing was sent.
pub(super) async fn connect(target: &Target, limit: Duration) -> io::Result<TokioIo<TcpStream>> {
    let address = (target.connect_host.as_str(), target.port);
    let stream = tokio::time::timeout(limit, TcpStream::connect(address)).await??;
    // A request is written whole; waiting for more bytes would only delay it.
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}
