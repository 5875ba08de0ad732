//! What a running gateway can say of itself to `onceward doctor`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use onceward_admin::Findings;
use onceward_core::store::Due;
use onceward_core::{Clock as _, Engine, SystemClock};

use crate::doctor::{Facts, State, StoreFacts, TokenLife, check, check_files, look};
use crate::reload::Live;

/// How long the store may take to answer before it counts as down.
const PATIENCE: Duration = Duration::from_secs(3);

type Told = Pin<Box<dyn Future<Output = StoreFacts> + Send>>;

/// What whoever opened the store knows of it, beyond what every store can say.
#[derive(Clone)]
pub struct StoreLook(Arc<dyn Fn() -> Told + Send + Sync>);

impl StoreLook {
    /// Looks by calling `look`, which should change nothing and may be dropped at any time. Whether the store
    /// answers is found out besides, so [`StoreFacts::state`] may stay unknown.
    #[must_use]
    pub fn new<F>(look: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = StoreFacts> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(look())))
    }
}

impl fmt::Debug for StoreLook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreLook")
    }
}

/// Gathers the facts and judges them. Nothing is held while it waits that would keep a stopping gateway open.
pub(crate) async fn examine(live: Weak<Live>, engine: Engine, store: Option<StoreLook>) -> Findings {
    let Some((settings, tokens)) = live.upgrade().map(|it| (it.settings().clone(), it.layer.short_tokens()))
    else {
        return Findings::default();
    };
    let known = match store {
        Some(look) => (look.0)().await,
        None => StoreFacts::default(),
    };
    let facts = Facts {
        now: Some(SystemClock.wall()),
        disk: known.directory.as_deref().and_then(|it| look::disk(it).ok()),
        store: StoreFacts {
            state: state(&engine).await,
            durable: Some(engine.store().traits().durable),
            ..known
        },
        process: look::process(true),
        files: Some(check_files(&settings)),
        upstreams: Some(look::upstreams(&settings).await),
        tokens: tokens.into_iter().map(|it| TokenLife { route: it.route, shortest: it.shortest }).collect(),
        ..Facts::of(settings)
    };
    Findings { findings: check(&facts) }
}

/// Whether the store answers a question that costs it little.
async fn state(engine: &Engine) -> State {
    let store = engine.store();
    if store.traits().name == "memory" {
        return State::Memory;
    }
    match tokio::time::timeout(PATIENCE, store.due(Due::Lease.start(), 1)).await {
        Ok(Ok(_)) => State::Serving,
        Ok(Err(error)) => State::Down { reason: error.to_string() },
        Err(_) => State::Down { reason: format!("no answer within {PATIENCE:?}") },
    }
}
