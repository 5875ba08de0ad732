//! What callers ask for, all of it drawn from the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::client::Ask;
use crate::ledger::{Name, payload_of};
use crate::script::{Script, padding, size};
use crate::time::ms;

/// How long answers of `/brief` are kept.
pub(crate) const BRIEF: Duration = ms(4_000);
/// How long all others are: longer than any run.
const LONG: Duration = ms(7_200_000);

pub(crate) const CALLERS: usize = 3;

/// One operation: a key, who uses it, where, and with which payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) caller: usize,
    pub(crate) path: &'static str,
    pub(crate) key: String,
    /// Which payload, and how long it is.
    pub(crate) payload: (u32, usize),
}

impl Op {
    /// An operation with this key, on a route that refuses duplicates or lets them wait.
    pub(crate) fn new(rng: &mut Rng, key: String) -> Self {
        let path = if rng.bool() { "/pay" } else { "/wait/pay" };
        Self { caller: rng.usize(0..CALLERS), path, key, payload: (0, size(rng)) }
    }

    pub(crate) fn on(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    fn body(&self) -> Vec<u8> {
        let (variant, bytes) = self.payload;
        let mut body = format!("{{\"payload\":{variant}}}").into_bytes();
        body.extend(padding(body.len(), bytes));
        body
    }

    pub(crate) fn ask(&self, script: &Script) -> Ask {
        let ask = Ask::new("POST", self.path).with("authorization", self.name().caller);
        let ask = ask.with("idempotency-key", &self.key).with("content-type", "application/json");
        script.write(ask).body(self.body())
    }

    /// The name of its record.
    pub(crate) fn name(&self) -> Name {
        let caller = format!("Bearer caller-{}", self.caller);
        Name { caller, path: self.path.to_owned(), key: self.key.clone() }
    }

    pub(crate) fn payload(&self) -> u64 {
        payload_of(&self.body())
    }
}

/// How long an answer of this path is kept.
pub(crate) fn retention(path: &str) -> Duration {
    if path.starts_with("/brief") { BRIEF } else { LONG }
}
