//! Hints for waiters: one small statement asks for all records of this process that somebody waits for.
//!
//! The server could tell by itself (`NOTIFY`), but then every run that ends would have to find out whether somebody waits,
//! and whoever waits would need a session, which poolers do not keep. So those who wait pay, and only while they do.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::RecordId;
use onceward_core::store::Hints;
use onceward_core::store::hints::Listeners;
use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::queue::{Ask, Queue, Ticket};
use crate::row;

/// For how many records one process asks at most. Who waits for one more polls.
const RECORDS_MAX: usize = 1024;
/// The pauses between two looks. They grow by an eighth of themselves, so that somebody who waited for a while is told at
/// most about an eighth of that late; one who comes anew makes them short again.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Asks for what somebody waits for.
#[derive(Clone)]
pub(crate) struct Watch {
    listeners: Arc<Listeners>,
    queue: Arc<Queue>,
    text: Arc<str>,
    /// The longest that one look may take.
    limit: Duration,
}

impl Watch {
    /// Asks by `text`, over the connections behind `queue`.
    pub(crate) fn new(queue: &Arc<Queue>, text: &Arc<str>, limit: Duration) -> Self {
        let listeners = Listeners::new(RECORDS_MAX);
        Self { listeners, queue: Arc::clone(queue), text: Arc::clone(text), limit }
    }

    pub(crate) fn hints(&self, id: RecordId) -> Option<Hints> {
        self.listeners.join(id)
    }

    /// Asks while somebody waits, until the store is closed.
    pub(crate) async fn run(self) {
        let _closed = self.queue.before_use(self.watch()).await;
        self.listeners.close();
    }

    async fn watch(&self) -> ! {
        loop {
            self.listeners.wanted().await;
            let mut wanted: HashSet<_> = self.listeners.begin().into_iter().collect();
            let mut pause = PAUSE_MIN;
            while !wanted.is_empty() {
                tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 4.0)).await;
                pause = pause.mul_f64(1.125).min(PAUSE_MAX);
                for (id, waits) in self.listeners.changes().now_or_never().unwrap_or_default() {
                    if waits {
                        wanted.insert(id);
                        pause = PAUSE_MIN;
                    } else {
                        wanted.remove(&id);
                    }
                }
                // Where it cannot be asked, those who wait find out by their own calls.
                for row in self.look(&wanted).await.unwrap_or_default() {
                    row::id(&row, 0).into_iter().for_each(|it| self.listeners.hint(it));
                }
            }
            self.listeners.deaf();
        }
    }

    async fn look(&self, wanted: &HashSet<RecordId>) -> Option<Vec<Row>> {
        if wanted.is_empty() {
            return None;
        }
        let ids: Vec<_> = wanted.iter().map(|it| it.as_bytes().to_vec()).collect();
        let (reply, told) = oneshot::channel();
        let (text, values) = (Arc::clone(&self.text), vec![(Box::new(ids) as _, Type::BYTEA_ARRAY)]);
        self.queue.push(Ask::Rows { text, values, reads: true, reply }, Ticket::default()).ok()?;
        tokio::time::timeout(self.limit, told).await.ok()?.ok()?.ok()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    const ONE: RecordId = RecordId::from_bytes([1; 32]);
    const OTHER: RecordId = RecordId::from_bytes([2; 32]);

    /// How many records the next statement asks for; `None` when there is none for far longer than any pause.
    async fn asked(queue: &Queue) -> Option<usize> {
        let batch = tokio::time::timeout(100 * PAUSE_MAX, queue.take()).await.ok()??;
        let Some(Ask::Rows { values, reply, .. }) = batch.into_iter().next() else {
            panic!("it asks for rows")
        };
        let (value, kind) = &values[0];
        let mut bytes = bytes::BytesMut::new();
        value.to_sql_checked(kind, &mut bytes).unwrap();
        reply.send(Ok(Vec::new())).unwrap();
        // Behind the number of dimensions, whether there are nulls, and what they are of.
        Some(usize::try_from(i32::from_be_bytes(bytes[12..16].try_into().unwrap())).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_while_somebody_waits_once_for_each_record_and_not_otherwise() {
        let queue = Arc::new(Queue::new(8));
        queue.linked();
        let watch = Watch::new(&queue, &Arc::from("SELECT"), PAUSE_MAX);
        let mut running = pin!(watch.clone().run());
        let checks = async {
            assert_eq!(asked(&queue).await, None, "nobody waits");
            let hints: Vec<_> = (0..1000).map(|_| watch.hints(ONE).unwrap()).collect();
            assert_eq!(asked(&queue).await, Some(1));
            let other = watch.hints(OTHER);
            assert_eq!(asked(&queue).await, Some(2));
            drop(hints);
            assert_eq!(asked(&queue).await, Some(1));
            drop(other);
            assert_eq!(asked(&queue).await, None, "nobody waits any more");
            let _again = watch.hints(ONE);
            assert_eq!(asked(&queue).await, Some(1));
        };
        tokio::select! {
            () = &mut running => panic!("the store was not closed"),
            () = checks => {}
        }
        queue.close();
        running.await;
        assert!(watch.hints(ONE).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_somebody_waits_the_less_often_it_asks() {
        let queue = Arc::new(Queue::new(8));
        queue.linked();
        let watch = Watch::new(&queue, &Arc::from("SELECT"), PAUSE_MAX);
        let _hints = watch.hints(ONE);
        let began = tokio::time::Instant::now();
        let counts = async {
            let (mut first, mut all) = (0, 0);
            while began.elapsed() < Duration::from_secs(10) {
                asked(&queue).await;
                all += 1;
                first += usize::from(began.elapsed() < Duration::from_millis(200));
            }
            (first, all)
        };
        let (first, all) = tokio::select! {
            () = watch.run() => panic!("the store was not closed"),
            counted = counts => counted,
        };
        assert!((6..=10).contains(&first), "{first} within 200 ms");
        assert!((100..=150).contains(&all), "{all} within 10 s");
    }
}
