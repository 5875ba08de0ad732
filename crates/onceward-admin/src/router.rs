//! Which page is where.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use onceward_core::Engine;
use serde::Serialize;

use crate::answer::AnswerWriter;
use crate::auth;
use crate::doctor::Doctor;
use crate::health::StoreHealth;
use crate::metrics::Metrics;
use crate::openapi;
use crate::pages::{API, PAGES};
use crate::problem::Problem;
use crate::reload::Reload;
use crate::token::Token;
use crate::upstreams::Upstreams;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// The engine whose records are shown.
    pub engine: Engine,
    /// What `/metrics` shows, and the build that `/healthz` names.
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
    /// Takes over changed settings.
    pub reload: Reload,
    /// Looks for what is to be put right.
    pub doctor: Doctor,
    /// Tells what the upstreams are like, on their page and in the metrics.
    pub upstreams: Upstreams,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) admin: AdminState,
    pub(crate) health: StoreHealth,
    /// The OpenAPI document.
    pub(crate) document: String,
}

/// All pages over `state`.
pub fn router(state: AdminState) -> Router {
    state.metrics.show_upstreams(state.upstreams.clone());
    let document = openapi::document(&state.metrics.build().version).to_string();
    let shared = Arc::new(Shared { admin: state, health: StoreHealth::default(), document });
    let (mut open, mut api) = (Router::new(), Router::new());
    for page in PAGES {
        if page.token {
            let path = page.path.strip_prefix(API).expect("pages with a token are below the API");
            api = api.route(path, (page.handler)());
        } else {
            open = open.route(page.path, (page.handler)());
        }
    }
    let api = api
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_page)
        // Last, so that it stands before the fallbacks, too: without the token nobody learns what is there.
        .layer(from_fn_with_state(Arc::clone(&shared), auth::require_token));
    open.method_not_allowed_fallback(no_such_method).nest(API, api).fallback(no_such_page).with_state(shared)
}

/// A JSON page that nobody keeps.
pub(crate) fn json_page(value: &impl Serialize) -> Response {
    json_text(serde_json::to_string(value).expect("pages are plain JSON"))
}

/// The same of JSON text.
pub(crate) fn json_text(text: String) -> Response {
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
