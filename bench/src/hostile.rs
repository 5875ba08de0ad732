//! Attackers: seeded, many at a time, none of them ever sending a request that a gateway should pass on twice.

mod bytes;
mod frames;
pub mod smuggle;
mod streams;
pub mod verdict;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::Result;

/// How long one attack may take before it is dropped.
const ATTACK_MAX: Duration = Duration::from_secs(6);

/// What an attacker does once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Attack {
    /// Random bytes, up to 64 KiB.
    RandomBytes,
    /// A good request cut off anywhere.
    HalfRequest,
    /// Thousands of small headers.
    HeaderFlood,
    /// A head of a megabyte: in its target or in one header.
    OversizedHead,
    /// One of the vectors of [`smuggle`].
    Smuggling,
    /// An HTTP/2 preface, then random bytes.
    PrefaceThenGarbage,
    /// Streams that are opened and reset at once.
    RapidReset,
    /// A head that never ends, in CONTINUATION frames.
    ContinuationFlood,
    /// Thousands of SETTINGS frames, whose answers are not read.
    SettingsFlood,
    /// Thousands of PING frames, whose answers are not read.
    PingFlood,
    /// Frames on wrong streams, overflowing windows, wrong lengths.
    WrongFrames,
    /// A thousand streams whose answers may not be sent, for want of a window.
    StreamFlood,
    /// A TLS greeting, whole or cut, and garbage.
    TlsGarbage,
    /// Asks for a big answer and does not read it.
    SlowReader,
    /// Connects and says nothing.
    Silent,
    /// Connects and resets, a hundred times.
    Churn,
    /// An operation whose body comes byte by byte and never ends.
    SlowBody,
    /// An operation whose caller leaves once it is sent.
    Leaver,
    /// Chunks whose sizes are wrong, on an upload that passes through.
    BadChunks,
}

impl Attack {
    /// All of them.
    pub const EACH: [Self; 19] = [
        Self::RandomBytes,
        Self::HalfRequest,
        Self::HeaderFlood,
        Self::OversizedHead,
        Self::Smuggling,
        Self::PrefaceThenGarbage,
        Self::RapidReset,
        Self::ContinuationFlood,
        Self::SettingsFlood,
        Self::PingFlood,
        Self::WrongFrames,
        Self::StreamFlood,
        Self::TlsGarbage,
        Self::SlowReader,
        Self::Silent,
        Self::Churn,
        Self::SlowBody,
        Self::Leaver,
        Self::BadChunks,
    ];

    async fn run(self, to: SocketAddr, rng: &mut fastrand::Rng) -> Result<()> {
        match self {
            Self::RandomBytes => bytes::random(to, rng).await,
            Self::HalfRequest => bytes::half_request(to, rng).await,
            Self::HeaderFlood => bytes::header_flood(to, rng).await,
            Self::OversizedHead => bytes::oversized_head(to, rng).await,
            Self::Smuggling => smuggle::any(to, rng).await,
            Self::PrefaceThenGarbage => streams::preface_then_garbage(to, rng).await,
            Self::RapidReset => streams::rapid_reset(to).await,
            Self::ContinuationFlood => streams::continuation_flood(to, rng).await,
            Self::SettingsFlood => streams::settings_flood(to).await,
            Self::PingFlood => streams::ping_flood(to).await,
            Self::WrongFrames => streams::wrong_frames(to, rng).await,
            Self::StreamFlood => streams::stream_flood(to).await,
            Self::TlsGarbage => bytes::tls(to, rng).await,
            Self::SlowReader => bytes::slow_reader(to).await,
            Self::Silent => bytes::silent(to, rng).await,
            Self::Churn => bytes::churn(to).await,
            Self::SlowBody => bytes::slow_body(to, rng).await,
            Self::Leaver => bytes::leaver(to, rng).await,
            Self::BadChunks => bytes::bad_chunks(to, rng).await,
        }
    }
}

/// How often each attack was carried out, and how often it could not even connect.
pub type Count = BTreeMap<Attack, (u64, u64)>;

/// How an attack is carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where callers connect.
    pub target: SocketAddr,
    /// Where operators connect: one attack in ten goes here.
    pub admin: SocketAddr,
    /// How many attack at a time.
    pub attackers: u64,
    /// How long they go on.
    pub length: Duration,
    /// What their choices come from.
    pub seed: u64,
    /// What they do. Each goes through all of it in an order of its own, so that nothing is left out.
    pub attacks: Vec<Attack>,
}

/// Attacks until the time is over.
pub async fn attack(plan: Plan) -> Count {
    let end = Instant::now() + plan.length;
    let count = Arc::new(Mutex::new(Count::new()));
    let mut crowd = JoinSet::new();
    for number in 0..plan.attackers {
        crowd.spawn(attacker(plan.clone(), number, end, Arc::clone(&count)));
    }
    crowd.join_all().await;
    Arc::into_inner(count).map_or_else(Count::new, |it| it.into_inner().expect("no holder panics"))
}

async fn attacker(plan: Plan, number: u64, end: Instant, count: Arc<Mutex<Count>>) {
    let mut rng = fastrand::Rng::with_seed(plan.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9)));
    let mut order = plan.attacks.clone();
    while Instant::now() < end {
        rng.shuffle(&mut order);
        for attack in &order {
            let to = if rng.u8(..10) == 0 { plan.admin } else { plan.target };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // An attack that is cut off by the other side has done its work.
            let _ = timeout(left.min(ATTACK_MAX), attack.run(to, &mut rng)).await;
            let reached = timeout(ATTACK_MAX, TcpStream::connect(to)).await.is_ok_and(|it| it.is_ok());
            let mut count = count.lock().expect("no holder panics");
            let (all, refused) = count.entry(*attack).or_default();
            (*all, *refused) = (*all + 1, *refused + u64::from(!reached));
        }
    }
}
