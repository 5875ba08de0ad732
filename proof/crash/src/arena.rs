//! Everything that a run is made of, shared by callers, nemesis and operator.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::Result;
use crate::backend::Backend;
use crate::book::{Book, Told, count};
use crate::client::Client;
use crate::gateway::{Keeper, Up};
use crate::plan::Op;
use crate::script::Script;
use crate::time::{ms, now, until};
use crate::upstream::Upstream;

pub(crate) struct Arena {
    /// The gateways. Those of a shared store act as one.
    pub(crate) fleet: Vec<Keeper>,
    /// Whose turn it is.
    pub(crate) turn: AtomicUsize,
    pub(crate) store: Backend,
    pub(crate) upstream: Mutex<Upstream>,
    pub(crate) book: Book,
    pub(crate) ledger: PathBuf,
    pub(crate) started: Duration,
    /// Nobody kills anything now.
    pub(crate) is_calm: AtomicBool,
    /// When a caller last killed the gateway, in milliseconds since the start.
    pub(crate) last_strike: AtomicU64,
}

/// The pause between two kills by callers.
const STRIKES: Duration = ms(1_500);

impl Arena {
    /// The gateway, where there is one.
    pub(crate) fn keeper(&self) -> &Keeper {
        &self.fleet[0]
    }

    /// A gateway that is somewhere, another one each time.
    pub(crate) fn any_up(&self) -> Option<Up> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..self.fleet.len()).find_map(|it| self.fleet[(turn + it) % self.fleet.len()].up())
    }

    /// Where a gateway is, as soon as one is somewhere.
    pub(crate) fn up(&self, patience: Duration) -> Option<Up> {
        until(patience, || self.any_up())
    }

    /// Sends an operation once and holds what it is told against the book.
    pub(crate) fn send(&self, client: &mut Client, op: &Op, script: &Script, patience: Duration) -> Told {
        let Some(up) = self.up(ms(2_000)) else { return Told::Nothing };
        self.book.sends(op, script);
        let sent = now();
        let reply = client.ask(up.address, &op.ask(script), patience);
        self.book.told(op, sent, reply.ok().as_ref())
    }

    /// Kills the gateway now, unless that was done a moment ago. The nemesis starts another one.
    pub(crate) fn strike(&self) -> Result<bool> {
        let time = u64::try_from((now() - self.started).as_millis()).unwrap_or(u64::MAX);
        let last = self.last_strike.load(Ordering::SeqCst);
        let due = u64::try_from(STRIKES.as_millis()).unwrap_or(u64::MAX);
        if time < last + due || self.is_calm.load(Ordering::SeqCst) {
            return Ok(false);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let keeper = &self.fleet[turn % self.fleet.len()];
        if keeper.up().is_none() {
            return Ok(false);
        }
        if self.last_strike.compare_exchange(last, time, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Ok(false);
        }
        // Noted before anybody can feel it.
        self.book.fault("kill");
        let killed = keeper.kill_ready()?;
        if killed {
            count(&self.book.counts.kills);
        }
        Ok(killed)
    }

    /// What an operator says who knows that nothing happened, even while the holder's lease is alive.
    pub(crate) fn overrule(&self, op: &Op) -> Result<bool> {
        let Some(up) = self.any_up() else { return Ok(false) };
        // No other caller uses this key.
        let Some(record) = up.records(&format!("key={}", op.key))?.pop() else { return Ok(false) };
        let verdict = json!({"outcome": "rerun", "revision": record["revision"], "force": "it hangs"});
        let told = up.resolve(&record, &verdict)?;
        if told.status == 200 {
            count(&self.book.counts.overruled);
        }
        Ok(told.status == 200)
    }
}
