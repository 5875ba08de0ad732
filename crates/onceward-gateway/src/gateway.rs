//! The gateway as a whole: start, serve, stop in order.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use onceward_admin::{AdminState, AnswerWriter, Doctor, MeteredStore, Metrics, Reload, Token, Upstreams};
use onceward_core::store::Due;
use onceward_core::{Engine, EngineSettings, Store, SystemClock, SystemEntropy};
use onceward_http::{Body, IdempotencyLayer, Operation, stored_answer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer as _;
use tower_service::Service;

use crate::access::Access;
use crate::listen::{Limits, Listening, Stop, accept};
use crate::routes::{routes, upstream};
use crate::settings::Settings;
use crate::upstream::{Fault, InvalidSetting, PassThrough, Upstream};

/// How many records past their lease are counted at most.
const LEASES_COUNTED: usize = 1000;

/// How long writing the last abandonments may take when the gateway stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A gateway that listens and is not yet told to stop.
#[derive(Debug)]
pub struct Gateway {
    settings: Settings,
    address: SocketAddr,
    admin_address: SocketAddr,
    layer: Arc<IdempotencyLayer>,
    draining: Arc<AtomicBool>,
    stop: Stop,
    /// Connections of callers, which end first.
    connections: TaskTracker,
    /// Everything else: upstream connections, upkeep, the admin listener.
    background: TaskTracker,
    background_stop: CancellationToken,
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every operation finished and what became of it is stored.
    Clean,
    /// This many operations were cut short; their records are unresolved.
    Abandoned(usize),
}

/// Why a gateway cannot start. Nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} (setting `{setting}`): choose another address or stop who has it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The upstream's settings cannot be used.
    #[error("upstream.{0}")]
    Upstream(#[from] InvalidSetting),
}

impl Gateway {
    /// Listens on both addresses and serves at once, on the current tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing was served.
    pub async fn start(settings: Settings, store: Arc<dyn Store>, token: Token) -> Result<Self, StartError> {
        let listener = listen(settings.listen, "listen").await?;
        let admin_listener = listen(settings.admin.listen, "admin.listen").await?;
        let address = listener.local_addr().unwrap_or(settings.listen);
        let admin_address = admin_listener.local_addr().unwrap_or(settings.admin.listen);
        let metrics =
            Metrics::new(settings.routes.iter().map(|it| it.name.clone()).chain(["default".to_owned()]));
        let store: Arc<dyn Store> =
            Arc::new(MeteredStore::new(store, Arc::new(SystemClock), metrics.clone()));
        let engine = Engine::with(
            store,
            EngineSettings { hide_keys: settings.admin.hide_keys, ..EngineSettings::default() },
            Arc::new(SystemClock),
            Arc::new(SystemEntropy),
            Arc::new(metrics.clone()),
        );
        let background = TaskTracker::new();
        let background_stop = CancellationToken::new();
        let proxy = Upstream::new(upstream(&settings), background.clone(), background_stop.clone())?;
        let layer = IdempotencyLayer::new(engine.clone(), routes(&settings))
            .with_store_patience(settings.upstream.response_timeout);
        let layer = Arc::new(layer);
        // The layer owns the metrics, so they must not own it: the store closes when its last owner goes.
        let counted = Arc::downgrade(&layer);
        metrics.count_running(move || counted.upgrade().map_or(0, |it| it.running() as u64));
        let draining = Arc::new(AtomicBool::new(false));
        let admin = AdminState {
            engine: engine.clone(),
            metrics: metrics.clone(),
            token,
            draining: Arc::clone(&draining),
            ready_requires_store: settings.admin.ready_requires_store,
            answers: AnswerWriter::new(|it| Ok(stored_answer(it.status, it.headers, it.body))),
            reload: Reload::none(),
            doctor: Doctor::none(),
            upstreams: Upstreams::none(),
        };
        let stop = Stop::default();
        let connections = TaskTracker::new();
        let service = Access {
            inner: layer.layer(ToUpstream { proxy, metrics: metrics.clone(), engine: engine.clone() }),
            metrics: metrics.clone(),
            engine: engine.clone(),
        };
        let limits = Limits {
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            ..Limits::default()
        };
        let listening = Listening { limits, ..Listening::default() };
        connections.spawn(accept(listener, service, listening, stop.clone(), connections.clone()));
        background.spawn(upkeep(engine, metrics, background_stop.clone()));
        let admin_stop = background_stop.clone();
        let admin_router = onceward_admin::router(admin);
        background.spawn(async move {
            let stopped = async move { admin_stop.cancelled().await };
            if let Err(error) = onceward_admin::serve(admin_listener, admin_router, stopped).await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        Ok(Self {
            settings,
            address,
            admin_address,
            layer,
            draining,
            stop,
            connections,
            background,
            background_stop,
        })
    }

    /// Where callers connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where health, metrics and records are served.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Stops in order, so that nothing is lost that could be kept:
    ///
    /// 1. Not ready any more, still accepting: `drain_delay`, or until no connection is open.
    /// 2. No new connections, each open one ends after its request: at most `drain`, until every operation,
    ///    also those whose caller has left, is finished and stored.
    /// 3. What still runs is abandoned: unresolved at once. Then everything closes.
    pub async fn stop(self) -> Ended {
        self.draining.store(true, Ordering::Release);
        let no_connection = async {
            // The accept loop itself is one task.
            while self.connections.len() > 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(self.settings.drain_delay, no_connection).await;

        self.stop.accepting.cancel();
        self.stop.graceful.cancel();
        self.connections.close();
        let finished = async {
            self.connections.wait().await;
            self.layer.drain();
            self.layer.idle().await;
        };
        let in_time = tokio::time::timeout(self.settings.drain, finished).await.is_ok();

        self.layer.drain();
        let left = if in_time { 0 } else { self.layer.running() };
        if left > 0 {
            tracing::warn!(
                operations = left,
                "stopping with operations under way: their records are unresolved"
            );
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.layer.abort()).await;
        if left > 0 {
            // Their callers are still to hear that the outcome is unresolved.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
        }
        self.stop.now.cancel();
        self.background_stop.cancel();
        self.background.close();
        let closing = async {
            self.connections.wait().await;
            self.background.wait().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
        if left == 0 { Ended::Clean } else { Ended::Abandoned(left) }
    }
}

async fn listen(address: SocketAddr, setting: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, setting, source })
}

/// Sweeps, releases stray claims and says when the store goes and comes, once a second and faster while there
/// is more to do.
async fn upkeep(engine: Engine, metrics: Metrics, stop: CancellationToken) {
    let mut up = true;
    let mut passed = 0;
    loop {
        let done = engine.maintain().await;
        match &done {
            Err(error) if up => {
                tracing::error!(error = error as &dyn std::error::Error, "the store is down");
            }
            Ok(_) if !up => tracing::info!("the store is up again"),
            Ok(_) | Err(_) => {}
        }
        up = done.is_ok();
        let more = done.is_ok_and(|it| it.more);
        if let Ok(over) = engine.store().due(Due::Lease, LEASES_COUNTED).await {
            metrics.leases_passed(over.len());
            if over.len() > passed {
                tracing::warn!(
                    operations = over.len(),
                    "operations are unresolved: whoever ran them was gone before their answer was stored"
                );
            }
            passed = over.len();
        }
        let pause = Duration::from_millis(if more { 10 } else { 1000 });
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The proxy behind the layer: tells it which requests are operations, and times it.
#[derive(Debug, Clone)]
struct ToUpstream {
    proxy: Upstream,
    metrics: Metrics,
    engine: Engine,
}

impl Service<Request<Body>> for ToUpstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.proxy.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let extensions = request.extensions_mut();
        let record = extensions.get::<Operation>().map(|it| it.record.prefix());
        if extensions.get::<Operation>().is_none() {
            extensions.insert(PassThrough);
        }
        let (metrics, clock) = (self.metrics.clone(), Arc::clone(self.engine.clock()));
        let asked = clock.boot();
        let answer = self.proxy.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if let Some(fault) = response.extensions().get::<Fault>() {
                tracing::warn!(record, reason = fault.reason(), "a request got no answer from the upstream");
            }
            let outcome = match response.extensions().get::<Fault>() {
                Some(Fault::Unreachable) => "unreachable",
                Some(Fault::TimedOut) => "timeout",
                Some(Fault::Broken) => "broken",
                None => status_class(response.status()),
            };
            metrics.upstream(outcome, clock.boot().saturating_sub(asked));
            Ok(response)
        })
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
