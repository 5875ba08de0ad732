//! A gateway on its host: the real one, over the simulated network, clock, randomness and store.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_admin::Token;
use onceward_core::EngineSettings;
use onceward_gateway::network::Dial;
use onceward_gateway::settings::{Limits, PathPattern, Policy, Protocol, Route, Settings, Upstream};
use onceward_gateway::{Gateway, Listeners, Process};
use tokio::sync::{Notify, mpsc};
use turmoil::net::TcpListener;

use crate::breaks::{Break, RepeatingDialer, SameEntropy};
use crate::clock::{SimClock, SimEntropy};
use crate::network::{PORT, SimDialer, SimListener};
use crate::plan::{Plan, Way, gateway};
use crate::store::{Call, RemoteStore};
use crate::world::World;

/// What a gateway's host is given, however often it starts.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) at: usize,
    pub(crate) world: World,
    pub(crate) line: mpsc::UnboundedSender<Call>,
    pub(crate) upstreams: Vec<IpAddr>,
    pub(crate) broken: Option<Break>,
    /// Tells the gateway to stop.
    pub(crate) stop: Rc<Notify>,
}

impl Host {
    /// Runs one gateway until it is told to stop.
    pub(crate) async fn run(self, turn: u64) -> turmoil::Result {
        let Self { at, world, line, upstreams, broken, stop } = self;
        // What was said to the process before this one is not for this one.
        let _ = stop.notified().now_or_never();
        let name = gateway(at);
        let plan = world.plan();
        let mut rng = world.rng(&name, turn);
        let clock = Arc::new(SimClock::new(Duration::from_secs(rng.u64(1..100_000)), 1000));
        let process = Process {
            clock,
            entropy: match broken {
                Some(Break::SameOwner) => Arc::new(SameEntropy),
                _ => Arc::new(SimEntropy::new(rng.u64(..))),
            },
            dial: Dial::Other(match broken {
                Some(Break::RepeatsRequests) => Arc::new(RepeatingDialer),
                _ => Arc::new(SimDialer),
            }),
            engine: EngineSettings {
                call_budget: plan.times.call_budget,
                begin_patience: plan.times.begin_patience,
                cache_bytes: plan.bounds.cache_bytes,
                ..EngineSettings::default()
            },
            ..Process::default()
        };
        let store = Arc::new(RemoteStore::new(name.clone(), world.clone(), line, broken));
        let callers = SimListener(TcpListener::bind(("0.0.0.0", PORT)).await?);
        let listeners = Listeners { callers, operators: None };
        let token = Token::parse(&"t".repeat(64))?;
        let settings = settings(plan, &upstreams, broken);
        let gateway = Gateway::start_on(listeners, process, settings, store, token)?;
        world.note(&name, || "starts".into());
        while tokio::time::timeout(Duration::from_millis(10), stop.notified()).await.is_err() {
            world.at_work(at, Some(gateway.at_work()));
        }
        world.note(&name, || "is told to stop".into());
        let ended = gateway.stop().await;
        world.note(&name, || format!("stopped: {ended:?}"));
        world.at_work(at, None);
        world.ended(at, ended);
        Ok(())
    }
}

fn settings(plan: &Plan, upstreams: &[IpAddr], broken: Option<Break>) -> Settings {
    let bounds = &plan.bounds;
    let times = match broken {
        Some(Break::NoTimeLimits) => &plan.times.without_limits(),
        _ => &plan.times,
    };
    let url = |it: &IpAddr| format!("http://{it}:{PORT}").parse().expect("an address makes a URL");
    Settings {
        drain_delay: Duration::from_millis(100),
        drain: times.response,
        header_timeout: times.header,
        idle_timeout: times.idle,
        upstream: Upstream {
            urls: upstreams.iter().map(url).collect(),
            protocol: if plan.upstream_h2 { Protocol::H2c } else { Protocol::Http1 },
            connect_timeout: times.connect,
            response_timeout: times.response,
            idle: times.upstream_idle,
            trust_refused_stream: plan.trust_refused_stream,
            in_flight: bounds.upstream_in_flight,
            eject_after: bounds.eject_after,
            eject: times.eject,
            eject_max: times.eject * 2,
            ..Upstream::default()
        },
        limits: Limits {
            connections: bounds.connections,
            keys_in_flight: bounds.keys_in_flight,
            body_timeout: times.body,
            write_timeout: times.write,
            ..Limits::default()
        },
        routes: Way::ALL.map(|it| route(plan, it, broken)).into(),
        ..Settings::default()
    }
}

fn route(plan: &Plan, way: Way, broken: Option<Break>) -> Route {
    let times = &plan.times;
    let usual = Policy::default();
    let (release_on, unknown_on) = match broken {
        Some(Break::AmbiguousReleases) => (&usual.release_on | &usual.unknown_on, Default::default()),
        _ => (usual.release_on.clone(), usual.unknown_on.clone()),
    };
    Route {
        name: way.path().to_owned(),
        methods: vec![http::Method::POST],
        path: PathPattern::parse(way.path()).expect("a path of ours"),
        fresh_connection: plan.bounds.fresh_connection,
        policy: Policy {
            in_flight: way.in_flight(times.wait),
            unresolved: way.unresolved(),
            lease: times.lease,
            run_max: times.run_max,
            release_on,
            unknown_on,
            ..usual
        },
    }
}
