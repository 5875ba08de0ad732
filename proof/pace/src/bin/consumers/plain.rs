//! The consumer that remembers nothing.
//!
//! It is a plain loop over the same [`Source`], as somebody writes it who leaves it at that: it receives, hands each
//! message to the task of its key, and that task runs the handler and acknowledges. So messages of one key keep their
//! order and as many handlers run at a time as there are keys, as in the consumer that it is compared with. It counts no
//! attempts, extends nothing and has no dead letters. That is less than our own loop over a store that protects nothing
//! would do: the ratio to it has the whole price in it, also that of our loop.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use onceward_bench::Result;
use onceward_queue::source::Arrival;
use onceward_queue::{Delivery, Message, Source};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;

/// What to do with a message.
pub(crate) type Handler = Arc<dyn Fn(Arc<Message>) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// How many messages it has in hand at a time: as many as a `Consumer` has.
const IN_HAND: usize = 256;

/// Consumes until `stop` completes; what runs then is dropped.
///
/// # Errors
/// The source's, or the handler's.
pub(crate) async fn run(
    source: Arc<dyn Source>,
    keys: u32,
    handler: Handler,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let (mut tasks, mut lines) = (JoinSet::new(), HashMap::new());
    let each = (IN_HAND / keys as usize).max(1);
    let receiving = async {
        loop {
            for arrival in source.receive(IN_HAND).await? {
                let Arrival::Delivered(delivery) = arrival else { continue };
                let key = delivery.message.key.clone().unwrap_or_default();
                let line = lines.entry(key).or_insert_with_key(|_: &Bytes| {
                    let (to, from) = channel(each);
                    tasks.spawn(work(Arc::clone(&source), Arc::clone(&handler), from));
                    to
                });
                if line.send(delivery).await.is_err() {
                    return tasks.join_next().await.ok_or("a task ended by itself")??;
                }
            }
        }
    };
    tokio::select! {
        ended = receiving => ended,
        () = stop => Ok(()),
    }
}

async fn work(source: Arc<dyn Source>, handler: Handler, mut line: Receiver<Delivery>) -> Result<()> {
    while let Some(delivery) = line.recv().await {
        handler(delivery.message).await?;
        source.acknowledge(&[delivery.receipt]).await?;
    }
    Ok(())
}
