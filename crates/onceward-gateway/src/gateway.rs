//! The gateway as a whole: start, serve, stop in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onceward_admin::{
    AdminState, AnswerWriter, Build, Doctor, MeteredStore, Metrics, Reload, ReloadRefused, Reloaded, Token,
    Upstreams,
};
use onceward_core::{Clock, Engine, EngineSettings, Entropy, Store, SystemClock, SystemEntropy};
use onceward_http::{IdempotencyLayer, stored_answer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer as _;

use crate::access::Access;
use crate::examine::{StoreLook, examine};
use crate::listen::{Counters, Listening, ReloadableTls, Stop, Tls, TlsError, accept};
use crate::network::{Dial, Listener};
use crate::reload::{Live, SettingsSource, show_certificate};
use crate::routes::{self, SecretFileError};
use crate::settings::Settings;
use crate::to_upstream::ToUpstream;
use crate::upkeep::upkeep;
use crate::upstream::{InvalidSetting, Surroundings, Upstream};
use crate::watch::{Watch, listener_view};
use crate::workers::Workers;

/// How long writing the last abandonments may take when the gateway stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A gateway that listens and is not yet told to stop.
#[derive(Debug)]
pub struct Gateway {
    live: Arc<Live>,
    counters: Counters,
    address: SocketAddr,
    admin_address: SocketAddr,
    draining: Arc<AtomicBool>,
    stop: Stop,
    /// Connections of callers, which end first.
    connections: TaskTracker,
    /// Everything else: upstream connections, upkeep, the admin listener.
    background: TaskTracker,
    background_stop: CancellationToken,
    /// Operations run here after the last connection has ended, so these are the last to go.
    _workers: Workers,
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
    /// The files of `[tls]` cannot be used.
    #[error("tls")]
    Tls(#[from] TlsError),
    /// A file of secrets cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretFileError),
}

/// What a gateway is told about the process that it runs in.
#[derive(Debug, Clone)]
pub struct Process {
    /// Where settings are read again from; without it a reload is refused.
    pub source: Option<SettingsSource>,
    /// Which build runs.
    pub build: Build,
    /// What is known of the store, for `onceward doctor`.
    pub store_look: Option<StoreLook>,
    /// What paces it; what waits for connections is paced by tokio's clock besides.
    pub clock: Arc<dyn Clock>,
    /// Where owner tokens and the store's hash key come from.
    pub entropy: Arc<dyn Entropy>,
    /// How upstreams are reached.
    pub dial: Dial,
    /// Who serves callers.
    pub workers: Workers,
    /// How the engine talks to its store; the settings decide about `hide_keys`.
    pub engine: EngineSettings,
}

impl Default for Process {
    /// This machine, and nothing known of the rest.
    fn default() -> Self {
        Self {
            source: None,
            build: Build::default(),
            store_look: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            dial: Dial::Machine,
            workers: Workers::default(),
            engine: EngineSettings::default(),
        }
    }
}

/// Where a gateway accepts connections.
#[derive(Debug)]
pub struct Listeners<L> {
    /// Those of callers.
    pub callers: L,
    /// Those of operators; without it there are no pages for them.
    pub operators: Option<TcpListener>,
}

/// What a gateway has in its hands at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtWork {
    /// Connections of callers.
    pub connections: u64,
    /// Requests of callers that are not answered yet.
    pub requests: u64,
    /// Operations that run, with their caller or without.
    pub operations: usize,
    /// Principals with an operation in flight.
    pub principals: usize,
    /// Requests in flight at the upstreams.
    pub upstream: usize,
}

impl Gateway {
    /// Listens on both addresses and serves at once, on the current tokio runtime. The settings never change.
    ///
    /// # Errors
    /// [`StartError`]; nothing was served.
    pub async fn start(settings: Settings, store: Arc<dyn Store>, token: Token) -> Result<Self, StartError> {
        Self::start_in(Process::default(), settings, store, token).await
    }

    /// As [`Gateway::start`], in a process that can say where its settings came from.
    ///
    /// # Errors
    /// [`StartError`]; nothing was served.
    pub async fn start_in(
        process: Process,
        settings: Settings,
        store: Arc<dyn Store>,
        token: Token,
    ) -> Result<Self, StartError> {
        let callers = listen(settings.listen, "listen").await?;
        let operators = Some(listen(settings.admin.listen, "admin.listen").await?);
        Self::start_on(Listeners { callers, operators }, process, settings, store, token)
    }

    /// As [`Gateway::start_in`], with listeners that listen already. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`], though never `Listen`; nothing was served.
    pub fn start_on<L: Listener>(
        listeners: Listeners<L>,
        process: Process,
        settings: Settings,
        store: Arc<dyn Store>,
        token: Token,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::with(process.build);
        metrics.allow_routes(settings.routes.iter().map(|it| it.name.clone()).chain(["default".to_owned()]));
        let tls = load_tls(&settings, &metrics)?;
        let background = TaskTracker::new();
        let background_stop = CancellationToken::new();
        let watch = Arc::new(Watch::new(metrics.clone()));
        let surroundings = Surroundings {
            observer: Some(Arc::clone(&watch) as _),
            dial: process.dial,
            ..Surroundings::new(background.clone(), background_stop.clone())
        };
        let proxy = Upstream::within(routes::upstream(&settings), surroundings)?;
        watch.keep_only(&proxy);

        let Listeners { callers, operators } = listeners;
        let address = callers.local_addr().unwrap_or(settings.listen);
        let admin_address = operators.as_ref().and_then(|it| it.local_addr().ok());
        let admin_address = admin_address.unwrap_or(settings.admin.listen);
        let store: Arc<dyn Store> =
            Arc::new(MeteredStore::new(store, Arc::clone(&process.clock), metrics.clone()));
        let engine = Engine::with(
            store,
            EngineSettings { hide_keys: settings.admin.hide_keys, ..process.engine },
            process.clock,
            process.entropy,
            Arc::new(metrics.clone()),
        );
        let layer = Arc::new(IdempotencyLayer::new(engine.clone(), routes::routes(&settings)?));
        layer.set_store_patience(settings.upstream.response_timeout);
        layer.set_cors(routes::cors(&settings));
        layer.set_keys_in_flight(routes::keys_in_flight(&settings));
        let limits = routes::limits(&settings);
        let access_log = settings.access_log;
        let ready_requires_store = settings.admin.ready_requires_store;
        let live = Arc::new(Live {
            settings: settings.into(),
            source: process.source,
            layer: Arc::clone(&layer),
            proxy: proxy.clone(),
            tls: tls.clone(),
            metrics: metrics.clone(),
            watch,
        });
        // The layer owns the metrics, so they must not own it: the store closes when its last owner goes.
        let counted = Arc::downgrade(&layer);
        metrics.count_running(move || counted.upgrade().map_or(0, |it| it.running() as u64));
        let draining = Arc::new(AtomicBool::new(false));
        let (reloading, looking) = (Arc::downgrade(&live), Arc::downgrade(&live));
        let (examined, asked, store_look) = (Arc::downgrade(&live), engine.clone(), process.store_look);
        let admin = AdminState {
            engine: engine.clone(),
            metrics: metrics.clone(),
            token,
            draining: Arc::clone(&draining),
            ready_requires_store,
            answers: AnswerWriter::new(|it| Ok(stored_answer(it.status, it.headers, it.body))),
            reload: Reload::new(move || {
                std::future::ready(reloading.upgrade().map_or(Err(ReloadRefused::NoFile), |it| it.reload()))
            }),
            doctor: Doctor::new(move || examine(examined.clone(), asked.clone(), store_look.clone())),
            upstreams: Upstreams::new(move || {
                looking.upgrade().map(|it| it.watch.views(&it.proxy)).unwrap_or_default()
            }),
        };
        let stop = Stop::default();
        let connections = TaskTracker::new();
        let service = Access {
            inner: layer.layer(ToUpstream { proxy, metrics: metrics.clone(), engine: engine.clone() }),
            metrics: metrics.clone(),
            engine: engine.clone(),
            log: access_log,
        };
        let counters = Counters::default();
        let counted = counters.clone();
        metrics.show_listener(move || listener_view(&counted));
        let listening =
            Listening { limits, tls, counters: counters.clone(), workers: process.workers.clone() };
        connections.spawn(accept(callers, service, listening, stop.clone(), connections.clone()));
        background.spawn(upkeep(engine, metrics, background_stop.clone()));
        let admin_stop = background_stop.clone();
        let admin_router = onceward_admin::router(admin);
        if let Some(operators) = operators {
            background.spawn(async move {
                let stopped = async move { admin_stop.cancelled().await };
                if let Err(error) = onceward_admin::serve(operators, admin_router, stopped).await {
                    tracing::error!(%error, "the admin listener ended");
                }
            });
        }
        Ok(Self {
            live,
            counters,
            address,
            admin_address,
            draining,
            stop,
            connections,
            background,
            background_stop,
            _workers: process.workers,
        })
    }

    /// Reads the settings again and takes them up, all or none: see [`Settings::changes`].
    ///
    /// # Errors
    /// Every reason at once; the old settings stay in force.
    pub fn reload(&self) -> Result<Reloaded, ReloadRefused> {
        self.live.reload()
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

    /// What is under way now.
    #[must_use]
    pub fn at_work(&self) -> AtWork {
        AtWork {
            connections: self.counters.open(),
            requests: self.counters.under_way(),
            operations: self.live.layer.running(),
            principals: self.live.layer.principals_in_flight(),
            upstream: self.live.proxy.states().iter().map(|it| it.in_flight).sum(),
        }
    }

    /// Stops in order, so that nothing is lost that could be kept:
    ///
    /// 1. Not ready any more, still accepting: `drain_delay`, or until no connection is open.
    /// 2. No new connections, each open one ends after its request: at most `drain`, until every operation,
    ///    also those whose caller has left, is finished and stored.
    /// 3. What still runs is abandoned: unresolved at once. Then everything closes.
    pub async fn stop(self) -> Ended {
        self.draining.store(true, Ordering::Release);
        let (drain_delay, drain) = self.live.drain();
        let no_connection = async {
            // The accept loop itself is one task.
            while self.connections.len() > 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(drain_delay, no_connection).await;

        self.stop.accepting.cancel();
        self.stop.graceful.cancel();
        self.connections.close();
        let finished = async {
            self.connections.wait().await;
            self.live.layer.drain();
            self.live.layer.idle().await;
        };
        let in_time = tokio::time::timeout(drain, finished).await.is_ok();

        self.live.layer.drain();
        let left = if in_time { 0 } else { self.live.layer.running() };
        if left > 0 {
            tracing::warn!(
                operations = left,
                "stopping with operations under way: their records are unresolved"
            );
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.live.layer.abort()).await;
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

fn load_tls(settings: &Settings, metrics: &Metrics) -> Result<Option<ReloadableTls>, StartError> {
    if !settings.tls.is_on() {
        return Ok(None);
    }
    let tls = Tls::load(&settings.tls.cert, &settings.tls.key)?;
    if let Some(warning) = show_certificate(&tls, metrics) {
        tracing::warn!("{warning}");
    }
    Ok(Some(ReloadableTls::new(tls)))
}
