//! A client and the upstream agree to speak something else: from then on bytes go both ways untouched.

use std::time::Duration;

use http::header::{CONNECTION, HeaderMap, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use onceward_http::Body;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::forward::hop;

/// How long the other side may go on after one side has ended; a peer that is gone must not hold a tunnel.
const HALF_OPEN_MAX: Duration = Duration::from_secs(10);

/// A client that asks to switch protocols, and its connection once it has.
#[derive(Debug)]
pub(crate) struct Upgrade {
    client: OnUpgrade,
    protocol: HeaderValue,
}

impl Upgrade {
    /// Takes the wish out of the request, if it has one that may be passed on.
    ///
    /// `h2c` and other ways to go on with HTTP are not: the requests inside such a tunnel would be seen by
    /// nobody, and an operation could dodge its key.
    pub(crate) fn take(request: &mut Request<Body>) -> Option<Self> {
        let client = request.extensions_mut().remove::<OnUpgrade>()?;
        let headers = request.headers();
        let asked = request.version() == Version::HTTP_11 && hop::has_token(headers, &CONNECTION, "upgrade");
        let is_http = |it: &str| {
            let name = it.split('/').next().unwrap_or_default().to_ascii_lowercase();
            ["h2c", "h2", "http", "tls"].contains(&name.as_str())
        };
        if !asked || hop::tokens(headers, &UPGRADE).any(is_http) {
            return None;
        }
        let mut lines = headers.get_all(UPGRADE).iter();
        let protocol = lines.next().filter(|it| !it.is_empty())?.clone();
        // Two lines are an offer of choices that hardly anybody makes; an ordinary answer is always allowed.
        lines.next().is_none().then_some(Self { client, protocol })
    }

    /// The value of the `Upgrade` field.
    pub(crate) fn protocol(&self) -> &HeaderValue {
        &self.protocol
    }
}

/// The 101 for the client.
pub(crate) fn switched(upstream: &HeaderMap, upgrade: &Upgrade) -> Response<Body> {
    let protocol = upstream.get(UPGRADE).unwrap_or(&upgrade.protocol).clone();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    hop::copy(upstream, response.headers_mut(), hop::is_ours);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, protocol);
    response
}

/// Carries bytes both ways until either side has ended (the other gets a few seconds to finish what it was
/// saying), or until `cut`.
pub(crate) async fn tunnel(upgrade: Upgrade, upstream: OnUpgrade, cut: CancellationToken) {
    let carry = async {
        let (client, upstream) = tokio::try_join!(upgrade.client, upstream)?;
        let (client_read, client_write) = tokio::io::split(TokioIo::new(client));
        let (upstream_read, upstream_write) = tokio::io::split(TokioIo::new(upstream));
        let mut up = Box::pin(copy(client_read, upstream_write));
        let mut down = Box::pin(copy(upstream_read, client_write));
        tokio::select! {
            biased;
            () = &mut up => drop(tokio::time::timeout(HALF_OPEN_MAX, down).await),
            () = &mut down => drop(tokio::time::timeout(HALF_OPEN_MAX, up).await),
        }
        Ok::<(), hyper::Error>(())
    };
    tokio::select! {
        biased;
        ended = carry => if let Err(error) = ended {
            debug!(%error, "a tunnel was never opened");
        },
        () = cut.cancelled() => {}
    }
}

/// Copies until the reader ends or either breaks, and passes the end on.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
        debug!(%error, "a tunnel broke");
    }
    // The reader of the other side may be gone already.
    let _ = to.shutdown().await;
}
