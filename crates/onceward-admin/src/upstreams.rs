//! The upstreams as the gateway sees them now.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::params::Params;
use crate::problem::Problem;
use crate::router::{Shared, json_page};

/// Whether requests go to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// They do.
    Up,
    /// They do not, for a while.
    Ejected,
    /// That while is over and one request tries it.
    Trial,
}

/// One upstream at this moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamView {
    /// As the settings name it.
    pub url: String,
    /// Whether requests go there.
    pub state: UpstreamState,
    /// How long it stays ejected; `None` unless it is.
    pub ejected_remaining_seconds: Option<f64>,
    /// Requests under way there.
    pub in_flight: u64,
    /// Failures since the last success.
    pub consecutive_failures: u64,
    /// The kind of the last failure, in a word of the code such as `unreachable`; `None` when there was none.
    pub last_error: Option<String>,
}

/// Tells what the upstreams are like now. Whoever wires the process brings it.
#[derive(Clone)]
pub struct Upstreams {
    look: Arc<dyn Fn() -> Vec<UpstreamView> + Send + Sync>,
}

impl Upstreams {
    /// Tells what `look` tells, in that order. It is called for each page and each scrape and should not
    /// own what owns the [`Metrics`](crate::Metrics): a weak reference keeps nothing open.
    #[must_use]
    pub fn new(look: impl Fn() -> Vec<UpstreamView> + Send + Sync + 'static) -> Self {
        Self { look: Arc::new(look) }
    }

    /// There are none.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new)
    }

    /// All of them now.
    pub(crate) fn look(&self) -> Vec<UpstreamView> {
        (self.look)()
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams")
    }
}

/// `GET /api/v1/upstreams`
pub(crate) async fn upstreams(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    Ok(json_page(&json!({ "upstreams": shared.admin.upstreams.look() })))
}
