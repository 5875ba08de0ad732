//! Honest callers: a fixed number of requests a second, over connections that stay open, each answer checked.
//!
//! The load is open: a request is due at a fixed time whether or not earlier ones have been answered, so a
//! gateway that stalls is not spared the requests of that time. A request that was due while its connection
//! still waited counts from when it was due; any other counts from when it was sent, so that the coarse timer
//! of this process is not put down to the gateway.

mod check;

use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::client::{Answer, Body, Connection, PATIENCE, empty, full};
use crate::latency::Latencies;
use crate::{Result, Trouble};

/// What kinds of requests callers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Of ten requests five pass through, four are operations with fresh keys, one repeats an operation.
    Half,
    /// Of ten requests nine are operations with fresh keys, one repeats an operation.
    Operations,
    /// All pass through.
    Reads,
}

/// What honest callers do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where they connect.
    pub target: SocketAddr,
    /// How many connections are kept open.
    pub connections: u32,
    /// Requests a second, over all connections.
    pub rate: u32,
    /// How long they go on.
    pub length: Duration,
    /// How long at the start nothing is measured; answers are checked all the same.
    pub warm_up: Duration,
    /// What they send.
    pub mix: Mix,
    /// Whether the target replays; a bare proxy does not.
    pub replays: bool,
    /// Connect anew before every so many requests of a connection; 0 for never.
    pub fresh_every: u64,
    /// What makes the keys of this run unlike those of another over the same store.
    pub run: u64,
}

/// What became of the requests of honest callers.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many were answered as they should be.
    pub right: u64,
    /// How many were not.
    pub wrong: u64,
    /// How many replays were among the right ones.
    pub replayed: u64,
    /// How often an idle connection was found closed.
    pub reconnects: u64,
    /// What was wrong with the first few.
    pub reasons: Vec<String>,
    /// Latencies of requests that passed through.
    pub reads: Latencies,
    /// Latencies of operations, repeats included.
    pub operations: Latencies,
}

const REASONS_MAX: usize = 10;

impl Tally {
    /// Adds what others counted.
    pub fn merge(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.replayed += other.replayed;
        self.reconnects += other.reconnects;
        self.reasons.extend(other.reasons);
        self.reasons.truncate(REASONS_MAX);
        self.reads.merge(&other.reads);
        self.operations.merge(&other.operations);
    }

    /// All latencies together.
    pub fn all(&self) -> Latencies {
        let mut all = self.reads.clone();
        all.merge(&self.operations);
        all
    }

    fn blame(&mut self, reason: String) {
        self.wrong += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push(reason);
        }
    }
}

/// Runs the callers on a thread of their own, so that disturbers in this process delay them as little as can be.
///
/// # Errors
/// No thread is to be had. What callers meet is in the tally.
pub async fn run(plan: Plan) -> Result<Tally> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("callers".into()).spawn(move || {
        // Whoever asked may have left.
        let _ = tell.send(runtime.block_on(all(plan)));
    })?;
    let tally = told.await;
    thread.join().map_err(|_| "the callers panicked")?;
    Ok(tally?)
}

async fn all(plan: Plan) -> Tally {
    let begin = Instant::now() + Duration::from_millis(50);
    let mut callers = JoinSet::new();
    for number in 0..plan.connections {
        callers.spawn(Caller::new(plan.clone(), number).run(begin));
    }
    let mut tally = Tally::default();
    while let Some(ended) = callers.join_next().await {
        match ended {
            Ok(one) => tally.merge(one),
            Err(error) => tally.blame(format!("a caller panicked: {error}")),
        }
    }
    tally
}

/// One connection and what is sent over it.
struct Caller {
    plan: Plan,
    number: u32,
    connection: Option<Connection>,
    last: Option<Done>,
    tally: Tally,
}

/// An operation that was answered, to be repeated.
struct Done {
    key: String,
    sent: String,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Operation,
    Repeat,
}

