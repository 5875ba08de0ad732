//! A real server in front of the proxy, as the gateway has one.

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use onceward_gateway::ClientAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

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

/// A client that writes and reads raw bytes.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until what came ends with `end`, and gives all of it.
    pub(super) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        within(async {
            while !read.ends_with(end.as_bytes()) {
                let seen = String::from_utf8_lossy(&read).into_owned();
                assert!(self.0.read_buf(&mut read).await.unwrap() > 0, "it ended with {seen:?}");
            }
        })
        .await;
        String::from_utf8(read).unwrap()
    }

    /// Reads until the other side closes.
    pub(super) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        within(self.0.read_to_end(&mut read)).await.unwrap();
        String::from_utf8(read).unwrap()
    }
}
