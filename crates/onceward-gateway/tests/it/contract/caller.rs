//! Who calls the gateway: requests, answers, and connections that can be left at any moment.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use onceward_http::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Lines;
use crate::raw::Raw;
use crate::scripted::within;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    H1,
    H2c,
}

/// Somebody who knows where a server is. Each request goes over a connection of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) addr: SocketAddr,
    pub(crate) wire: Wire,
}

impl Caller {
    /// The same, speaking something else.
    pub(crate) fn speaking(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    pub(crate) async fn connect(self) -> Line {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Line::over(stream, self.wire, "http").await
    }

    /// Sends a request and reads its answer to the end. Dropping the future closes the connection.
    pub(crate) fn send(self, ask: Ask) -> impl Future<Output = Got> + Send + 'static {
        Box::pin(within(async move {
            let mut line = self.connect().await;
            Got::read(line.send(ask).await.unwrap()).await
        }))
    }

    /// Like [`send`](Self::send), but on a task that goes on by itself.
    pub(crate) fn send_aside(self, ask: Ask) -> Aside {
        let mut task = JoinSet::new();
        task.spawn(self.send(ask));
        Aside(task)
    }

    pub(crate) async fn raw(self) -> Raw {
        Raw::connect(self.addr).await
    }
}

/// A request that runs aside.
pub(crate) struct Aside(JoinSet<Got>);

impl Aside {
    pub(crate) async fn got(mut self) -> Got {
        within(self.0.join_next()).await.expect("one task").unwrap()
    }
}

/// One connection. Dropping it closes it.
pub(crate) struct Line {
    sender: Sender,
    wire: Wire,
    scheme: &'static str,
    driver: JoinSet<hyper::Result<()>>,
}

enum Sender {
    H1(http1::SendRequest<Body>),
    H2c(http2::SendRequest<Body>),
}

impl Line {
    /// On a stream that is there already.
    pub(crate) async fn over<S>(stream: S, wire: Wire, scheme: &'static str) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        let sender = match wire {
            Wire::H1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                driver.spawn(connection);
                Sender::H1(sender)
            }
            Wire::H2c => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
                driver.spawn(connection);
                Sender::H2c(sender)
            }
        };
        Self { sender, wire, scheme, driver }
    }

    /// Sends a request; resolves at the head of its answer. Dropping the future of an HTTP/2 request resets
    /// its stream and leaves the connection open.
    pub(crate) fn send(
        &mut self,
        ask: Ask,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + Send + 'static + use<> {
        let request = ask.request(self.wire, self.scheme);
        let answer: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = match &mut self.sender {
            Sender::H1(it) => Box::pin(it.send_request(request)),
            Sender::H2c(it) => Box::pin(it.send_request(request)),
        };
        answer
    }

    /// Waits until the connection has ended.
    pub(crate) async fn ended(mut self) -> hyper::Result<()> {
        within(self.driver.join_next()).await.expect("one driver").unwrap()
    }

    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(it) => it.is_closed(),
            Sender::H2c(it) => it.is_closed(),
        }
    }
}

/// A request to send.
pub(crate) struct Ask {
    method: Method,
    target: String,
    host: String,
    headers: HeaderMap,
    body: Body,
}

pub(crate) fn ask(method: &str, target: &str) -> Ask {
    Ask {
        method: method.parse().unwrap(),
        target: target.to_owned(),
        host: "api.test".to_owned(),
        headers: HeaderMap::new(),
        body: Body::empty(),
    }
}

pub(crate) fn post(target: &str) -> Ask {
    ask("POST", target)
}

/// A payment of 12 with this key.
pub(crate) fn pay(key: &str) -> Ask {
    post("/payments").key(key).body(r#"{"amount":12}"#)
}

/// What [`pay`] asks, but with another amount.
pub(crate) fn pay_other(key: &str) -> Ask {
    post("/payments").key(key).body(r#"{"amount":13}"#)
}

impl Ask {
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    /// Adds a line.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    pub(crate) fn lines(self, lines: Lines) -> Self {
        lines.iter().fold(self, |it, (name, value)| it.header(name, value))
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    fn request(self, wire: Wire, scheme: &str) -> Request<Body> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        *request.uri_mut() = match wire {
            Wire::H1 => {
                request.headers_mut().insert(HOST, self.host.parse().unwrap());
                self.target.parse().unwrap()
            }
            Wire::H2c => format!("{scheme}://{}{}", self.host, self.target).parse().unwrap(),
        };
        request
    }
}

/// An answer as the caller got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Got {
    pub(crate) async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let whole = within(body.collect()).await.expect("an answer comes whole");
        let trailers = whole.trailers().cloned();
        Self { status: head.status, headers: head.headers, body: whole.to_bytes(), trailers }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().unwrap())
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|it| it.to_str().unwrap()).collect()
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last segment of the problem's type; `None` when this is no problem body.
    pub(crate) fn problem(&self) -> Option<String> {
        (self.header("content-type")? == "application/problem+json").then(|| {
            let json = self.json();
            assert_eq!(json["status"], self.status.as_u16());
            json["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap().to_owned()
        })
    }

    /// Asserts that this is the problem `code` with `status`.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.problem().as_deref()), (status, Some(code)), "{self:?}");
    }

    /// Asserts that this is the upstream's own answer, not repeated from anywhere.
    #[track_caller]
    pub(crate) fn assert_first(&self, status: u16) {
        let found = (self.status.as_u16(), self.is_replay(), self.problem());
        assert_eq!(found, (status, false, None), "{self:?}");
    }

    /// Asserts that this is a replay of the upstream's answer.
    #[track_caller]
    pub(crate) fn assert_replay(&self, status: u16) {
        assert_eq!((self.status.as_u16(), self.is_replay()), (status, true), "{self:?}");
    }
}
