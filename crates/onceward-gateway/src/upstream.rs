//! The reverse proxy: one request in, the upstream's response out.
//!
//! A request is sent once. When no response head comes back, the answer says whether the request provably
//! never was processed ([`Outcome::Release`](onceward_http::Outcome)) or may have been
//! ([`Outcome::Unknown`](onceward_http::Outcome)); nothing in between.

mod body;
mod connect;
mod fault;
mod http1;
mod http2;
mod pool;
mod settings;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use onceward_http::{Body, FreshConnection};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::body::{Progress, RequestBody, ResponseBody};
pub use self::fault::Fault;
pub(crate) use self::fault::Refusal;
use self::http1::Http1;
use self::http2::Http2;
pub(crate) use self::settings::Target;
pub use self::settings::{HostMode, InvalidSetting, Protocol, UpstreamSettings};
use crate::forward;
use crate::upgrade::{self, Upgrade};

/// Request extension: this request is no operation, so its failures are told in the plain words of a proxy
/// and it may upgrade its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassThrough;

/// Sends requests to one upstream. Clones share its connections.
///
/// Dropping its response future gives the request up: the connection is closed, or the stream reset, and the
/// request may have been processed.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: UpstreamSettings,
    target: Target,
    channel: Channel,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Closes what is idle when the last clone goes.
    _close_idle: DropGuard,
}

#[derive(Debug)]
enum Channel {
    Http1(Http1),
    Http2(Http2),
}

/// What one request needs besides itself, wherever it goes.
#[derive(Debug, Clone, Copy)]
struct Exchange<'a> {
    target: &'a Target,
    settings: &'a UpstreamSettings,
    progress: &'a Progress,
    /// Take no connection that was used before.
    fresh: bool,
}

impl Upstream {
    /// Connects to nothing yet. Connections and tunnels run on `tracker`.
    ///
    /// When `shutdown` is cancelled, idle connections are closed, none is kept any more and tunnels are cut;
    /// an exchange that is under way goes on until it ends or meets its time limits.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn new(
        settings: UpstreamSettings,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, InvalidSetting> {
        settings.check()?;
        let target = Target::parse(&settings.url)?;
        let closed = shutdown.child_token();
        let channel = match settings.protocol {
            Protocol::Http1 => Channel::Http1(Http1::new(&settings, tracker.clone(), closed.clone())),
            Protocol::H2c => Channel::Http2(Http2::new(tracker.clone(), closed.clone())),
        };
        let _close_idle = closed.drop_guard();
        Ok(Self { inner: Arc::new(Inner { settings, target, channel, tracker, shutdown, _close_idle }) })
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.exchange(request).await) })
    }
}

impl Inner {
    async fn exchange(&self, mut request: Request<Body>) -> Response<Body> {
        let pass_through = request.extensions_mut().remove::<PassThrough>().is_some();
        let fresh = request.extensions_mut().remove::<FreshConnection>().is_some();
        let upgrade = match self.channel {
            Channel::Http1(_) if pass_through => Upgrade::take(&mut request),
            Channel::Http1(_) | Channel::Http2(_) => None,
        };
        let progress = Progress::new();
        let request = match self.outgoing(request, upgrade.as_ref(), pass_through) {
            Ok(request) => request.map(|it| RequestBody::new(it, Arc::clone(&progress))),
            Err(refusal) => return refusal.response(),
        };
        let exchange =
            Exchange { target: &self.target, settings: &self.settings, progress: &progress, fresh };
        let sent = match &self.channel {
            Channel::Http1(http1) => http1.send(exchange, request).await,
            Channel::Http2(http2) => http2.send(exchange, request).await,
        };
        match (sent, upgrade) {
            (Err(fault), _) => fault.response(pass_through),
            (Ok(response), Some(upgrade)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switch(response, upgrade)
            }
            // Nobody asked for another protocol, so nobody could speak it.
            (Ok(response), _) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                Fault::Broken.response(pass_through)
            }
            (Ok(response), _) => self.incoming(response, pass_through),
        }
    }

    fn outgoing(
        &self,
        request: Request<Body>,
        upgrade: Option<&Upgrade>,
        pass_through: bool,
    ) -> Result<Request<Body>, Refusal> {
        let route = forward::Outbound {
            target: &self.target,
            protocol: self.settings.protocol,
            host: self.settings.host,
            trust_forwarded: self.settings.trust_forwarded,
            upgrade: upgrade.map(Upgrade::protocol),
            pass_through,
        };
        route.rewrite(request)
    }

    fn incoming(&self, response: Response<Incoming>, pass_through: bool) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        // The version is a matter of each connection; the server in front writes its own.
        parts.version = Version::HTTP_11;
        parts.headers = forward::response_headers(parts.headers, pass_through);
        Response::from_parts(parts, Body::stream(ResponseBody::new(body, self.settings.body_idle_timeout)))
    }

    fn switch(&self, mut response: Response<Incoming>, upgrade: Upgrade) -> Response<Body> {
        let upstream = hyper::upgrade::on(&mut response);
        let answer = upgrade::switched(response.headers_mut(), &upgrade);
        self.tracker.spawn(upgrade::tunnel(upgrade, upstream, self.shutdown.clone()));
        answer
    }
}
