//! One server: calls over a few connections, and, where replicas are waited for, over another one in batches.

use std::sync::Arc;

use onceward_core::Result;
use tokio::time::Instant;

use crate::courier::Courier;
use crate::ear::Ear;
use crate::inspect::Facts;
use crate::keys::Bucket;
use crate::link::{Call, Link, Told};
use crate::near::{Here, Near};
use crate::open::OpenError;
use crate::settings::Address;
use crate::wire::Dialer;

/// How many connections carry calls.
///
/// A server reads 16 KiB from each of its connections, carries out what they say, syncs its file once, and only then
/// answers. Over one connection a sync would be shared by a score of calls, however many wait.
const LANES: usize = 4;

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
    dialer: Arc<Dialer>,
    lanes: [Link; LANES],
    near: Near,
    courier: Option<Courier>,
    ear: Option<Ear>,
}

impl Node {
    /// Connects.
    pub(crate) async fn open(dialer: &Arc<Dialer>, address: &Address) -> Result<Self, OpenError> {
        let link = || Link::open(Arc::clone(dialer), address.clone());
        // The others are made once the first has shown that the server may be used.
        let lanes = [link().await?, link().await?, link().await?, link().await?];
        let courier = if dialer.settings.replicas == 0 {
            None
        } else {
            Some(Courier::start(link().await?, &dialer.settings))
        };
        let ear = Ear::start(dialer, address);
        Ok(Self { dialer: Arc::clone(dialer), lanes, near: Near::new(), courier, ear })
    }

    /// Connects in the background.
    pub(crate) fn start(dialer: &Arc<Dialer>, address: &Address) -> Self {
        let link = || Link::start(Arc::clone(dialer), address.clone());
        let courier = (dialer.settings.replicas > 0).then(|| Courier::start(link(), &dialer.settings));
        let lanes = std::array::from_fn(|_| link());
        let ear = Ear::start(dialer, address);
        Self { dialer: Arc::clone(dialer), lanes, near: Near::new(), courier, ear }
    }

    pub(crate) fn address(&self) -> &Address {
        self.link().address()
    }

    /// What is known of the server; `None` while it is away.
    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.lanes.iter().find_map(Link::facts)
    }

    /// What hears the server's hints, unless the settings want none.
    pub(crate) fn ear(&self) -> Option<&Ear> {
        self.ear.as_ref()
    }

    pub(crate) fn link(&self) -> &Link {
        &self.lanes[0]
    }

    /// The connection for the calls that a runtime makes about a bucket: always the same, so that they stay in order,
    /// unless it is away and another one is not.
    fn lane<'a>(&'a self, here: Option<&'a Here>, bucket: &Bucket) -> &'a Link {
        let near = here.and_then(|it| Some((it.lane(bucket.number)?, it.is_warm)));
        if let Some((near, true)) = near {
            return near;
        }
        let own = &self.lanes[usize::from(bucket.number) % LANES];
        if own.is_up() {
            return own;
        }
        self.lanes.iter().find(|it| it.is_up()).or(near.map(|it| it.0)).unwrap_or(own)
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
            Some(_) | None => {
                let here = self.near.here(&self.dialer, self.address());
                self.lane(here.as_ref(), bucket).call(call, deadline).await
            }
        }
    }
}
