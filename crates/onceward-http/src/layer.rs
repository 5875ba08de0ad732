//! The layer: what all its services share, and how it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use onceward_core::Engine;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;

use crate::cors::CorsPolicy;
use crate::crowd::Crowd;
use crate::route::Routes;
use crate::service::Idempotency;
use crate::token::ShortTokens;

/// How many operations of one principal may be in flight at once, unless it is set otherwise.
pub const KEYS_IN_FLIGHT: usize = 1000;

/// Makes the operations of a service safe to repeat.
///
/// Clones share the engine, the routes and the running work.
#[derive(Debug, Clone)]
pub struct IdempotencyLayer {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    routes: RwLock<Arc<Routes>>,
    cors: RwLock<Option<Arc<CorsPolicy>>>,
    store_patience: RwLock<Duration>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) tasks: TaskTracker,
    pub(crate) abort: CancellationToken,
    draining: AtomicBool,
}

impl IdempotencyLayer {
    /// A layer over `engine` that judges requests by `routes`.
    #[must_use]
    pub fn new(engine: Engine, routes: Routes) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                routes: RwLock::new(Arc::new(routes)),
                cors: RwLock::default(),
                store_patience: RwLock::new(Duration::from_secs(60)),
                crowd: Arc::new(Crowd::new(KEYS_IN_FLIGHT)),
                tasks: TaskTracker::new(),
                abort: CancellationToken::new(),
                draining: AtomicBool::new(false),
            }),
        }
    }

    /// How long a caller waits from now on for its answer to be stored before it is told that it could not be.
    /// Storing goes on after that. Default 60 s.
    pub fn set_store_patience(&self, patience: Duration) {
        *self.shared.store_patience.write().unwrap_or_else(PoisonError::into_inner) = patience;
    }

    /// Lets one principal have at most `keys_max` operations in flight from now on; 0 sets no bound. Default
    /// [`KEYS_IN_FLIGHT`]. Beyond it a request is refused with 429 before anything is claimed.
    ///
    /// In flight is every operation whose caller is known: while its body is read, while it waits for a first
    /// attempt, and while it runs, with its caller or without. Replays count for the moment that they take. The
    /// anonymous principal has no bound: it is many callers. What is in flight goes on.
    pub fn set_keys_in_flight(&self, keys_max: usize) {
        self.shared.crowd.set_places_max(keys_max);
    }

    /// How many principals have operations in flight, without the anonymous one.
    #[must_use]
    pub fn principals_in_flight(&self) -> usize {
        self.shared.crowd.principals()
    }

    /// Judges requests by `routes` from now on. What runs goes on under the policy it began with.
    ///
    /// Routes that change who is who make retries run again: see
    /// [`identity_changes`](crate::identity_changes) before.
    pub fn set_routes(&self, routes: Routes) {
        *self.shared.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
    }

    /// The routes whose callers' tokens end before the answers that they were given, as far as was seen since the
    /// routes were set. For whoever advises operators.
    #[must_use]
    pub fn short_tokens(&self) -> Vec<ShortTokens> {
        self.shared.routes().short_tokens()
    }

    /// Lets web pages read the layer's own answers as `policy` says from now on. Default: `None`, nothing about
    /// origins is added, changed or left out.
    pub fn set_cors(&self, policy: Option<CorsPolicy>) {
        *self.shared.cors.write().unwrap_or_else(PoisonError::into_inner) = policy.map(Arc::new);
    }

    /// Refuses operations with 503 from now on, repeats too: they are told to ask again, and another process
    /// will answer. What runs goes on, and other requests pass through.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until no operation runs any more, claimed or unprotected. Call [`drain`](Self::drain) first.
    pub async fn idle(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// How many operations run now, those included that run unprotected under `fail_open`.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.tasks.len()
    }

    /// Abandons every operation that still runs: its record is unresolved at once. What runs unprotected has no
    /// record and is dropped. Returns when that is
    /// written; bound it, since the store may be away.
    pub async fn abort(&self) {
        self.shared.abort.cancel();
        self.idle().await;
    }
}

impl Shared {
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn cors(&self) -> Option<Arc<CorsPolicy>> {
        self.cors.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn store_patience(&self) -> Duration {
        *self.store_patience.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Idempotency { inner, shared: Arc::clone(&self.shared) }
    }
}
