//! One try to send an effect, the same from whichever outbox it comes.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::{Clock, Entropy};

use super::hold::Hold;
use super::verdict::{Next, judge_try};
use super::{Outgoing, RelayEvent, RelayObserver, SendFailure, Sender};
use crate::verdict::Retries;

/// What a relay tries with.
#[derive(Debug)]
pub(super) struct Trying {
    pub(super) senders: HashMap<String, Arc<dyn Sender>>,
    pub(super) retries: Retries,
    pub(super) send_max: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) observer: Arc<dyn RelayObserver>,
}

impl Trying {
    /// Trying once, and judges what it led to. `None` where there is no sender for it, or `hold` was over before it ended.
    pub(super) async fn once(&self, effect: &Outgoing, hold: &Hold) -> Option<Next> {
        let sender = self.senders.get(&effect.kind)?;
        let began = self.clock.boot();
        let told = tokio::select! {
            biased;
            // Before anything is sent, and before anything is heard that came too late.
            () = hold.is_over(&*self.clock) => {
                self.observer.on(&RelayEvent::LeaseLost);
                return None;
            }
            told = self.tried(&**sender, effect) => told,
        };
        self.observer.on(&RelayEvent::Tried(self.clock.boot().saturating_sub(began)));
        let mut jitter = [0];
        // Without randomness the pauses are only longer.
        let _ = self.entropy.fill(&mut jitter);
        Some(judge_try(told, effect.attempt, &self.retries, jitter[0]))
    }

    async fn tried(&self, sender: &dyn Sender, effect: &Outgoing) -> Result<(), SendFailure> {
        tokio::select! {
            biased;
            told = AssertUnwindSafe(sender.send(effect)).catch_unwind() => {
                told.unwrap_or_else(|_| Err(SendFailure::retry("its sender panicked")))
            }
            () = self.clock.sleep(self.send_max) => Err(SendFailure::retry("it took longer than send_max")),
        }
    }
}
