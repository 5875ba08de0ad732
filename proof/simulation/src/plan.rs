//! What a seed means: who asks what, how patient everybody is, and what goes wrong when.

use std::ops::RangeInclusive;
use std::time::Duration;

use onceward_gateway::settings::{InFlight, Unresolved};

/// How many gateways stand on the one store, and how many upstreams behind each of them.
pub(crate) const GATEWAYS: usize = 2;
pub(crate) const UPSTREAMS: usize = 2;

/// Everything that a seed decides before the simulation begins.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How much simulated time one step takes: what happens within it happens in an order drawn by lot.
    pub(crate) tick: Duration,
    pub(crate) intents: Vec<Intent>,
    pub(crate) clients: Vec<Client>,
    pub(crate) times: Times,
    pub(crate) bounds: Bounds,
    /// Whether the upstreams speak HTTP/2, and whether one that refuses a stream is believed.
    pub(crate) upstream_h2: bool,
    pub(crate) trust_refused_stream: bool,
    /// How often a call to the store goes wrong while faults are on, in thousandths.
    pub(crate) store_trouble: u32,
    /// How often an upstream misbehaves while faults are on, in thousandths.
    pub(crate) upstream_trouble: u32,
    /// How fast the store's clock runs, in thousandths.
    pub(crate) store_pace: u32,
    pub(crate) nemesis: Vec<Strike>,
    /// How long faults go on.
    pub(crate) safety: Duration,
}

/// One thing that somebody wants done once.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) key: String,
    pub(crate) token: &'static str,
    pub(crate) way: Way,
}

/// The three routes of the simulated gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `hold`, duplicates are told that the first runs.
    Hold,
    /// `hold`, duplicates wait.
    Wait,
    /// `rerun`, in front of a far side that dedups and refuses lower fences; duplicates wait.
    Rerun,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Hold, Self::Wait, Self::Rerun];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Hold => "/hold",
            Self::Wait => "/wait",
            Self::Rerun => "/rerun",
        }
    }

    pub(crate) fn unresolved(self) -> Unresolved {
        match self {
            Self::Hold | Self::Wait => Unresolved::Hold,
            Self::Rerun => Unresolved::Rerun,
        }
    }

    pub(crate) fn in_flight(self, wait: Duration) -> InFlight {
        match self {
            Self::Hold => InFlight::Reject,
            Self::Wait | Self::Rerun => InFlight::Wait(wait),
        }
    }
}

/// One host of callers.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) h2: bool,
    /// Each lane asks one thing after the other.
    pub(crate) lanes: Vec<Vec<Ask>>,
}

/// One thing asked for, with its retries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) at: Duration,
    pub(crate) intent: usize,
    /// A misuse: the key of this intent with the payload of another one.
    pub(crate) misuse: bool,
}

/// How patient everybody is.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    pub(crate) run_max: Duration,
    pub(crate) wait: Duration,
    pub(crate) call_budget: Duration,
    pub(crate) begin_patience: Duration,
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) body: Duration,
    pub(crate) write: Duration,
    pub(crate) upstream_idle: Duration,
    pub(crate) eject: Duration,
    /// The slowest message.
    pub(crate) latency: Duration,
}

impl Times {
    /// How long after the last fault everything must have come to an end: a permit that was just granted runs
    /// until its upstream is given up, storing what became of it is retried, its lease runs out, and whoever asks
    /// may have to ask a few times.
    pub(crate) fn settle(&self) -> Duration {
        self.run_max + self.lease + 2 * self.response + 3 * self.call_budget + Duration::from_secs(4)
    }
}

/// How much the gateways take.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) connections: u32,
    pub(crate) keys_in_flight: u32,
    pub(crate) upstream_in_flight: u32,
    pub(crate) eject_after: u32,
    pub(crate) cache_bytes: u64,
    pub(crate) fresh_connection: bool,
}

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
}

#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Nothing gets through between two hosts, and what is on its way is lost.
    Partition(String, String),
    /// Nothing gets through from the first to the second.
    OneWay(String, String),
    /// Everything between two hosts is late.
    Stall(String, String),
    /// Any message may be the last for a while on its link.
    Loss(f64),
    /// The process dies; the system closes its sockets.
    Kill(String),
    /// The host vanishes: nobody hears of it.
    PowerCut(String),
    /// The gateway is told to stop, and started again.
    Restart(usize),
    /// The store refuses every call.
    StoreDown,
    /// The store swallows every call.
    StoreSilent,
}

impl Fault {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Partition(..) => "partition",
            Self::OneWay(..) => "one-way partition",
            Self::Stall(..) => "stall",
            Self::Loss(_) => "loss",
            Self::Kill(it) if it.starts_with("gw") => "kill of a gateway",
            Self::Kill(it) if it.starts_with("up") => "kill of an upstream",
            Self::Kill(_) => "kill of a client",
            Self::PowerCut(it) if it.starts_with("gw") => "power cut of a gateway",
            Self::PowerCut(it) if it.starts_with("up") => "power cut of an upstream",
            Self::PowerCut(_) => "power cut of a client",
            Self::Restart(_) => "restart of a gateway",
            Self::StoreDown => "store down",
            Self::StoreSilent => "store silent",
        }
    }
}

pub(crate) fn gateway(at: usize) -> String {
    format!("gw{at}")
}

pub(crate) fn upstream(at: usize) -> String {
    format!("up{at}")
}

pub(crate) fn client(at: usize) -> String {
    format!("client{at}")
}

