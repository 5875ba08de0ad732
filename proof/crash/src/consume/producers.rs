//! Producers: each id comes once or up to four times, at the same moment, soon after, or much later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use onceward::ErrorKind;
use onceward::queue::{Message, Source};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Field;
use super::broker::TOPIC;
use crate::Result;
use crate::time::{ms, now};

/// What messages are ordered by.
const KEYS: usize = 50;
/// How many are published at a time.
const AT_ONCE: usize = 16;
/// The header that has the id.
pub(super) const ID: &str = "event-id";

/// The ids of a run, in the order in which they come first.
pub(super) fn ids(field: &Field<'_>) -> Vec<String> {
    (0..field.messages()).map(|it| format!("m{it}")).collect()
}

/// Publishes all copies, spread over the time of the run.
pub(super) fn publish(field: &Field<'_>) -> Result<()> {
    let mut rng = Rng::with_seed(field.args.subject.seed ^ 0x7072_6f64);
    let whole = Duration::from_secs(field.args.seconds);
    let mut copies: Vec<(Duration, String)> = Vec::new();
    for id in ids(field) {
        let first = whole.mul_f64(rng.f64());
        for copy in 0..rng.u32(1..=4) {
            let at = match (copy, rng.u32(0..3)) {
                (0, _) | (_, 0) => first,
                (_, 1) => first + ms(rng.u64(0..3_000)),
                _ => first + whole.saturating_sub(first).mul_f64(rng.f64()),
            };
            copies.push((at, id.clone()));
        }
    }
    copies.sort();
    send(field, copies)
}

/// Publishes each id once more: what is over must stay over.
pub(super) fn publish_again(field: &Field<'_>) -> Result<()> {
    send(field, ids(field).into_iter().map(|it| (Duration::ZERO, it)).collect())
}

fn send(field: &Field<'_>, copies: Vec<(Duration, String)>) -> Result<()> {
    let source = field.broker.lock().map_err(|_| "the broker's keeper panicked")?.producer()?;
    let (published, slots) = (Arc::clone(&field.published), Arc::new(Semaphore::new(AT_ONCE)));
    field.runtime.block_on(async {
        let (began, mut sending) = (now(), JoinSet::new());
        for (at, id) in copies {
            tokio::time::sleep((began + at).saturating_sub(now())).await;
            let slot = Arc::clone(&slots).acquire_owned().await?;
            let (source, published) = (Arc::clone(&source), Arc::clone(&published));
            sending.spawn(async move {
                let sent = send_one(&*source, &id, &published).await;
                drop(slot);
                sent
            });
        }
        sending.join_all().await.into_iter().collect::<Result<()>>()?;
        source.close().await;
        Ok(())
    })
}

/// Until the broker has confirmed it: what is in doubt is published again, as producers do.
async fn send_one(source: &dyn Source, id: &str, published: &AtomicU64) -> Result<()> {
    let key = format!("k{}", fastrand::Rng::with_seed(seed_of(id)).usize(0..KEYS));
    let message = Message {
        topic: TOPIC.into(),
        key: Some(key.into()),
        headers: vec![(ID.to_owned(), Bytes::copy_from_slice(id.as_bytes()))],
        body: Bytes::copy_from_slice(id.as_bytes()),
    };
    loop {
        match source.publish(&message).await {
            Ok(()) => {
                published.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Invalid => return Err(error.into()),
            Err(error) => {
                if error.kind() == ErrorKind::Uncertain {
                    published.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(ms(100)).await;
            }
        }
    }
}

/// The same number for the same name.
pub(super) fn seed_of(name: &str) -> u64 {
    let hash = blake3::hash(name.as_bytes());
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}
