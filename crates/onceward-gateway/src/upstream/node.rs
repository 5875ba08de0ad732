//! One upstream: its addresses and its connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::Either;
use http::Request;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::addresses::Addresses;
use super::connect::connect;
use super::exchange::{Answered, Exchange, Missed};
use super::fault::{Failed, Fault};
use super::http1::Http1;
use super::http2::{Http2, Lease};
use super::pool::Connection;
use super::roster::Id;
use super::settings::{Protocol, Target};
use super::slot::Slots;
use super::tls::Tls;
use crate::forward::{Outbound, Spoken};
use crate::upgrade::Upgrade;

/// How many connections of others are tried before a new one is made for this request alone. Each try ends
/// unsent, so this bounds time and never safety.
const SHARED_TRIES: usize = 3;

/// One upstream.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: Id,
    pub(super) target: Target,
    pub(super) slots: Slots,
    protocol: Protocol,
    tls: Option<Arc<Tls>>,
    addresses: Addresses,
    http1: Http1,
    http2: Http2,
    /// Whether it chose HTTP/1.1 when it was last offered both.
    chose_http1: AtomicBool,
    closed: CancellationToken,
}

/// A connection that can take a request.
enum Link {
    Http1(Connection),
    Http2(Lease),
}

impl Node {
    /// Connects to nothing yet. Connections run on `tracker`; idle ones close with `closed`.
    pub(super) fn new(
        id: Id,
        target: Target,
        protocol: Protocol,
        tls: Option<Arc<Tls>>,
        tracker: &TaskTracker,
        closed: CancellationToken,
    ) -> Self {
        Self {
            id,
            slots: Slots::default(),
            protocol,
            tls,
            addresses: Addresses::of(target.connect_host.clone()),
            target,
            http1: Http1::new(tracker.clone(), closed.clone()),
            http2: Http2::new(tracker.clone(), closed.clone()),
            chose_http1: AtomicBool::new(false),
            closed,
        }
    }

    /// Whether an upstream of these settings is this one, so that its connections can be used on.
    pub(super) fn is(&self, target: &Target, protocol: Protocol, tls: Option<&Arc<Tls>>) -> bool {
        self.target == *target && self.protocol == protocol && self.tls.as_ref() == tls
    }

    /// Closes what is idle and keeps nothing any more; exchanges under way go on.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Sends the request once and waits for the head of its response.
    ///
    /// # Errors
    /// Whether it was refused here, provably not processed, or may have been processed.
    /// # Cancel safety
    /// Dropping this future gives the request up; it may have been processed.
    pub(super) async fn send(&self, exchange: Exchange<'_>) -> Result<Answered, Missed> {
        let limit = exchange.settings.connect_timeout;
        // Before anything else: a request that nobody should see is worth no connection.
        let likely = if self.may_choose_http2() && exchange.asked.upgrade.is_none() {
            Spoken::Http2
        } else {
            Spoken::Http1
        };
        let mut written = Some((likely, self.head(exchange, likely)?));
        for shared in (0..=SHARED_TRIES).rev().map(|it| it > 0 && !exchange.asked.fresh) {
            let (link, new) = match shared.then(|| self.at_hand(exchange)).flatten() {
                Some(link) => (link, false),
                // In a box: a handshake of TLS takes kilobytes, which most requests need not carry around.
                None => Box::pin(self.link_within(limit, exchange, shared)).await?,
            };
            match self.send_on(link, exchange, written.take())?.await {
                Err(Failed::Unsent) if shared && !new => {}
                ended => return Ok(ended?),
            }
        }
        Err(Failed::Unsent.into())
    }

    /// A connection that is idle, or has a stream to spare, where the name of the upstream need not be looked up.
    fn at_hand(&self, exchange: Exchange<'_>) -> Option<Link> {
        self.pooled(exchange, &self.addresses.fresh()?, self.http1_only(exchange))
    }

    fn http1_only(&self, exchange: Exchange<'_>) -> bool {
        self.protocol == Protocol::Http1 || exchange.asked.upgrade.is_some()
    }

