//! The life of one connection: connect, take calls, connect again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch;
use crate::fault::Cause;
use crate::link::Link;
use crate::queue::Queue;
use crate::sql::Sql;
use crate::tls::Dialer;

/// The first and the longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long connecting may take at least, however short a call's time is.
const CONNECT_MIN: Duration = Duration::from_secs(5);

/// One of the store's connections.
pub(crate) struct Worker {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) call_timeout: Duration,
    pub(crate) sql: Arc<Sql>,
    pub(crate) queue: Arc<Queue>,
    /// Whether it is there only while the others do not manage.
    pub(crate) spare: bool,
}

impl Worker {
    /// Works until the store was closed and nothing waits. `link` is what the store was opened with, and counted.
    pub(crate) async fn run(self, mut link: Option<Link>) {
        let mut pause = PAUSE_MIN;
        loop {
            if link.is_none() && self.spare && !self.queue.wanted().await {
                return;
            }
            let mut connected = match link.take() {
                Some(it) => it,
                None if self.queue.is_closed() => return,
                None => {
                    let deadline = Instant::now() + self.call_timeout.max(CONNECT_MIN);
                    match Link::connect(&self.dialer, deadline).await {
                        Ok(it) => {
                            self.queue.linked();
                            it
                        }
                        Err(cause) => {
                            self.queue.not_linked(cause);
                            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                            pause = (pause * 2).min(PAUSE_MAX);
                            continue;
                        }
                    }
                }
            };
            pause = PAUSE_MIN;
            match self.serve(&mut connected).await {
                Some(cause) => {
                    tracing::warn!(%cause, "a connection to PostgreSQL ended");
                    self.queue.unlinked(cause);
                }
                None => {
                    self.queue.unlinked(Cause("the store was closed".to_owned()));
                    return;
                }
            }
        }
    }

    /// Takes calls until the connection ends, for this reason, or the store was closed.
    async fn serve(&self, link: &mut Link) -> Option<Cause> {
        loop {
            let Some(taken) = link.meanwhile(self.queue.take()).await else {
                return Some(
                    link.ended().cloned().unwrap_or_else(|| Cause("the connection ended".to_owned())),
                );
            };
            let batch = taken?;
            let deadline = Instant::now() + self.call_timeout;
            if let Err(cause) = batch::carry_out(link, &self.sql, batch, deadline).await {
                return Some(cause);
            }
        }
    }
}
