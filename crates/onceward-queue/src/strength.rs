//! How strongly "once" is kept.

use std::fmt;

use async_trait::async_trait;
use onceward_core::Result;

use crate::desk::{Case, Desk, Told};

pub(crate) mod lease;

/// Runs a handler unless its message had its effect before.
#[async_trait]
pub(crate) trait Strength: fmt::Debug + Send + Sync + 'static {
    /// What becomes of a message. What failed is noted when this returns.
    ///
    /// # Errors
    /// The store could not be asked; the message is looked at again.
    async fn run(&self, desk: &Desk, case: &mut Case) -> Result<Told>;
}
