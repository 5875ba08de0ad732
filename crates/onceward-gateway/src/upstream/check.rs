//! Asks each upstream now and then whether it is well.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use http::header::USER_AGENT;
use http::{HeaderValue, Request};
use http_body::Body as _;
use onceward_http::Body;
use tokio::time::Instant;

use super::exchange::{Asked, Exchange};
use super::node::Node;
use super::set::Set;
use super::{PassThrough, Shared};

/// Checks every upstream of `set` until its time is over, each on its own.
pub(super) fn start(shared: &Arc<Shared>, set: &Arc<Set>) {
    let Some(path) = &set.settings.check else { return };
    for node in &set.nodes {
        let (shared, set, node, path) = (Arc::clone(shared), Arc::clone(set), Arc::clone(node), path.clone());
        let over = set.checks.clone();
        shared
            .tracker
            .clone()
            .spawn(async move { over.run_until_cancelled_owned(check_on(shared, set, node, path)).await });
    }
}

async fn check_on(shared: Arc<Shared>, set: Arc<Set>, node: Arc<Node>, path: String) {
    let mut due = Instant::now();
    loop {
        tokio::time::sleep_until(due).await;
        let asked = tokio::time::timeout(set.settings.check_timeout, is_well(&shared, &set, &node, &path));
        let well = asked.await.unwrap_or(false);
        let changed = shared.roster().checked(node.id, well, Instant::now());
        shared.tell(&node, changed);
        due = (due + set.settings.check_every).max(Instant::now());
    }
}

async fn is_well(shared: &Shared, set: &Set, node: &Node, path: &str) -> bool {
    let request = Request::get(path).extension(PassThrough).body(Body::empty());
    let mut request = request.expect("the path was checked with the settings");
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("onceward-check"));
    let asked = Asked::new(request, set.settings.protocol);
    let exchange = Exchange {
        asked: &asked,
        settings: &set.settings,
        names: &shared.names,
        dial: &shared.dial,
        progress: &asked.progress,
    };
    let Ok((response, _stream)) = node.send(exchange).await else { return false };
    let well = response.status().is_success() || response.status().is_redirection();
    // Read to its end the connection can be used again.
    let mut body = response.into_body();
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
    well
}
