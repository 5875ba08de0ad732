//! What a seed means: who asks what, how patient everybody is, and what goes wrong when.

mod draw;

use std::time::Duration;

use onceward_gateway::settings::{InFlight, Unresolved};

pub(crate) use self::draw::millis;

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
    /// The same, but nobody who is silent is given up.
    pub(crate) fn without_limits(&self) -> Self {
        let hour = Duration::from_secs(3600);
        Self { response: hour, header: hour, idle: hour, body: hour, write: hour, ..self.clone() }
    }

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
