//! The reverse proxy: what is sent, how often, and what is said when no answer comes.

mod balance;
pub(crate) mod certificates;
mod checks;
mod ejection;
mod faults;
mod front;
mod h2_peer;
mod h2c;
mod http2;
mod messages;
mod names;
mod observe;
mod pool;
mod reload;
mod several;
mod streaming;
mod tls;
pub(crate) mod tls_peer;
mod tunnel;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use onceward_gateway::{PassThrough, Upstream, UpstreamSettings};
use onceward_http::{Body, Outcome};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::scripted::within;

fn settings(addr: SocketAddr) -> UpstreamSettings {
    UpstreamSettings::new(format!("http://{addr}").parse().unwrap())
}

fn upstream(settings: UpstreamSettings) -> Upstream {
    Upstream::new(settings, TaskTracker::new(), CancellationToken::new()).unwrap()
}

/// An operation with a whole body, as the layer sends it.
fn operation(body: &'static str) -> Request<Body> {
    Request::post("/payments").header("host", "shop.example").body(Body::from(body)).unwrap()
}

fn pass_through(path: &str) -> Request<Body> {
    let request = Request::get(path).header("host", "shop.example").extension(PassThrough);
    request.body(Body::empty()).unwrap()
}

async fn send(upstream: &Upstream, request: Request<Body>) -> Response<Body> {
    within(upstream.clone().oneshot(request)).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes: Bytes = within(response.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Sends and reads to the end, so that the connection is free again.
async fn get(upstream: &Upstream) -> String {
    text(send(upstream, pass_through("/")).await).await
}

fn outcome(response: &Response<Body>) -> (StatusCode, Option<Outcome>) {
    (response.status(), response.extensions().get().copied())
}

const RELEASED: (StatusCode, Option<Outcome>) = (StatusCode::BAD_GATEWAY, Some(Outcome::Release));
const UNRESOLVED: (StatusCode, Option<Outcome>) = (StatusCode::GATEWAY_TIMEOUT, Some(Outcome::Unknown));
