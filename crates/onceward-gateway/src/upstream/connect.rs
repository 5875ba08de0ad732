//! A new connection to an upstream: TCP to the first of its addresses that answers, then TLS if it is spoken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::fault::Fault;
use super::settings::Target;
use super::stream::Stream;
use super::tls;

/// How long an address is tried before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection over which nothing has been said yet.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) io: TokioIo<Stream>,
    pub(super) peer: IpAddr,
    /// Whether both sides agreed on HTTP/2 by ALPN.
    pub(super) http2: bool,
}

/// Connects, and shakes hands if `tls` is given. There is no time limit in here.
///
/// # Errors
/// `Unreachable`: refused, or no certificate that we trust for this host. Nothing was sent.
pub(super) async fn connect(
    target: &Target,
    addresses: &[IpAddr],
    tls: Option<Arc<ClientConfig>>,
) -> Result<Connected, Fault> {
    let connecting = async {
        let tcp = first_of(addresses, target.port).await?;
        let peer = tcp.peer_addr()?.ip();
        // A request is written whole; waiting for more bytes would only delay it.
        tcp.set_nodelay(true)?;
        let (Some(name), Some(config)) = (&target.certified, tls) else {
            return Ok(Connected { io: TokioIo::new(Stream::Plain(tcp)), peer, http2: false });
        };
        let stream = TlsConnector::from(config).connect(name.clone(), tcp).await?;
        let http2 = tls::agreed_on_http2(stream.get_ref().1.alpn_protocol());
        Ok::<_, io::Error>(Connected { io: TokioIo::new(Stream::Tls(Box::new(stream))), peer, http2 })
    };
    connecting.await.map_err(|error| {
        debug!(%error, upstream = target.label, "no connection to the upstream");
        Fault::Unreachable
    })
}

/// The first address that takes a connection: each gets a head start before the next joins, and none waits for
/// one that has failed.
async fn first_of(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut trying = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        if let Some(&address) = waiting.next() {
            trying.spawn(one(SocketAddr::new(address, port)));
        } else if trying.is_empty() {
            return Err(failed);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            Some(tried) = trying.join_next() => match tried.map_err(io::Error::other).flatten() {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}

async fn one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    // So that a peer that vanished under a silent stream is found at last.
    socket.set_keepalive(true)?;
    socket.connect(address).await
}
