//! Requests over HTTP/2: many at a time on each connection, and several connections when streams run out.

mod list;

use std::future::poll_fn;
use std::net::IpAddr;

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::TokioTimer;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use self::list::{Entry, List, Usage};
pub(super) use self::list::{Lease, Streaming};
use super::connect::Connected;
use super::exchange::{Answered, Exchange, Over};
use super::fault::{Failed, Fault};
use super::greeting::Greeted;
use super::lent::RequestBody;
use super::settings::UpstreamSettings;

/// The HTTP/2 connections of one upstream.
#[derive(Debug)]
pub(super) struct Http2 {
    list: List,
    /// Held while connecting, so that many requests at once make few connections.
    pub(super) connecting: tokio::sync::Mutex<()>,
    tracker: TaskTracker,
    /// From then on no connection is kept.
    closed: CancellationToken,
}

impl Http2 {
    pub(super) fn new(tracker: TaskTracker, closed: CancellationToken) -> Self {
        Self { list: List::default(), connecting: tokio::sync::Mutex::default(), tracker, closed }
    }

    /// A free stream on a connection to one of `addresses`, if there is one.
    pub(super) fn lease(&self, addresses: &[IpAddr], settings: &UpstreamSettings) -> Option<Lease> {
        self.list.lease(addresses, settings.idle_max)
    }

    /// Greets, and makes a connection ready for requests once it is greeted back. It is kept for others when
    /// it is `shared`.
    ///
    /// # Errors
    /// `Unreachable`: the other side does not speak HTTP/2, or went away. It has seen no request.
    pub(super) async fn adopt(
        &self,
        connected: Connected,
        settings: &UpstreamSettings,
        shared: bool,
    ) -> Result<Lease, Fault> {
        let (io, greeted) = Greeted::new(connected.io);
        let mut builder = http2::Builder::new(OnTracker(self.tracker.clone()));
        builder
            .timer(TokioTimer::new())
            // None before the upstream has said how many it allows.
            .initial_max_send_streams(0)
            .keep_alive_interval(settings.ping_every)
            .keep_alive_timeout(settings.ping_every);
        let (sender, connection) = builder.handshake(io).await.map_err(|_| Fault::Unreachable)?;
        let usage = Usage::new(connected.peer);
        let entry = Entry { sender: sender.clone(), usage: usage.clone() };
        let lease = Lease::new(sender, &usage);
        let (ready, settled) = oneshot::channel();
        let (list, closed, idle_max) = (self.list.clone(), self.closed.clone(), settings.idle_max);
        self.tracker.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let polled = poll_fn(|cx| {
                let polled = connection.as_mut().poll(cx);
                usage.allow(connection.as_ref().get_ref().current_max_send_streams());
                polled
            });
            let mut polled = std::pin::pin!(polled);
            let watched = async {
                if greeted.await.is_ok() {
                    usage.allowed().await;
                    let _ = ready.send(());
                }
                unwanted(&usage, idle_max, &closed).await;
            };
            let ended = tokio::select! {
                biased;
                ended = &mut polled => ended,
                () = watched => {
                    // Without a sender the connection ends after its last stream.
                    list.remove(&usage);
                    polled.await
                }
            };
            list.remove(&usage);
            if let Err(error) = ended {
                debug!(%error, "a connection to the upstream ended");
            }
        });
        settled.await.map_err(|_| Fault::Unreachable)?;
        if shared && !self.closed.is_cancelled() {
            self.list.add(entry);
        }
        Ok(lease)
    }

    /// Sends `request` over this connection and waits for the head of its response.
    ///
    /// # Errors
    /// `Unsent`, `NotProcessed`: it provably was not processed. Otherwise it may have been.
    /// # Cancel safety
    /// Dropping this future resets the stream; the request may have been processed.
    pub(super) async fn send(
        &self,
        lease: Lease,
        exchange: Exchange<'_>,
        request: Request<RequestBody>,
    ) -> Result<Answered, Failed> {
        let Exchange { settings, progress, .. } = exchange;
        let Lease { mut sender, streaming } = lease;
        progress.mark();
        let response = sender.try_send_request(request);
        // A request that enters the queue in the very moment when the connection ends lies there unsent for as
        // long as somebody could still put another one beside it.
        drop(sender);
        let response = tokio::select! {
            biased;
            response = response => response,
            () = progress.stalled(settings.response_timeout) => {
                // Perhaps only this stream hangs, perhaps the peer is gone: the next request takes no chance.
                if !progress.client_is_due() {
                    self.list.remove(streaming.usage());
                }
                return Err(Failed::Ended(Fault::TimedOut));
            }
        };
        match response {
            Ok(response) => Ok((response, Over::Http2(streaming))),
            Err(mut error) => {
                let unsent = error.take_message().is_some();
                let error = error.into_error();
                let refused = refused_stream(&error);
                if unsent || !refused {
                    // It is going away, gone or confused.
                    self.list.remove_if_ended(streaming.usage(), unsent || went_away(&error));
                }
                debug!(%error, "the upstream gave no response");
                Err(match () {
                    () if unsent => Failed::Unsent,
                    () if went_away(&error) => Failed::NotProcessed,
                    () if refused && settings.trust_refused_stream => Failed::NotProcessed,
                    () => Failed::Ended(Fault::Broken),
                })
            }
        }
    }
}

/// Returns when the connection should get no more requests: it lay idle for too long, or none is kept any more.
async fn unwanted(usage: &Usage, idle_max: std::time::Duration, closed: &CancellationToken) {
    let idle = async {
        while let Some(until) = usage.idle_until(idle_max) {
            tokio::time::sleep_until(until).await;
        }
    };
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        () = idle => {}
    }
}

/// Runs the tasks of a connection where shutdown waits for them.
#[derive(Clone)]
struct OnTracker(TaskTracker);

impl<F> hyper::rt::Executor<F> for OnTracker
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Whether the upstream refused the stream. Whether that vouches for anything is for the settings to say.
fn refused_stream(error: &hyper::Error) -> bool {
    said(error).is_some_and(|it| it.is_reset() && it.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Whether the upstream went away naming a last stream below ours, and so vouches that it did not process the
/// request (`h2` gives the error of a received GOAWAY to no other stream).
/// A GOAWAY that complains of an error vouches for nothing: its sender was confused.
fn went_away(error: &hyper::Error) -> bool {
    said(error).is_some_and(|it| it.is_go_away() && it.reason() == Some(h2::Reason::NO_ERROR))
}

/// What the other side said of the stream or the connection.
fn said(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return Some(h2).filter(|it| it.is_remote());
        }
        cause = error.source();
    }
    None
}