impl Mix {
    fn kind(self, index: u64) -> Kind {
        match self {
            Self::Reads => Kind::Read,
            Self::Half | Self::Operations if index % 10 == 9 => Kind::Repeat,
            Self::Half if index.is_multiple_of(2) => Kind::Read,
            Self::Half | Self::Operations => Kind::Operation,
        }
    }
}

impl Caller {
    fn new(plan: Plan, number: u32) -> Self {
        Self { plan, number, connection: None, last: None, tally: Tally::default() }
    }

    async fn run(mut self, begin: Instant) -> Tally {
        let every = Duration::from_secs(1) * self.plan.connections / self.plan.rate.max(1);
        let first = begin + every * self.number / self.plan.connections;
        let (end, measured) = (begin + self.plan.length, begin + self.plan.warm_up);
        for index in 0.. {
            let due = first + every.mul_f64(index as f64);
            if due >= end {
                break;
            }
            let was_free = Instant::now() <= due;
            sleep_until(due).await;
            if self.plan.fresh_every > 0 && index % self.plan.fresh_every == self.plan.fresh_every - 1 {
                self.connection = None;
            }
            let from = if was_free { Instant::now() } else { due };
            let kind = self.one(index).await;
            if due < measured {
                continue;
            }
            match kind {
                Kind::Read => self.tally.reads.add(from.elapsed()),
                Kind::Operation | Kind::Repeat => self.tally.operations.add(from.elapsed()),
            }
        }
        self.tally
    }

    async fn one(&mut self, index: u64) -> Kind {
        let mut kind = self.plan.mix.kind(index);
        if kind == Kind::Repeat && self.last.is_none() {
            kind = Kind::Operation;
        }
        let (key, sent) = match (&self.last, kind) {
            (Some(last), Kind::Repeat) => (last.key.clone(), last.sent.clone()),
            _ => {
                let name = format!("{}-{}-{index}", self.plan.run, self.number);
                (name.clone(), format!("caller {} asks {index} in {}", self.number, self.plan.run))
            }
        };
        let answer = match self.ask(kind, &key, &sent).await {
            Ok(answer) => answer,
            Err(error) => {
                self.connection = None;
                self.tally.blame(format!("caller {}, request {index}: {error}", self.number));
                return kind;
            }
        };
        let first = self.last.as_ref().filter(|_| kind == Kind::Repeat && self.plan.replays);
        let sent_back = if kind == Kind::Read { "" } else { sent.as_str() };
        match check::check(&answer, sent_back, first.map(|it| &it.answer)) {
            Ok(()) => self.tally.right += 1,
            Err(reason) => self.tally.blame(format!("caller {}, request {index}: {reason}", self.number)),
        }
        self.tally.replayed += u64::from(check::is_replay(&answer));
        if kind == Kind::Operation {
            self.last = Some(Done { key, sent, answer });
        }
        kind
    }

    async fn ask(&mut self, kind: Kind, key: &str, sent: &str) -> Result<Answer> {
        let request = self.request(kind, key, sent)?;
        if self.connection.as_ref().is_some_and(Connection::is_closed) {
            self.connection = None;
            self.tally.reconnects += 1;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connecting = Connection::http1(self.plan.target);
                let late = |_| Trouble::from("no connection within 20 s");
                none.insert(timeout(PATIENCE, connecting).await.map_err(late)??)
            }
        };
        connection.ask(request).await
    }

    fn request(&self, kind: Kind, key: &str, sent: &str) -> Result<Request<Body>> {
        let request = Request::builder()
            .uri("/fast")
            .header("host", "bench.test")
            .header("authorization", format!("Bearer caller-{}", self.number));
        if kind == Kind::Read {
            return Ok(request.body(empty())?);
        }
        let request =
            request.method("POST").header("idempotency-key", key).header("content-type", "text/plain");
        Ok(request.body(full(sent.to_owned()))?)
    }
}

#[cfg(test)]
mod tests;
