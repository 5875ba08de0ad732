//! One HTTP call over a connection of its own: for the admin API and for the demo's story.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The value of a header, as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The URL is not `http://HOST:PORT/…`.
    #[error("`{0}` is no http:// URL")]
    Url(String),
    /// Nobody answers there.
    #[error("cannot connect to {0}")]
    Connect(String, #[source] std::io::Error),
    /// The connection broke before the whole reply was here.
    #[error("the connection broke before the answer")]
    Broken(#[source] hyper::Error),
    /// No whole reply in time.
    #[error("no answer within {0:?}")]
    TimeOut(Duration),
}

/// Sends one request and reads the whole reply, within `patience`. Dropping the future closes the connection.
pub(crate) async fn call(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    patience: Duration,
) -> Result<Reply, CallError> {
    tokio::time::timeout(patience, exchange(method, url, headers, body.into()))
        .await
        .map_err(|_| CallError::TimeOut(patience))?
}

async fn exchange(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Reply, CallError> {
    let bad = || CallError::Url(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(bad)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut request = Request::builder()
        .method(method)
        .uri(if path.is_empty() { "/" } else { path })
        .header(HOST, authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).map_err(|_| bad())?;
    let stream = TcpStream::connect(&address).await.map_err(|it| CallError::Connect(address, it))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(CallError::Broken)?;
    let receive = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    };
    // The connection is driven here, so that it ends with this future.
    tokio::select! {
        reply = receive => reply.map_err(CallError::Broken),
        Err(error) = connection => Err(CallError::Broken(error)),
    }
}
