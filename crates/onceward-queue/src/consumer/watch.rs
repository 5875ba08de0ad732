//! What a consumer asks its broker besides messages: for how long they can come again, and how many wait.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{Clock, Error, ErrorKind, Result};

use super::ConsumerSettings;
use crate::event::{Event, Observer};
use crate::source::Source;
use crate::windows::Level;

/// How long the broker may take to answer; it is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked how many messages wait.
const LAG_EVERY: Duration = Duration::from_secs(15);

pub(super) struct Watch {
    pub(super) source: Arc<dyn Source>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observer: Arc<dyn Observer>,
}

impl Watch {
    /// Holds the windows of the broker against the settings. A broker that does not say holds nobody up.
    ///
    /// # Errors
    /// `Invalid`: they do not fit, and nobody said that they need not.
    pub(super) async fn check(&self, settings: &ConsumerSettings) -> Result<()> {
        let asked = tokio::time::timeout(PATIENCE, self.source.windows()).await;
        let windows = match asked {
            Ok(Ok(windows)) => windows,
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the broker does not say for how long messages can come again");
                return Ok(());
            }
            Err(_) => {
                tracing::warn!("the broker does not say in time for how long messages can come again");
                return Ok(());
            }
        };
        if let Some(headroom) = windows.headroom(&settings.policy) {
            self.observer.on(&Event::Headroom(headroom));
        }
        let misfits = windows.misfits(&settings.policy, &settings.retries);
        let refused = misfits.iter().find(|it| it.level == Level::Error && !settings.short_windows);
        for it in misfits.iter().filter(|it| Some(*it) != refused) {
            tracing::warn!("{it}");
        }
        match refused {
            Some(it) => {
                let why = std::io::Error::other(it.to_string());
                Err(Error::new(ErrorKind::Invalid, "consume: the windows of the broker are too long")
                    .caused_by(why))
            }
            None => Ok(()),
        }
    }

    /// Tells how many messages wait, now and then, for as long as it is polled; first what does not fit `unchecked` settings.
    pub(super) async fn lag(&self, unchecked: Option<&ConsumerSettings>) -> Infallible {
        if let Some(settings) = unchecked {
            // It refuses nothing.
            let _ = self.check(settings).await;
        }
        loop {
            if let Ok(Ok(Some(messages))) = tokio::time::timeout(PATIENCE, self.source.lag()).await {
                self.observer.on(&Event::Lag(messages));
            }
            self.clock.sleep(LAG_EVERY).await;
        }
    }
}
