//! Callers that take pairs, claims and replays through a store's own door, one after the other each.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::latency::Latencies;
use onceward_bench::load::Seen;
use onceward_core::store::{Insert, Replace, Store};
use onceward_core::{Answer, Clock as _, RecordId, SystemClock};
use onceward_pace::floor::{Floor, Rows};
use onceward_pace::made_up;
use onceward_pace::spent::seen;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stores::rows::What;

/// How many stored answers the replays take turns with.
pub(crate) const STORED: u32 = 1000;

/// The id of that number among the stored answers: 26 bytes that say nothing, and twelve decimal digits. So `pgbench` and
/// `redis-benchmark` can write it, too.
pub(crate) fn stored_id(number: u32) -> RecordId {
    let mut bytes = [0x61; 32];
    for (place, byte) in bytes[26..].iter_mut().rev().enumerate() {
        let two = u64::from(number) / 100_u64.pow(u32::try_from(place).unwrap_or(0)) % 100;
        *byte = u8::try_from(two / 10 * 16 + two % 10).unwrap_or(0);
    }
    RecordId::from_bytes(bytes)
}

/// The same for all: what it takes to make one up and to pack it is no store's.
fn answer() -> Answer {
    static ANSWER: LazyLock<Answer> = LazyLock::new(made_up::answer);
    ANSWER.clone()
}

/// Claims `id` and completes it.
///
/// # Errors
/// It was not kept.
pub(crate) async fn pair(store: &dyn Store, id: RecordId) -> Result<()> {
    let claim = made_up::claim(format!("r00001-0-{}", fastrand::u32(..)));
    let Insert::Kept(running) = store.insert(id, &claim).await? else {
        return Err("a new key was not kept".into());
    };
    let done = made_up::completion(claim, answer());
    match store.replace(id, running.revision, &done).await? {
        Replace::Kept(_) => Ok(()),
        Replace::Lost(..) | Replace::Late(_) => Err("a completion was not kept".into()),
    }
}

async fn call(store: &dyn Store, what: What) -> Result<()> {
    match what {
        What::Pair => pair(store, made_up::id()).await,
        What::Claim => {
            let claim = made_up::claim(format!("r00001-0-{}", fastrand::u32(..)));
            match store.insert(made_up::id(), &claim).await? {
                Insert::Kept(_) => Ok(()),
                Insert::Found(..) | Insert::Late(_) => Err("a new key was not kept".into()),
            }
        }
        What::Replay => {
            let claim = made_up::claim(format!("r00001-0-{}", fastrand::u32(..)));
            match store.insert(stored_id(fastrand::u32(..STORED)), &claim).await? {
                Insert::Found(..) => Ok(()),
                Insert::Kept(_) | Insert::Late(_) => Err("a stored answer was not found".into()),
            }
        }
    }
}

/// The rows of a pair, one behind the other, to a bare file.
async fn written(floor: &Floor) -> Result<()> {
    let (id, claim) = (made_up::id(), made_up::claim(format!("r00001-0-{}", fastrand::u32(..))));
    let running = claim.stamp(id, None, SystemClock.wall());
    floor.write(Rows::of(None, &running)).await?;
    let done = made_up::completion(claim, answer());
    floor.write(Rows::of(Some(&running), &done.stamp(id, Some(&running), SystemClock.wall()))).await
}

/// So many callers for so long.
pub(crate) async fn through(
    store: &Arc<dyn Store>,
    what: What,
    callers: u32,
    length: Duration,
) -> Result<Seen> {
    let store = Arc::clone(store);
    crowd(callers, length, move || {
        let store = Arc::clone(&store);
        async move { call(&*store, what).await }
    })
    .await
}

/// The same with a bare file.
pub(crate) async fn to_file(floor: &Arc<Floor>, callers: u32, length: Duration) -> Result<Seen> {
    let floor = Arc::clone(floor);
    crowd(callers, length, move || {
        let floor = Arc::clone(&floor);
        async move { written(&floor).await }
    })
    .await
}

async fn crowd<F, Fut>(callers: u32, length: Duration, once: F) -> Result<Seen>
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send,
{
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    for _ in 0..callers {
        let once = once.clone();
        tasks.spawn(async move {
            let mut took = Latencies::default();
            while begun.elapsed() < length {
                let asked = Instant::now();
                once().await?;
                took.add(asked.elapsed());
            }
            Result::Ok(took)
        });
    }
    let mut took = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        took.merge(&ended??);
    }
    seen(took, begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_id_ends_with_its_number_in_decimal() {
        let shown: String = stored_id(90_817).as_bytes()[25..].iter().map(|it| format!("{it:02x}")).collect();
        assert_eq!(shown, "61000000090817");
    }
}
