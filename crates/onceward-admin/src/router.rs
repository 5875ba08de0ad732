//! Which page is where, and the listener that serves them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use onceward_core::Engine;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::answer::AnswerWriter;
use crate::health::{self, StoreHealth};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::token::Token;
use crate::{auth, change, records};

/// The longest resolve request: an answer of several MiB in base64.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// The engine whose records are shown.
    pub engine: Engine,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Who may use the API.
    pub token: Token,
    /// Set when the drain begins: `/readyz` answers 503 from then on.
    pub draining: Arc<AtomicBool>,
    /// Whether `/readyz` answers 503 while the store is down. Off by default in the gateway: when all
    /// replicas share a store, taking them all out turns its outage into one of everything else.
    pub ready_requires_store: bool,
    /// Writes the answers that operators give.
    pub answers: AnswerWriter,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) admin: AdminState,
    pub(crate) health: StoreHealth,
}

/// All pages over `state`.
pub fn router(state: AdminState) -> Router {
    let shared = Arc::new(Shared { admin: state, health: StoreHealth::default() });
    let api = Router::new()
        .route("/records", get(records::list))
        .route("/records/{id}", get(records::show).delete(change::remove))
        .route("/records/{id}/resolve", post(change::resolve))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_page)
        // Last, so that it stands before the fallbacks, too: without the token nobody learns what is there.
        .layer(from_fn_with_state(Arc::clone(&shared), auth::require_token));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(no_such_method)
        .nest("/api/v1", api)
        .fallback(no_such_page)
        .with_state(shared)
}

/// Serves `router` on `listener` until `stop` completes and the requests under way are answered.
///
/// # Errors
/// The listener failed for good.
///
/// # Cancel safety
/// Dropping the future closes the listener; a change under way may have been made or not.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// A JSON page that nobody keeps.
pub(crate) fn json_page(value: &impl Serialize) -> Response {
    let text = serde_json::to_string(value).expect("pages are plain JSON");
    let mut page = text.into_response();
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}

async fn no_such_page() -> Problem {
    Problem::NoSuchPage
}

async fn no_such_method() -> Problem {
    Problem::NoSuchMethod
}
