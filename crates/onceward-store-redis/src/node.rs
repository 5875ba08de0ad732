//! One server: calls over one connection, and, where replicas are waited for, over another one in batches.

use std::sync::Arc;

use onceward_core::Result;
use tokio::time::Instant;

use crate::courier::Courier;
use crate::inspect::Facts;
use crate::keys::Bucket;
use crate::link::{Call, Link, Told};
use crate::open::OpenError;
use crate::settings::Address;
use crate::wire::Dialer;

/// What a call needs of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// What it tells must be on as many replicas as the settings say.
    Replicas,
    /// Nothing: its caller looks again before it relies on it.
    Nothing,
}

/// A server and the ways to it.
#[derive(Debug)]
pub(crate) struct Node {
    link: Link,
    courier: Option<Courier>,
}

impl Node {
    /// Connects.
    pub(crate) async fn open(dialer: &Arc<Dialer>, address: &Address) -> Result<Self, OpenError> {
        let link = Link::open(Arc::clone(dialer), address.clone()).await?;
        let courier = if dialer.settings.replicas == 0 {
            None
        } else {
            let waits = Link::open(Arc::clone(dialer), address.clone()).await?;
            Some(Courier::start(waits, &dialer.settings))
        };
        Ok(Self { link, courier })
    }

    /// Connects in the background.
    pub(crate) fn start(dialer: &Arc<Dialer>, address: &Address) -> Self {
        let link = || Link::start(Arc::clone(dialer), address.clone());
        let courier = (dialer.settings.replicas > 0).then(|| Courier::start(link(), &dialer.settings));
        Self { link: link(), courier }
    }

    pub(crate) fn address(&self) -> &Address {
        self.link.address()
    }

    /// What is known of the server; `None` while it is away.
    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.link.facts()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Runs a script until `deadline`; the inner error is the server's.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent. `Uncertain`: it may have been carried out, or it was and is not on enough
    /// replicas.
    pub(crate) async fn call(
        &self,
        bucket: &Bucket,
        call: &Call<'_>,
        needs: Needs,
        deadline: Instant,
    ) -> Result<Told> {
        match &self.courier {
            Some(courier) if needs == Needs::Replicas => courier.call(bucket, call, deadline).await,
            Some(_) | None => self.link.call(call, deadline).await,
        }
    }
}