    async fn link_within(
        &self,
        limit: Duration,
        exchange: Exchange<'_>,
        shared: bool,
    ) -> Result<(Link, bool), Failed> {
        let linking = async {
            let addresses = self.addresses.current(exchange.names, limit).await?;
            self.link(exchange, &addresses, shared).await
        };
        let linked = tokio::time::timeout(limit, linking).await.unwrap_or(Err(Fault::Unreachable));
        linked.map_err(Failed::Ended)
    }

    /// A connection, and whether it was made just now.
    async fn link(
        &self,
        exchange: Exchange<'_>,
        addresses: &[IpAddr],
        shared: bool,
    ) -> Result<(Link, bool), Fault> {
        let http1_only = self.http1_only(exchange);
        if shared && let Some(link) = self.pooled(exchange, addresses, http1_only) {
            return Ok((link, false));
        }
        let mut alone = None;
        if shared && !http1_only && self.may_choose_http2() {
            // Others may be connecting just now, and have streams to spare.
            alone = Some(self.http2.connecting.lock().await);
            if let Some(link) = self.pooled(exchange, addresses, http1_only) {
                return Ok((link, false));
            }
            alone.take_if(|_| !self.may_choose_http2());
        }
        let tls = self.tls.as_ref().map(|it| Arc::clone(if http1_only { &it.http1 } else { &it.any }));
        let connected = connect(&self.target, addresses, tls, exchange.dial).await?;
        let http2 = match self.protocol {
            Protocol::Http1 => false,
            Protocol::H2c => true,
            Protocol::H2 if connected.http2 => true,
            Protocol::H2 => return Err(Fault::Unreachable),
            Protocol::Auto => {
                if !http1_only {
                    self.chose_http1.store(!connected.http2, Ordering::Relaxed);
                }
                connected.http2
            }
        };
        let link = if http2 {
            Link::Http2(self.http2.adopt(connected, exchange.settings, shared).await?)
        } else {
            Link::Http1(self.http1.adopt(connected).await?)
        };
        drop(alone);
        Ok((link, true))
    }

    fn pooled(&self, exchange: Exchange<'_>, addresses: &[IpAddr], http1_only: bool) -> Option<Link> {
        let http2 = || self.http2.lease(addresses, exchange.settings).map(Link::Http2);
        let http1 = || self.http1.pool.take(addresses).map(Link::Http1);
        if http1_only { http1() } else { http2().or_else(http1) }
    }

    fn may_choose_http2(&self) -> bool {
        match self.protocol {
            Protocol::H2c | Protocol::H2 => true,
            Protocol::Http1 => false,
            Protocol::Auto => self.tls.is_some() && !self.chose_http1.load(Ordering::Relaxed),
        }
    }

    /// Sends over this connection; `written` is the head, if it is for the protocol that is spoken there.
    fn send_on<'a>(
        &'a self,
        link: Link,
        exchange: Exchange<'a>,
        written: Option<(Spoken, Request<()>)>,
    ) -> Result<impl Future<Output = Result<Answered, Failed>> + 'a, Missed> {
        let spoken = match link {
            Link::Http1(_) => Spoken::Http1,
            Link::Http2(_) => Spoken::Http2,
        };
        let head = match written {
            Some((it, head)) if it == spoken => head,
            Some(_) | None => self.head(exchange, spoken)?,
        };
        // A connection that ended unsent has read nothing, so this is never missing.
        let body = exchange.asked.body.lend().ok_or(Failed::NotProcessed)?;
        let request = head.map(|()| body);
        Ok(match link {
            Link::Http1(connection) => Either::Left(self.http1.send(connection, exchange, request)),
            Link::Http2(lease) => Either::Right(Box::pin(self.http2.send(lease, exchange, request))),
        })
    }

    fn head(&self, exchange: Exchange<'_>, spoken: Spoken) -> Result<Request<()>, Missed> {
        let Exchange { asked, settings, .. } = exchange;
        let outbound = Outbound {
            target: &self.target,
            spoken,
            host: self.target.host_mode(settings.host),
            trust_forwarded: settings.trust_forwarded,
            upgrade: asked.upgrade.as_ref().map(Upgrade::protocol),
            pass_through: asked.pass_through,
        };
        outbound.rewrite(&asked.parts, asked.body.length()).map_err(Missed::Refused)
    }
}
