//! A new connection to an upstream: TCP to the first of its addresses that answers, then TLS if it is spoken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::fault::Fault;
use super::settings::Target;
use super::stream::Stream;
use super::tls;
use crate::network::{Dial, Dialled};

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
    dial: &Dial,
) -> Result<Connected, Fault> {
    let connecting = async {
        let (dialled, peer) = first_of(addresses, target.port, dial).await?;
        let tcp = match (dialled, &target.certified) {
            (Dialled::Machine(tcp), _) => tcp,
            (Dialled::Other(wire), None) => {
                return Ok(Connected { io: TokioIo::new(Stream::Other(wire)), peer, http2: false });
            }
            (Dialled::Other(_), Some(_)) => return Err(io::ErrorKind::Unsupported.into()),
        };
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
async fn first_of(addresses: &[IpAddr], port: u16, dial: &Dial) -> io::Result<(Dialled, IpAddr)> {
    let mut waiting = addresses.iter();
    let mut trying = JoinSet::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        if let Some(&address) = waiting.next() {
            let dial = dial.clone();
            trying.spawn(async move { Ok((dial.dial(SocketAddr::new(address, port)).await?, address)) });
        } else if trying.is_empty() {
            return Err(failed);
        }
        let more = waiting.len() > 0;
        tokio::select! {
            biased;
            Some(tried) = trying.join_next() => match tried.map_err(io::Error::other).flatten() {
                Ok(dialled) => return Ok(dialled),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(HEAD_START), if more => {}
        }
    }
}
