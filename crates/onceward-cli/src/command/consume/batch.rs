//! Several messages in one request: each has a claim and an outcome of its own, and only the way to the handler is shared.
//!
//! What is gathered are messages whose handlers have begun. Those of one order key are begun one after the other, so two of them
//! are never in one batch.

mod answer;
mod envelope;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use http::{Request, Uri};
use onceward::http::Body;
use onceward::queue::{Failure, Handling};
use onceward_gateway::Upstream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::outcomes;
use self::envelope::envelopes;
use super::effects::add_all;
use super::handler::{ask, post};

type Outcome = Result<(), Failure>;

/// How many messages go together, and for how long the first waits for the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) max: usize,
    pub(super) wait: Duration,
}

/// A message, and who waits for what became of it.
struct Item {
    handling: Handling,
    says: oneshot::Sender<Outcome>,
}

/// Where handlers hand their messages in. Cheap to clone; what gathers them ends with the last.
#[derive(Debug, Clone)]
pub(super) struct Batches(mpsc::Sender<Item>);

impl Batches {
    /// Gathers messages on a task of `tracker`, and sends each batch on another. What is under way at the `shutdown` is cut off.
    pub(super) fn start(
        size: Size,
        upstream: Upstream,
        to: Arc<Uri>,
        tracker: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel(size.max);
        let senders = tracker.clone();
        tracker.spawn(async move {
            while let Some(items) = gather(&mut receiver, size).await {
                let (upstream, to, shutdown) = (upstream.clone(), Arc::clone(&to), shutdown.clone());
                senders.spawn(async move { shutdown.run_until_cancelled(send(upstream, &to, items)).await });
            }
        });
        Self(sender)
    }

    /// Brings a message to the handler, with others if there are some, and says what became of this one.
    ///
    /// # Cancel safety
    /// A message that has not gone out yet does not; one that has may have its effect.
    pub(super) async fn deliver(&self, handling: Handling) -> Outcome {
        let (says, told) = oneshot::channel();
        if self.0.send(Item { handling, says }).await.is_err() {
            return Err(Failure::retry("the consumer ends"));
        }
        told.await.unwrap_or_else(|_| Err(Failure::unknown("the consumer ended before the handler answered")))
    }
}

/// The next batch: as many as there may be, or those that came while the first waited. `None` once nobody hands in any more.
async fn gather(receiver: &mut mpsc::Receiver<Item>, size: Size) -> Option<Vec<Item>> {
    let mut items = vec![receiver.recv().await?];
    let mut over = pin!(tokio::time::sleep(size.wait));
    while items.len() < size.max {
        tokio::select! {
            biased;
            next = receiver.recv() => match next {
                Some(item) => items.push(item),
                None => break,
            },
            () = &mut over => break,
        }
    }
    Some(items)
}

/// Sends a batch once, and tells each who waits what became of its message.
async fn send(upstream: Upstream, to: &Uri, items: Vec<Item>) {
    let items = claimed(items);
    if items.is_empty() {
        return;
    }
    let told = match request(to, &items) {
        Err(why) => items.iter().map(|_| Err(Failure::park(&why))).collect(),
        Ok(request) => {
            let (response, body) = ask(upstream, request).await;
            let keys: Vec<_> = items.iter().map(|it| it.handling.key.as_str()).collect();
            outcomes(&response, body.as_deref(), &keys)
        }
    };
    for (item, told) in items.into_iter().zip(told) {
        let told = told.and_then(|named| add_all(&item.handling.effects, named));
        // It may wait no more.
        let _ = item.says.send(told);
    }
}

/// Those for which somebody waits. Whoever lost its claim meanwhile does not, and its message must not go out.
fn claimed(mut items: Vec<Item>) -> Vec<Item> {
    items.retain(|it| !it.says.is_closed());
    items
}

fn request(to: &Uri, items: &[Item]) -> Result<Request<Body>, String> {
    let body = envelopes(items.iter().map(|it| &it.handling));
    let mut request = post(to, body.into(), "application/json")?;
    request.headers_mut().insert("onceward-batch", HeaderValue::from(items.len()));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use onceward::Key;
    use onceward::queue::Message;

    use super::*;

    fn item(key: &str) -> Item {
        let message =
            Message { topic: "orders".into(), key: None, headers: Vec::new(), body: Default::default() };
        let key = Key::parse(key).unwrap();
        let handling = Handling {
            message: message.into(),
            key,
            fence: None,
            attempt: 1,
            checkpoint: None,
            effects: Default::default(),
        };
        Item { handling, says: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn a_batch_is_full_or_what_came_while_the_first_waited() {
        let sizes = async |wait| {
            let (sender, mut receiver) = mpsc::channel(8);
            for key in ["a", "b", "c", "d", "e"] {
                sender.send(item(key)).await.unwrap();
            }
            drop(sender);
            let mut sizes = Vec::new();
            while let Some(items) = gather(&mut receiver, Size { max: 2, wait }).await {
                sizes.push(items.len());
            }
            sizes
        };
        // Nobody waits for more than there can be, and what is there already goes together.
        assert_eq!(sizes(Duration::from_secs(3600)).await, [2, 2, 1]);
        assert_eq!(sizes(Duration::ZERO).await, [2, 2, 1]);
        let (sender, mut receiver) = mpsc::channel(8);
        sender.send(item("a")).await.unwrap();
        let alone = gather(&mut receiver, Size { max: 2, wait: Duration::ZERO }).await.unwrap();
        assert_eq!(alone.len(), 1, "though another may come");
        drop(sender);
    }

    #[test]
    fn a_message_whose_claim_was_lost_does_not_go_out() {
        let (says, waits) = oneshot::channel();
        let items = claimed(vec![item("lost"), Item { says, ..item("claimed") }, item("lost-too")]);
        let keys: Vec<_> = items.iter().map(|it| it.handling.key.as_str()).collect();
        assert_eq!(keys, ["claimed"]);
        drop(waits);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_waits_for_others_no_longer_than_it_may() {
        let (sender, mut receiver) = mpsc::channel(8);
        let giving = async {
            for key in ["a", "b", "c"] {
                sender.send(item(key)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let size = Size { max: 8, wait: Duration::from_millis(60) };
        let (items, ()) = tokio::join!(gather(&mut receiver, size), giving);
        assert_eq!(items.unwrap().len(), 2);
    }
}
