//! An HTTP/2 upstream that does to each stream what a test tells it to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use h2::Reason;
use h2::server::SendResponse;
use tokio::net::TcpListener;

use super::*;

/// What happens to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// Its body is read and it is answered.
    Answer,
    /// REFUSED_STREAM at once.
    Refuse,
    /// REFUSED_STREAM once the body is read.
    ReadAndRefuse,
    /// CANCEL.
    Reset,
    /// The connection is closed.
    Close,
    /// Nothing, until the test says so; then it is answered.
    Wait,
    /// GOAWAY that names it as the last; then as `Wait`.
    GoAwayAndWait,
}

pub(super) struct H2Peer {
    addr: SocketAddr,
    streams: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    /// Answers what waits.
    pub(super) go: CancellationToken,
}

impl H2Peer {
    /// `deed` gets the numbers of the connection and of the stream on it, both from zero.
    pub(super) async fn start(deed: impl Fn(usize, usize) -> Deed + Clone + Send + 'static) -> Self {
        Self::allowing(100, deed).await
    }

    /// As [`H2Peer::start`], with at most `streams` at a time on each connection.
    pub(super) async fn allowing(
        streams: u32,
        deed: impl Fn(usize, usize) -> Deed + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = Self {
            addr: listener.local_addr().unwrap(),
            streams: Arc::default(),
            connections: Arc::default(),
            bodies: Arc::default(),
            go: CancellationToken::new(),
        };
        let (seen, connections) = (Arc::clone(&peer.streams), Arc::clone(&peer.connections));
        let (bodies, go) = (Arc::clone(&peer.bodies), peer.go.clone());
        let tasks = TaskTracker::new();
        let peers = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (deed, seen, bodies, go) =
                    (deed.clone(), Arc::clone(&seen), Arc::clone(&bodies), go.clone());
                let tasks = peers.clone();
                peers.spawn(async move {
                    let built =
                        h2::server::Builder::new().max_concurrent_streams(streams).handshake(stream).await;
                    let Ok(mut connection) = built else { return };
                    let mut index = 0;
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        seen.fetch_add(1, Ordering::SeqCst);
                        let deed = deed(number, index);
                        index += 1;
                        match deed {
                            Deed::Close => return,
                            Deed::GoAwayAndWait => connection.graceful_shutdown(),
                            _ => {}
                        }
                        tasks.spawn(serve(request, respond, deed, Arc::clone(&bodies), go.clone()));
                    }
                    let _ = std::future::poll_fn(|cx| connection.poll_closed(cx)).await;
                });
            }
        });
        peer
    }

    pub(super) fn url(&self) -> http::Uri {
        format!("http://{}", self.addr).parse().unwrap()
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Of the requests that were answered.
    pub(super) fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().unwrap().clone()
    }

    /// Settings for this peer alone.
    pub(super) fn settings(&self) -> UpstreamSettings {
        let mut settings = UpstreamSettings::new(self.url());
        settings.protocol = onceward_gateway::Protocol::H2c;
        settings
    }
}

async fn serve(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    deed: Deed,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    go: CancellationToken,
) {
    if deed == Deed::Refuse {
        return respond.send_reset(Reason::REFUSED_STREAM);
    }
    let mut body = request.into_body();
    let mut read = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        read.extend_from_slice(&piece);
    }
    match deed {
        Deed::ReadAndRefuse => return respond.send_reset(Reason::REFUSED_STREAM),
        Deed::Reset => return respond.send_reset(Reason::CANCEL),
        Deed::Wait | Deed::GoAwayAndWait => go.cancelled().await,
        Deed::Answer | Deed::Refuse | Deed::Close => {}
    }
    bodies.lock().unwrap().push(read.into());
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data("ok".into(), true);
    }
}
