//! Health pages: does the process live, does it serve, does its store answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::sync::Mutex;

use crate::router::{AdminState, Shared, json_page};

/// How long a page waits for the store: less than the second that Kubernetes gives a probe.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long one check serves everybody, so that nobody without a token can make work for the store.
const FRESH: Duration = Duration::from_secs(1);

/// The last check of the store. Whoever asks meanwhile waits for the check under way.
#[derive(Debug, Default)]
pub(crate) struct StoreHealth {
    last: Mutex<Option<(Duration, bool)>>,
}

impl StoreHealth {
    /// Whether the store answers. Dropping the future leaves the check to the next who asks.
    async fn is_up(&self, admin: &AdminState) -> bool {
        let clock = admin.engine.clock();
        let mut last = self.last.lock().await;
        if let Some((checked, up)) = *last
            && clock.boot().saturating_sub(checked) < FRESH
        {
            return up;
        }
        let up = tokio::select! {
            biased;
            checked = admin.engine.store().check() => checked.is_ok(),
            () = clock.sleep(PATIENCE) => false,
        };
        *last = Some((clock.boot(), up));
        admin.metrics.store_is_up(up);
        up
    }
}

/// The media type of the metrics page.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /healthz`: the process lives. Never asks the store, so that an outage restarts nobody.
pub(crate) async fn alive(State(shared): State<Arc<Shared>>) -> Response {
    let build = shared.admin.metrics.build();
    json_page(&json!({ "alive": true, "version": build.version, "commit": build.commit }))
}

/// `GET /readyz`: whether to send requests here.
pub(crate) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let admin = &shared.admin;
    let up = shared.health.is_up(admin).await;
    let draining = admin.draining.load(Ordering::Acquire);
    let ready = !draining && (up || !admin.ready_requires_store);
    let mut page = json_page(&json!({
        "ready": ready,
        "draining": draining,
        "store": if up { "up" } else { "down" },
    }));
    if !ready {
        *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    page
}

/// `GET /metrics`
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    shared.health.is_up(&shared.admin).await;
    let mut page = shared.admin.metrics.page().into_response();
    let kind = HeaderValue::from_static(OPEN_METRICS);
    page.headers_mut().insert(CONTENT_TYPE, kind);
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
