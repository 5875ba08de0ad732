//! Calls that are told only once enough replicas have what they tell.
//!
//! `WAIT` holds up its whole connection, so such calls have one of their own, and share the waiting: while one batch
//! waits, the next one gathers. A batch is its calls, then a write that is there for its own sake, then `WAIT`. That
//! write is behind everything in the stream of changes that the calls were shown, whoever wrote it; so a call that only
//! found something waits for it, too.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use onceward_core::Result;
use redis::{Cmd, Pipeline, Value};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::fault;
use crate::keys::Bucket;
use crate::link::{Call, Link, NOSCRIPT, Told};
use crate::settings::RedisSettings;

/// How many calls may wait together.
const BATCH_MAX: usize = 512;

/// Takes calls to a server and brings back what its replicas have confirmed. The task ends with this.
#[derive(Debug)]
pub(crate) struct Courier {
    orders: mpsc::Sender<Order>,
    carrying: JoinHandle<()>,
}

/// The write for its own sake. A full server refuses to set anything unless something was taken away before it.
const MARK: &str = "redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], '1')";

/// A call on its way.
struct Order {
    by_hash: Cmd,
    whole: Cmd,
    mark: String,
    reply: oneshot::Sender<Result<Told>>,
}

/// What a batch waits for.
struct Waiting {
    replicas: u32,
    wait: Duration,
    call_timeout: Duration,
}

impl Courier {
    pub(crate) fn start(link: Link, settings: &RedisSettings) -> Self {
        // There are places for so many calls in the whole store.
        let (orders, taken) = mpsc::channel(settings.max_queue);
        let RedisSettings { replicas, wait, call_timeout, .. } = *settings;
        let waiting = Waiting { replicas, wait, call_timeout };
        let carrying = Handle::current().spawn(carry(Arc::new(link), taken, waiting));
        Self { orders, carrying }
    }

    /// Runs a script until `deadline`; the inner error is the server's.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent. `Uncertain`: it may have been carried out, or it was and is not on enough
    /// replicas.
    pub(crate) async fn call(&self, bucket: &Bucket, call: &Call<'_>, deadline: Instant) -> Result<Told> {
        let (reply, answer) = oneshot::channel();
        let (by_hash, whole) = (call.command(true), call.command(false));
        let order = Order { by_hash, whole, mark: bucket.mark.clone(), reply };
        match timeout_at(deadline, self.orders.send(order)).await {
            Err(_) => return Err(fault::crowded()),
            Ok(Err(_)) => return Err(fault::away("the store is being closed")),
            Ok(Ok(())) => {}
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => Err(fault::silent()),
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

async fn carry(link: Arc<Link>, mut taken: mpsc::Receiver<Order>, waiting: Waiting) {
    let mut batch = Vec::new();
    while taken.recv_many(&mut batch, BATCH_MAX).await > 0 {
        // Whoever has left was not sent yet.
        batch.retain(|it: &Order| !it.reply.is_closed());
        let unknown = deliver(&link, std::mem::take(&mut batch), &waiting, false).await;
        // What the server does not know was not carried out: it is sent again with its script.
        deliver(&link, unknown, &waiting, true).await;
    }
}

/// Sends a batch and tells everybody; gives back the calls of which the server does not know the script.
async fn deliver(link: &Link, batch: Vec<Order>, waiting: &Waiting, whole: bool) -> Vec<Order> {
    let Some(first) = batch.first() else { return Vec::new() };
    let mut commands = Pipeline::with_capacity(batch.len() + 2);
    for order in &batch {
        commands.add_command(if whole { order.whole.clone() } else { order.by_hash.clone() });
    }
    commands.cmd("EVAL").arg(MARK).arg(1).arg(&first.mark);
    let has_waitaof = link.facts().is_some_and(|it| it.has_waitaof);
    let millis = waiting.wait.as_millis().to_string();
    if has_waitaof {
        commands.cmd("WAITAOF").arg(0).arg(waiting.replicas).arg(millis);
    } else {
        commands.cmd("WAIT").arg(waiting.replicas).arg(millis);
    }
    let deadline = Instant::now() + waiting.call_timeout;
    let mut told = match link.send_together(&commands, deadline).boxed().await {
        Ok(told) => told,
        Err(error) => {
            for order in batch {
                let _ = order.reply.send(Err(fault::same(&error)));
            }
            return Vec::new();
        }
    };
    let confirmed = told.pop().map_or(0, |it| confirmed(&it));
    let marked = told.pop().is_some_and(|it| it.is_ok());
    let enough = marked && confirmed >= i64::from(waiting.replicas);
    let mut unknown = Vec::new();
    for (order, told) in batch.into_iter().zip(told) {
        match told {
            Err(error) if error.code() == Some(NOSCRIPT) && !whole => unknown.push(order),
            // Nobody has to confirm that nothing was done.
            Err(error) => drop(order.reply.send(Ok(Err(error)))),
            Ok(value) if enough => drop(order.reply.send(Ok(Ok(value)))),
            Ok(_) => drop(order.reply.send(Err(fault::alone(confirmed, waiting.replicas)))),
        }
    }
    unknown
}

/// How many replicas have it: `WAIT` says a number, `WAITAOF` that of this server before it.
fn confirmed(told: &Told) -> i64 {
    match told {
        Ok(Value::Int(replicas)) => *replicas,
        Ok(Value::Array(both)) => match both.as_slice() {
            [_, Value::Int(replicas)] => *replicas,
            _ => 0,
        },
        Ok(_) | Err(_) => 0,
    }
}
