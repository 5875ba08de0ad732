//! A real server behind TLS that speaks what was agreed on, and remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::Version;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a request looked like behind TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) version: Version,
    /// The name that the client asked for in its handshake.
    pub(crate) sni: Option<String>,
    /// The host that it asked for in its request.
    pub(crate) host: String,
    pub(crate) body: Bytes,
    pub(crate) connection: usize,
}

pub(crate) struct TlsPeer {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    handshakes: Arc<Mutex<Vec<Option<String>>>>,
}

impl TlsPeer {
    pub(crate) async fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (asked, handshakes) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (log, failed) = (Arc::clone(&asked), Arc::clone(&handshakes));
        let tasks = TaskTracker::new();
        let peers = tasks.clone();
        tasks.spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                let (config, log, failed) = (Arc::clone(&config), Arc::clone(&log), Arc::clone(&failed));
                peers.spawn(async move {
                    let stream = match TlsAcceptor::from(config).accept(stream).await {
                        Ok(stream) => stream,
                        Err(error) => return failed.lock().unwrap().push(Some(error.to_string())),
                    };
                    failed.lock().unwrap().push(None);
                    let sni = stream.get_ref().1.server_name().map(str::to_owned);
                    let service =
                        service_fn(move |request| answer(request, sni.clone(), connection, Arc::clone(&log)));
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { addr, asked, handshakes }
    }

    /// Its URL under this name.
    pub(crate) fn url(&self, host: &str) -> http::Uri {
        format!("https://{host}:{}", self.addr.port()).parse().unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How each handshake ended: None is well.
    pub(crate) fn handshakes(&self) -> Vec<Option<String>> {
        self.handshakes.lock().unwrap().clone()
    }
}

async fn answer(
    mut request: Request<hyper::body::Incoming>,
    sni: Option<String>,
    connection: usize,
    log: Arc<Mutex<Vec<Asked>>>,
) -> Result<Response<Body>, Infallible> {
    let host = request.headers().get("host").map(|it| it.to_str().unwrap().to_owned());
    let host = host.or_else(|| request.uri().authority().map(ToString::to_string)).unwrap();
    let version = request.version();
    let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    log.lock().unwrap().push(Asked { version, sni, host, body, connection });
    let Some(upgrade) = upgrade else { return Ok(Response::new(Body::from("ok"))) };
    let tasks = TaskTracker::new();
    tasks.spawn(async move {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        let _ = tokio::io::copy(&mut read, &mut write).await;
    });
    let switched =
        Response::builder().status(101).header("connection", "upgrade").header("upgrade", "websocket");
    Ok(switched.body(Body::empty()).unwrap())
}
