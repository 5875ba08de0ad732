//! Taking over changed settings while the process runs.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::audit::Audit;
use crate::body;
use crate::operator::Operator;
use crate::params::Params;
use crate::problem::Problem;
use crate::router::{Shared, json_page};

/// What a reload took over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The names of the settings that have changed, such as `routes` or `upstream.url`; empty when none has.
    pub changed: Vec<String>,
    /// What is in force now and should be looked at, in whole sentences.
    pub warnings: Vec<String>,
}

/// Why one setting cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The name of the setting; `None` where the file as a whole cannot be used.
    pub setting: Option<String>,
    /// What is wrong with it and what to do. Must hold no secret.
    pub says: String,
}

/// Why nothing was taken over. The old settings stay in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadRefused {
    /// The process was started without a settings file.
    NoFile,
    /// The file was read and refused.
    Refused(Vec<Refusal>),
}

type Told = Pin<Box<dyn Future<Output = Result<Reloaded, ReloadRefused>> + Send>>;

/// Reads the settings again and takes them over, as a whole or not at all. Whoever wires the process brings it.
///
/// Whatever is reloaded on a signal should run the same function, and that function counts
/// ([`Metrics::reloaded`](crate::Metrics::reloaded)) and takes one reload at a time. Its future is dropped
/// when the client leaves: it must then have taken over everything or nothing.
#[derive(Clone)]
pub struct Reload {
    run: Arc<dyn Fn() -> Told + Send + Sync>,
}

impl Reload {
    /// Reloads by calling `run`.
    #[must_use]
    pub fn new<F>(run: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Reloaded, ReloadRefused>> + Send + 'static,
    {
        Self { run: Arc::new(move || Box::pin(run())) }
    }

    /// Nothing to reload: every request is refused with [`ReloadRefused::NoFile`].
    #[must_use]
    pub fn none() -> Self {
        Self::new(|| std::future::ready(Err(ReloadRefused::NoFile)))
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// `POST /api/v1/reload`
pub(crate) async fn reload(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut audit = Audit::new("reload", &parts.extensions);
    let told = async {
        audit.operator = Operator::of(&parts.headers)?;
        Params::of(&parts.uri)?.finish()?;
        body::none(body, &**shared.admin.engine.clock()).await?;
        (shared.admin.reload.run)().await.map_err(|it| match it {
            ReloadRefused::NoFile => Problem::NoSettingsFile,
            ReloadRefused::Refused(refusals) => Problem::ReloadRefused(refusals),
        })
    }
    .await;
    audit.write(told.as_ref().map_or_else(Problem::code, |_| "done"));
    told.map_or_else(IntoResponse::into_response, |it| json_page(&it))
}
