//! The pages that commands show which are no gateway: metrics, and that the process is there.

use std::net::SocketAddr;

use http::header::CONTENT_TYPE;
use onceward_gateway::settings::reasons;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::queue::Failed;
use crate::exit::Exit;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Shows the metrics of this process until it ends.
pub(super) async fn serve(
    address: SocketAddr,
    metrics: impl Fn() -> String + Clone + Send + Sync + 'static,
    tracker: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<(), Failed> {
    let listener = TcpListener::bind(address).await.map_err(|it| {
        (
            Exit::CannotStart,
            format!("--metrics: cannot listen on {address}: {}; choose a free address", reasons(&it)),
        )
    })?;
    let address = listener.local_addr().map_or(address, |it| it);
    tracing::info!(%address, "metrics");
    let page = move || std::future::ready(([(CONTENT_TYPE, OPEN_METRICS)], metrics()));
    let pages = axum::Router::new()
        .route("/metrics", axum::routing::get(page))
        .route("/healthz", axum::routing::get(async || "ok\n"));
    tracker.spawn(async move {
        let serving = axum::serve(listener, pages).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "metrics are served no more");
        }
    });
    Ok(())
}
