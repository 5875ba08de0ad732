//! The addresses of one upstream, as long as they count.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::fault::Fault;
use super::names::Names;

/// How long requests wait for an answer about a name whose old addresses could still serve.
const PATIENCE: Duration = Duration::from_secs(1);

/// How soon the name is looked up again after nobody could be asked.
const RETRY: Duration = Duration::from_secs(10);

/// What the name of an upstream stands for.
#[derive(Debug)]
pub(super) struct Addresses {
    host: String,
    known: Mutex<Option<Known>>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// None: for ever.
    until: Option<Instant>,
}

impl Addresses {
    pub(super) fn of(host: String) -> Self {
        Self { host, known: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The addresses that count now. When nobody can be asked, those known before serve on.
    ///
    /// # Errors
    /// `Unreachable`: the name has no address, or none was found within `limit`.
    /// # Cancel safety
    /// Dropping this future leaves what was known.
    pub(super) async fn current(&self, names: &Names, limit: Duration) -> Result<Arc<[IpAddr]>, Fault> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let limit = if self.known().is_some() { limit.min(PATIENCE) } else { limit };
        let asked = tokio::time::timeout(limit, async {
            let _one = self.asking.lock().await;
            if let Some(fresh) = self.fresh() {
                return Ok(fresh);
            }
            let resolved = names.resolve(&self.host).await?;
            let until = resolved.life.map(|it| Instant::now() + it);
            Ok(self.know(Known { addresses: resolved.addresses.into(), until }))
        })
        .await
        .map_err(std::io::Error::from)
        .flatten();
        asked.or_else(|error| {
            debug!(%error, "the name of an upstream cannot be resolved");
            let old = self.known().clone().ok_or(Fault::Unreachable)?;
            Ok(self.know(Known { until: Some(Instant::now() + RETRY), ..old }))
        })
    }

    /// The addresses that count now, where nobody need be asked.
    pub(super) fn fresh(&self) -> Option<Arc<[IpAddr]>> {
        let known = self.known();
        let it = known.as_ref().filter(|it| it.until.is_none_or(|until| Instant::now() < until))?;
        Some(Arc::clone(&it.addresses))
    }

    fn know(&self, it: Known) -> Arc<[IpAddr]> {
        let addresses = Arc::clone(&it.addresses);
        *self.known() = Some(it);
        addresses
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
