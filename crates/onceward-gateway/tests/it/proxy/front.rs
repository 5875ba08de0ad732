//! A real server in front of the proxy, as the gateway has one.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use onceward_gateway::ClientAddr;
use tokio::net::TcpListener;

use super::*;
pub(super) use crate::raw::Raw;

/// Serves `upstream` over HTTP/1.1 and h2c; every request passes through.
pub(super) async fn serve(upstream: Upstream) -> SocketAddr {
    serve_marked(upstream, Some(PassThrough)).await
}

/// Serves `upstream`; without the mark every request is an operation.
pub(super) async fn serve_marked(upstream: Upstream, mark: Option<PassThrough>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let connections = tasks.clone();
    tasks.spawn(async move {
        while let Ok((stream, client)) = listener.accept().await {
            let upstream = upstream.clone().map_request(move |mut it: Request<hyper::body::Incoming>| {
                mark.map(|mark| it.extensions_mut().insert(mark));
                it.extensions_mut().insert(ClientAddr(client));
                it.map(Body::stream)
            });
            connections.spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let service = TowerToHyperService::new(upstream);
                let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    addr
}
