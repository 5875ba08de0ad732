//! Draws a plan by lot. The same seed draws the same.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{
    Ask, Bounds, Client, Fault, GATEWAYS, Intent, Plan, Strike, Times, UPSTREAMS, Way, client, gateway,
    upstream,
};

/// A length of time in whole milliseconds.
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
                token: rng.choice(["Bearer alice", "Bearer bob", ""]).expect("there are three"),
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
