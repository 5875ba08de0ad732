//! What a look at the running process found, for people who are to put it right.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::Uri;
use serde::{Deserialize, Serialize};

use crate::params::Params;
use crate::problem::Problem;
use crate::router::{Shared, json_page};

/// How bad a finding is. The order is that of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Checked and fine.
    Ok,
    /// Worth knowing; nothing needs to be done.
    Notice,
    /// Works now, and will or may not some day.
    Warning,
    /// Does not do what it is there for.
    Error,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The check, in stable words with hyphens: `retention-vs-retries`.
    pub check: String,
    /// The setting that it is about, as the settings file names it: `policy.retention`.
    pub setting: Option<String>,
    /// What was found, in whole sentences. Holds no secret, key or body.
    pub says: String,
    /// What to do about it; `None` where nothing is to be done.
    pub remedy: Option<String>,
}

/// All findings of one look, as `GET /api/v1/doctor` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Findings {
    /// The worst level; [`Level::Ok`] when nothing was found.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|it| it.level).max().unwrap_or(Level::Ok)
    }
}

type Told = Pin<Box<dyn Future<Output = Findings> + Send>>;

/// Looks at the running process. Whoever wires it brings the rules. What cannot be checked is a finding, too.
#[derive(Clone)]
pub struct Doctor {
    look: Arc<dyn Fn() -> Told + Send + Sync>,
}

impl Doctor {
    /// Looks by calling `look`, which should change nothing and may be dropped at any time.
    #[must_use]
    pub fn new<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Findings> + Send + 'static,
    {
        Self { look: Arc::new(move || Box::pin(look())) }
    }

    /// Knows no checks.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|| std::future::ready(Findings::default()))
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doctor")
    }
}

/// `GET /api/v1/doctor`
pub(crate) async fn doctor(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri)?.finish()?;
    Ok(json_page(&(shared.admin.doctor.look)().await))
}
