//! The reverse proxy: one request in, the response of one of the upstreams out.
//!
//! A request is sent once. When no response head comes back, the answer says whether the request provably
//! never was processed ([`Outcome::Release`](onceward_http::Outcome)) or may have been
//! ([`Outcome::Unknown`](onceward_http::Outcome)); nothing in between. Only what provably never was processed
//! is given to another upstream.

mod addresses;
mod balance;
mod body;
mod check;
mod connect;
mod exchange;
mod fault;
mod greeting;
mod http1;
mod http2;
mod lent;
mod names;
mod node;
mod observe;
mod pool;
mod rendezvous;
mod roster;
mod send;
mod set;
mod settings;
mod slot;
mod stream;
mod tls;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};

use http::{Request, Response};
use onceward_http::Body;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tower_service::Service;

pub use self::fault::Fault;
pub(crate) use self::fault::Refusal;
pub use self::names::Names;
use self::node::Node;
pub use self::observe::{UpstreamEvent, UpstreamObserver, UpstreamOutcome, UpstreamState};
pub use self::rendezvous::rendezvous;
use self::roster::{Change, Id, Roster};
use self::set::Set;
pub(crate) use self::settings::Target;
pub use self::settings::{Balance, HostMode, InvalidSetting, Protocol, UpstreamSettings};
use crate::network::Dial;

/// Request extension: this request is no operation, so its failures are told in the plain words of a proxy
/// and it may upgrade its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassThrough;

/// Sends requests to the upstreams. Clones share their connections.
///
/// Dropping its response future gives the request up: the connection is closed, or the stream reset, and the
/// request may have been processed.
#[derive(Debug, Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
    /// Closes what is idle when the last clone goes.
    _close_idle: Arc<DropGuard>,
}

/// What an [`Upstream`] stands in.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Connections, tunnels and checks run here.
    pub tracker: TaskTracker,
    /// When it is cancelled, idle connections are closed, none is kept any more, checks end and tunnels are
    /// cut; an exchange that is under way goes on until it ends or meets its time limits.
    pub shutdown: CancellationToken,
    /// How names are resolved.
    pub names: Names,
    /// How connections are made.
    pub dial: Dial,
    /// Who hears what happens at each upstream.
    pub observer: Option<Arc<dyn UpstreamObserver>>,
}

impl Surroundings {
    /// The network of this machine with names as the system resolves them, and nobody who listens.
    #[must_use]
    pub fn new(tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tracker, shutdown, names: Names::system(), dial: Dial::Machine, observer: None }
    }
}

#[derive(Debug)]
struct Shared {
    set: RwLock<Arc<Set>>,
    roster: Mutex<Roster>,
    /// The highest that was given to a node. Locked while the set is being replaced.
    last_id: Mutex<Id>,
    turns: AtomicUsize,
    names: Names,
    dial: Dial,
    observer: Option<Arc<dyn UpstreamObserver>>,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    closed: CancellationToken,
}

impl Upstream {
    /// Reads the certificates that `https://` upstreams are checked with; connects to nothing yet, unless
    /// checks are set. Must be called on a tokio runtime if they are.
    ///
    /// # Errors
    /// The first setting that cannot be used, with the remedy.
    pub fn new(
        settings: UpstreamSettings,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, InvalidSetting> {
        Self::within(settings, Surroundings::new(tracker, shutdown))
    }

    /// As [`Upstream::new`], with the say over names and with an observer.
    ///
    /// # Errors
    /// The first setting that cannot be used, with the remedy.
    pub fn within(settings: UpstreamSettings, within: Surroundings) -> Result<Self, InvalidSetting> {
        let Surroundings { tracker, shutdown, names, dial, observer } = within;
        let (mut last_id, closed) = (0, shutdown.child_token());
        let set = Arc::new(Set::new(settings, None, &mut last_id, &tracker, &closed)?);
        let shared = Arc::new(Shared {
            roster: Mutex::new(Roster::new(set.rule(), set.ids())),
            set: RwLock::new(Arc::clone(&set)),
            last_id: Mutex::new(last_id),
            turns: AtomicUsize::new(0),
            names,
            dial,
            observer,
            tracker,
            shutdown,
            closed: closed.clone(),
        });
        check::start(&shared, &set);
        Ok(Self { shared, _close_idle: Arc::new(closed.drop_guard()) })
    }

    /// From now on requests go to these upstreams. Requests under way finish where they are. An upstream with
    /// the same URL, protocol and certificates keeps its connections and its health; one that is gone closes
    /// what is idle.
    ///
    /// # Errors
    /// The first setting that cannot be used, with the remedy. Nothing has changed.
    pub fn replace(&self, settings: UpstreamSettings) -> Result<(), InvalidSetting> {
        let shared = &self.shared;
        let mut last_id = shared.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shared.set();
        let next = Set::new(settings, Some(&before), &mut last_id, &shared.tracker, &shared.closed)?;
        let next = Arc::new(next);
        shared.roster().replace(next.rule(), next.ids());
        *shared.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        before.give_way_to(&next);
        check::start(shared, &next);
        Ok(())
    }

    /// Every upstream as it is now, in the order of the settings.
    #[must_use]
    pub fn states(&self) -> Vec<UpstreamState> {
        let (set, now) = (self.shared.set(), Instant::now());
        let roster = self.shared.roster();
        let state = |it: &Arc<Node>| UpstreamState {
            url: it.target.label.clone(),
            in_flight: it.slots.taken(),
            failures: roster.failures(it.id),
            ejected_for: roster.out_for(it.id, now),
        };
        set.nodes.iter().map(state).collect()
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(Arc::clone(&self.shared).exchange(request))
    }
}

impl Shared {
    fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what changed for an upstream, if anything did.
    fn tell(&self, node: &Node, changed: Option<Change>) {
        let url = node.target.label.as_str();
        let event = match changed {
            None => return,
            Some(Change::Ejected(pause)) => {
                tracing::warn!(upstream = url, ?pause, "an upstream is ejected: it keeps failing");
                UpstreamEvent::Ejected { url, pause }
            }
            Some(Change::Returned) => {
                tracing::info!(upstream = url, "an upstream is well again");
                UpstreamEvent::Returned { url }
            }
        };
        self.observe(event);
    }

    fn observe(&self, event: UpstreamEvent<'_>) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }
}