pub(crate) fn millis(rng: &mut fastrand::Rng, range: RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let safety = millis(rng, 800..=2500);
        let intents: Vec<_> = (0..rng.usize(4..=9))
            .map(|at| Intent {
                key: format!("key-{at}"),
                token: *rng.choice(&["Bearer alice", "Bearer bob", ""]).expect("there are three"),
                way: *rng.choice(&Way::ALL).expect("there are three"),
            })
            .collect();
        let rush: Vec<_> =
            (0..rng.usize(2..=5)).map(|_| (within(rng, safety), rng.usize(0..intents.len()))).collect();
        let clients: Vec<_> = (0..rng.usize(2..=4))
            .map(|_| Client {
                h2: rng.u8(0..3) == 0,
                lanes: (0..rng.usize(1..=3)).map(|_| lane(rng, intents.len(), safety, &rush)).collect(),
            })
            .collect();
        let times = times(rng);
        let bounds = Bounds {
            connections: if rng.u8(0..4) == 0 { rng.u32(2..=4) } else { 100 },
            keys_in_flight: if rng.u8(0..4) == 0 { rng.u32(1..=3) } else { 1000 },
            upstream_in_flight: if rng.u8(0..4) == 0 { rng.u32(1..=3) } else { 0 },
            eject_after: rng.u32(0..=4),
            cache_bytes: if rng.bool() { 0 } else { 1 << 20 },
            fresh_connection: rng.u8(0..5) == 0,
        };
        let nemesis = nemesis(rng, clients.len(), safety, &rush);
        Self {
            seed,
            tick: Duration::from_millis(*rng.choice(&[1, 2, 4]).expect("there are three")),
            intents,
            clients,
            times,
            bounds,
            upstream_h2: rng.u8(0..3) == 0,
            trust_refused_stream: rng.bool(),
            store_trouble: *rng.choice(&[0, 30, 120, 300]).expect("there are four"),
            upstream_trouble: *rng.choice(&[50, 250, 500, 800]).expect("there are four"),
            store_pace: rng.u32(950..=1050),
            nemesis,
            safety,
        }
    }
}

fn times(rng: &mut fastrand::Rng) -> Times {
    let lease = millis(rng, 100..=800);
    let response = millis(rng, 200..=1200);
    Times {
        lease,
        run_max: lease.max(response) + millis(rng, 50..=800),
        wait: millis(rng, 100..=1200),
        call_budget: millis(rng, 100..=700),
        begin_patience: millis(rng, 100..=700),
        connect: millis(rng, 100..=400),
        response,
        header: millis(rng, 300..=1500),
        idle: millis(rng, 300..=2000),
        body: millis(rng, 300..=1500),
        write: millis(rng, 300..=1500),
        upstream_idle: millis(rng, 0..=1500),
        eject: millis(rng, 100..=600),
        latency: millis(rng, 1..=40),
    }
}

/// When many ask for the same thing at once, and for what.
type Rush = (Duration, usize);

fn within(rng: &mut fastrand::Rng, safety: Duration) -> Duration {
    millis(rng, 0..=u64::try_from(safety.as_millis()).expect("a few seconds"))
}

fn lane(rng: &mut fastrand::Rng, intents: usize, safety: Duration, rush: &[Rush]) -> Vec<Ask> {
    let mut asks: Vec<_> = (0..rng.usize(2..=5))
        .map(|_| {
            let (at, intent) = match rng.choice(rush).filter(|_| rng.u8(0..10) < 7) {
                Some(&(at, intent)) => (at + millis(rng, 0..=40), intent),
                None => (within(rng, safety), rng.usize(0..intents)),
            };
            Ask { at, intent, misuse: rng.u8(0..10) == 0 }
        })
        .collect();
    asks.sort_by_key(|it| it.at);
    asks
}

/// Half of what goes wrong does so while many ask.
fn nemesis(rng: &mut fastrand::Rng, clients: usize, safety: Duration, rush: &[Rush]) -> Vec<Strike> {
    let mut strikes: Vec<_> = (0..rng.usize(0..=8))
        .map(|_| Strike {
            at: match rng.choice(rush).filter(|_| rng.bool()) {
                Some(&(at, _)) => at + millis(rng, 0..=150),
                None => within(rng, safety),
            },
            lasts: millis(rng, 20..=1000),
            fault: fault(rng, clients),
        })
        .collect();
    strikes.sort_by_key(|it| it.at);
    strikes
}

fn fault(rng: &mut fastrand::Rng, clients: usize) -> Fault {
    let gw = gateway(rng.usize(0..GATEWAYS));
    let other = if rng.bool() { upstream(rng.usize(0..UPSTREAMS)) } else { client(rng.usize(0..clients)) };
    let host = match rng.u8(0..4) {
        0 | 1 => gw.clone(),
        2 => upstream(rng.usize(0..UPSTREAMS)),
        _ => client(rng.usize(0..clients)),
    };
    match rng.u8(0..16) {
        0 | 1 => Fault::Partition(gw, other),
        2 | 3 if rng.bool() => Fault::OneWay(gw, other),
        2 | 3 => Fault::OneWay(other, gw),
        4 => Fault::Stall(gw, other),
        5 | 6 => Fault::Loss(f64::from(rng.u32(1..=20)) / 100.0),
        7..=9 => Fault::Kill(host),
        10 | 11 => Fault::PowerCut(host),
        12 | 13 => Fault::Restart(rng.usize(0..GATEWAYS)),
        14 => Fault::StoreDown,
        _ => Fault::StoreSilent,
    }
}
