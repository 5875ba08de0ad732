//! A real server behind the gateway that notes every request: each one is an effect.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use onceward_http::Body;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Lines;

/// What a handler says: a response, or no response and the end of the stream or connection.
pub(crate) type Reply = Result<Response<Body>, Cut>;

type Handled = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Handled + Send + Sync>;

/// The server ends the exchange without a whole answer.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// A request as the server got it, whole.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: Parts,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|it| it.to_str().unwrap())
    }

    /// The path and query as they were sent.
    pub(crate) fn target(&self) -> &str {
        self.head.uri.path_and_query().unwrap().as_str()
    }

    /// The host as either protocol says it.
    pub(crate) fn host(&self) -> &str {
        self.head.uri.authority().map_or_else(|| self.header("host").unwrap(), |it| it.as_str())
    }
}

/// The server: HTTP/1.1 and h2c on one port.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    pub(crate) async fn start<F>(handler: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::on("127.0.0.1:0".parse().unwrap(), handler).await
    }

    /// Starts on a certain address.
    pub(crate) async fn on<F>(addr: SocketAddr, handler: impl Fn(Seen) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let origin = Self { addr, seen: Arc::default(), connections: Arc::default() };
        let (note, handler) = (Arc::clone(&origin.seen), Arc::new(handler));
        let noting = move |request: Request<Incoming>| -> Handled {
            let (note, handler) = (Arc::clone(&note), Arc::clone(&handler));
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let whole = body.collect().await.map_err(|_| Cut)?;
                let trailers = whole.trailers().cloned();
                let seen = Seen { head, body: whole.to_bytes(), trailers };
                note.lock().unwrap().push(seen.clone());
                handler(seen).await
            })
        };
        origin.serve(Arc::new(noting)).await
    }

    /// A server whose handler reads the request itself; nothing is noted.
    pub(crate) async fn streaming<F>(handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let origin =
            Self { addr: "127.0.0.1:0".parse().unwrap(), seen: Arc::default(), connections: Arc::default() };
        origin.serve(Arc::new(move |it| Box::pin(handler(it)))).await
    }

    /// Somebody else listens there.
    pub(crate) fn elsewhere(addr: SocketAddr) -> Self {
        Self { addr, seen: Arc::default(), connections: Arc::default() }
    }

    async fn serve(self, handler: Handler) -> Self {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (tasks, count) = (TaskTracker::new(), Arc::clone(&self.connections));
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                let handler = Arc::clone(&handler);
                connections.spawn(async move {
                    let service = service_fn(move |request| handler(request));
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { addr, ..self }
    }

    /// How many requests came in whole.
    pub(crate) fn effects(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("something was sent to the upstream")
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_effects(&self, count: usize) {
        crate::scripted::until(|| self.effects() >= count).await;
    }
}

/// A whole response.
pub(crate) fn reply(status: u16, lines: Lines, body: impl Into<Body>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in lines {
        response.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    Ok(response)
}

/// A handler that answers `201 paid`.
pub(crate) async fn paid(_: Seen) -> Reply {
    reply(201, &[], "paid")
}

/// A handler that always answers the same.
pub(crate) fn always(
    status: u16,
    lines: Lines,
    body: &'static [u8],
) -> impl Fn(Seen) -> std::future::Ready<Reply> + Send + Sync {
    move |_| std::future::ready(reply(status, lines, Bytes::from_static(body)))
}

/// A handler that stands at a turnstile before it answers `201 paid`.
pub(crate) fn paid_after(turnstile: &Arc<Semaphore>) -> impl Fn(Seen) -> Handled + Send + Sync + use<> {
    let turnstile = Arc::clone(turnstile);
    move |_| {
        let turnstile = Arc::clone(&turnstile);
        Box::pin(async move {
            turnstile.acquire().await.unwrap().forget();
            reply(201, &[], "paid")
        })
    }
}

/// A turnstile that nobody has passed yet.
pub(crate) fn turnstile() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// A body that comes in pieces, and the hand that feeds it; `abort` cuts it.
pub(crate) fn fed() -> (Sender<Bytes, Cut>, Body) {
    let (sender, body) = Channel::new(1);
    (sender, Body::stream(body))
}

/// A body in pieces, of no known length.
pub(crate) fn pieces(pieces: &'static [&'static str]) -> Body {
    let (mut sender, body) = fed();
    TaskTracker::new().spawn(async move {
        for piece in pieces {
            if sender.send_data(Bytes::from_static(piece.as_bytes())).await.is_err() {
                return;
            }
        }
    });
    body
}

/// A body that is cut after `part`.
pub(crate) fn cut_after(part: &'static str) -> Body {
    let (mut sender, body) = fed();
    TaskTracker::new().spawn(async move {
        let _ = sender.send_data(Bytes::from_static(part.as_bytes())).await;
        sender.abort(Cut);
    });
    body
}
