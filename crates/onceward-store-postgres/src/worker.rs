//! The life of one connection: connect, take calls, connect again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::batch;
use crate::dial::Dialer;
use crate::fault::Cause;
use crate::link::Link;
use crate::queue::Queue;
use crate::replicas;
use crate::sql::Sql;

/// The first and the longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a new connection waits for the server's replicas, at least the first time and at most.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
const PATIENCE_MAX: Duration = Duration::from_secs(600);

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
        let (mut pause, mut patience) = (PAUSE_MIN, self.patience());
        let mut host = self.dialer.first();
        loop {
            if link.is_none() && self.spare && !self.queue.wanted().await {
                return;
            }
            let mut connected = match link.take() {
                Some(it) => it,
                None => match self.queue.before_use(self.connect(&mut host, patience)).await {
                    Some(Ok(it)) => {
                        self.queue.linked();
                        it
                    }
                    Some(Err((cause, next_patience))) => {
                        self.queue.not_linked(cause);
                        patience = next_patience;
                        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                        continue;
                    }
                    None => return,
                },
            };
            (pause, patience) = (PAUSE_MIN, self.patience());
            match self.serve(&mut connected).await {
                Some(cause) => {
                    // A host that takes writes and does not carry them out must not be the only one that is asked.
                    host = connected.host + 1;
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

    /// How long a new connection waits for the server's replicas at first.
    fn patience(&self) -> Duration {
        self.call_timeout.max(PATIENCE_MIN)
    }

    /// Connects to a server that can carry out writes. When it cannot, says how long to wait for that the next time: a
    /// connection that was given up stays on the server until its replicas are back, and they must not become many.
    async fn connect(&self, host: &mut usize, patience: Duration) -> Result<Link, (Cause, Duration)> {
        let mut link = self.dialer.dial(*host, None).await.map_err(|it| (it, patience))?;
        self.queue.not_linked(Cause("a new connection waits for the server's replicas".to_owned()));
        match replicas::wait(&mut link, Instant::now() + patience).await {
            Ok(()) => Ok(link),
            Err(cause) => {
                *host = link.host + 1;
                Err((cause, (patience * 2).min(PATIENCE_MAX)))
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
