//! How strongly "once" is kept.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use onceward_core::Result;

use crate::desk::{Case, Desk, Told};
use crate::event::Event;
use crate::handler::Failure;

pub(crate) mod lease;
#[cfg(feature = "postgres")]
pub(crate) mod transaction;

/// Runs a handler unless its message had its effect before.
#[async_trait]
pub(crate) trait Strength: fmt::Debug + Send + Sync + 'static {
    /// What becomes of a message. What failed is noted when this returns.
    ///
    /// # Errors
    /// The store could not be asked; the message is looked at again.
    async fn run(&self, desk: &Desk, case: &mut Case) -> Result<Told>;
}

/// What a handler says. One that panics, or does not end in time, says that it does not know.
pub(crate) async fn caught(
    desk: &Desk,
    handler: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<(), Failure> {
    let clock = desk.engine.clock();
    let began = clock.boot();
    let ended = tokio::select! {
        biased;
        ended = AssertUnwindSafe(handler).catch_unwind() => {
            ended.unwrap_or_else(|_| Err(Failure::unknown("the handler panicked")))
        }
        () = clock.sleep(desk.policy.run_max) => Err(Failure::unknown("the handler did not end within run_max")),
    };
    desk.observer.on(&Event::Handled(clock.boot().saturating_sub(began)));
    ended
}
