//! What the upstream says on each path.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;

use super::State;
use crate::client::{Body, block, empty, full};
use crate::{Result, Trouble};

pub(super) async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>> {
    match request.uri().path() {
        "/fast" => fast(&state, request).await,
        "/hang" => {
            let hanging = Hanging::new(&state);
            let mut generation = state.generation.subscribe();
            generation.changed().await?;
            drop(hanging);
            fast(&state, request).await
        }
        "/sink" => sink(&state, request).await,
        "/echo" => Ok(echo(request)),
        "/sse" => Ok(events(number(&request, "seconds="))),
        "/big" => Ok(big(number(&request, "blocks="))),
        "/upgrade" => Ok(upgrade(&state, request)),
        path => {
            let seen = format!("{} {path}", request.method());
            state.strange.lock().expect("no holder panics").insert(seen);
            Ok(with_status(StatusCode::NOT_FOUND, empty()))
        }
    }
}

/// Counts a request that hangs, also when its caller leaves.
struct Hanging<'a>(&'a State);

impl<'a> Hanging<'a> {
    fn new(state: &'a State) -> Self {
        state.hanging.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn fast(state: &State, request: Request<Incoming>) -> Result<Response<Body>> {
    let sent = request.into_body().collect().await?.to_bytes();
    let serial = state.serial.fetch_add(1, Ordering::Relaxed);
    let text =
        format!(r#"{{"serial":{serial},"sent":"{}"}}"#, String::from_utf8_lossy(&sent).escape_default());
    let mut response = Response::new(full(text));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    Ok(response)
}

async fn sink(state: &State, request: Request<Incoming>) -> Result<Response<Body>> {
    let mut hash = (request.uri().query() != Some("plain")).then(blake3::Hasher::new);
    let (mut body, mut length) = (request.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len() as u64;
        state.sunk.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(hash) = &mut hash {
            hash.update(&data);
        }
    }
    let hash = hash.map_or_else(String::new, |it| it.finalize().to_hex().to_string());
    Ok(Response::new(full(format!("{length} {hash}"))))
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get("content-type").cloned();
    let data = request.into_body().into_data_stream().map(|it| it.map(Frame::data).map_err(Trouble::from));
    let end =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    let trailers = stream::iter([Ok(Frame::trailers(end))]);
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(data.chain(trailers))));
    if let Some(kind) = kind {
        response.headers_mut().insert("content-type", kind);
    }
    response
}

fn events(seconds: u64) -> Response<Body> {
    let ticks = tokio::time::interval(Duration::from_millis(100));
    let events = stream::unfold((0, ticks), move |(number, mut ticks)| async move {
        if number == seconds * 10 {
            return None;
        }
        ticks.tick().await;
        Some((Ok(Frame::data(Bytes::from(format!("data: {number}\n\n")))), (number + 1, ticks)))
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(events)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    response
}

fn big(blocks: u64) -> Response<Body> {
    let stream = stream::iter(0..blocks).map(|it| Ok(Frame::data(block(it))));
    Response::new(BodyExt::boxed_unsync(StreamBody::new(stream)))
}

fn upgrade(state: &State, mut request: Request<Incoming>) -> Response<Body> {
    let upgraded = hyper::upgrade::on(&mut request);
    state.tracker.spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        // The caller checks what comes back.
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut to).await;
    });
    let mut response = with_status(StatusCode::SWITCHING_PROTOCOLS, empty());
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    response
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The number behind `name` at the start of the query; 1 without one.
fn number(request: &Request<Incoming>, name: &str) -> u64 {
    let query = request.uri().query().and_then(|it| it.strip_prefix(name));
    query.and_then(|it| it.parse().ok()).unwrap_or(1)
}
