//! What hears a server's hints: a connection that is there only while somebody waits.
//!
//! A script that ends a run publishes on a channel that is called as the record. Here each record that somebody waits for
//! is one subscription, however many wait. When the connection is lost it is made again, and everybody looks once; a
//! record that moved to another server ends here, and whoever waits for it asks for hints there.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use onceward_core::RecordId;
use onceward_core::store::Hints;
use onceward_core::store::hints::Listeners;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Cmd, PushInfo, PushKind, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::fault;
use crate::keys::Buckets;
use crate::open::OpenError;
use crate::settings::Address;
use crate::wire::Dialer;

/// How many records are listened for at most. Who waits for one more polls.
const RECORDS_MAX: usize = 4096;
/// The pauses between tries to connect again: they double, and each is cut by up to a half at random.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The pause after the server said that the user may not listen: somebody has to change that.
const PAUSE_REFUSED: Duration = Duration::from_secs(60);

/// Hears the hints of one server. Its task ends with this.
pub(crate) struct Ear {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    dialer: Arc<Dialer>,
    address: Address,
    listeners: Arc<Listeners>,
    /// What the records are called, once somebody waits for one.
    names: OnceLock<Arc<Buckets>>,
}

/// Why nothing is heard any more.
enum End {
    /// Nobody waits.
    Idle,
    Lost(String),
    Refused(String),
}

impl Ear {
    /// Waits for somebody who wants hints; `None` where the settings want none.
    pub(crate) fn start(dialer: &Arc<Dialer>, address: &Address) -> Option<Self> {
        let shared = Arc::new(Shared {
            dialer: Arc::clone(dialer),
            address: address.clone(),
            listeners: Listeners::new(RECORDS_MAX),
            names: OnceLock::new(),
        });
        let tending = tend(Arc::clone(&shared));
        dialer.settings.hints.then(|| Self { shared, task: Handle::current().spawn(tending) })
    }

    /// Hints at the record `id`, which is in one of `buckets`.
    pub(crate) fn hints(&self, buckets: &Arc<Buckets>, id: RecordId) -> Option<Hints> {
        self.shared.names.get_or_init(|| Arc::clone(buckets));
        self.shared.listeners.join(id)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.listeners.close();
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ear").field("listeners", &self.shared.listeners).finish_non_exhaustive()
    }
}

/// Listens while somebody waits, for ever. What goes wrong is said once, until it goes well again.
async fn tend(shared: Arc<Shared>) {
    let (mut pause, mut is_said) = (PAUSE_MIN, false);
    loop {
        shared.listeners.wanted().await;
        let end = shared.listen(&mut is_said, &mut pause).await;
        shared.listeners.deaf();
        let (cause, next) = match end {
            End::Idle => continue,
            End::Lost(cause) => (cause, pause),
            End::Refused(cause) => (cause, PAUSE_REFUSED),
        };
        if !std::mem::replace(&mut is_said, true) {
            let server = &shared.address;
            tracing::warn!(%server, cause, "no hints from the Redis server: whoever waits looks now and then");
        }
        tokio::time::sleep(next.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Shared {
    /// Connects, and listens until nobody waits or the connection is of no use.
    async fn listen(&self, is_said: &mut bool, pause: &mut Duration) -> End {
        let moved = Arc::new(Notify::new());
        let heard = {
            let (listeners, moved) = (Arc::clone(&self.listeners), Arc::clone(&moved));
            move |push: PushInfo| {
                hear(&listeners, &moved, &push);
                Ok::<_, ()>(())
            }
        };
        let (connection, driver) = match self.dialer.hear(&self.address, heard).await {
            Ok(connected) => connected,
            Err(error @ OpenError::Login { .. }) => return End::Refused(error.to_string()),
            Err(error) => return End::Lost(error.to_string()),
        };
        let following = async {
            match self.follow(connection, is_said, pause).await {
                Err(end) => end,
                Ok(never) => match never {},
            }
        };
        let following = Box::pin(async {
            match select(Box::pin(following), Box::pin(moved.notified())).await {
                Either::Left((end, _)) => end,
                Either::Right(_) => End::Lost("a record that is waited for moved".to_owned()),
            }
        });
        match select(following, driver).await {
            Either::Left((end, _)) => end,
            Either::Right(_) => End::Lost("it closed the connection".to_owned()),
        }
    }

    /// Subscribes to what is waited for, and to nothing else.
    async fn follow(
        &self,
        mut connection: MultiplexedConnection,
        is_said: &mut bool,
        pause: &mut Duration,
    ) -> Result<std::convert::Infallible, End> {
        let limit = self.dialer.settings.call_timeout;
        let mut subscriptions = Subscriptions { held: HashSet::new(), sharded: self.dialer.settings.cluster };
        let mut changes: Vec<_> = self.listeners.begin().into_iter().map(|it| (it, true)).collect();
        loop {
            let changing = self.change(&connection, &mut subscriptions, changes);
            let changed = timeout(limit, changing).await;
            changed.map_err(|_| End::Lost("it does not answer in time".to_owned()))??;
            *pause = PAUSE_MIN;
            if std::mem::take(is_said) {
                tracing::info!(server = %self.address, "hints from the Redis server again");
            }
            changes = match timeout(limit, self.listeners.changes()).await {
                Ok(changes) => changes,
                Err(_) if self.listeners.is_empty() => return Err(End::Idle),
                Err(_) => {
                    // A connection that was cut without a word would never say so.
                    let answered = timeout(limit, connection.req_packed_command(&redis::cmd("PING"))).await;
                    match answered {
                        Ok(told) => told.map_err(|it| End::Lost(fault::describe(&it)))?,
                        Err(_) => return Err(End::Lost("it does not answer in time".to_owned())),
                    };
                    Vec::new()
                }
            };
        }
    }

    async fn change(
        &self,
        connection: &MultiplexedConnection,
        subscriptions: &mut Subscriptions,
        changes: Vec<(RecordId, bool)>,
    ) -> Result<(), End> {
        let Some(names) = self.names.get() else { return Ok(()) };
        let (old, news): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(id, wanted)| *wanted == subscriptions.held.contains(id));
        // Somebody came as the last one left.
        old.into_iter().filter(|it| it.1).for_each(|it| self.listeners.heard(it.0));
        let send = |(id, wanted), sharded| {
            let mut connection = connection.clone();
            async move {
                let mut command = Cmd::new();
                command.arg(verb(wanted, sharded)).arg(names.of(id).record(id));
                let told = connection.req_packed_command(&command).await.and_then(Value::extract_error);
                (id, wanted, told)
            }
        };
        let mut told = join_all(news.into_iter().map(|it| send(it, subscriptions.sharded))).await;
        if subscriptions.sharded && told.iter().any(|it| it.2.as_ref().is_err_and(is_unknown)) {
            // A Cluster before 7.0.
            subscriptions.sharded = false;
            told = join_all(told.into_iter().map(|it| send((it.0, it.1), false))).await;
        }
        for (id, wanted, told) in told {
            match told {
                Ok(_) if wanted => {
                    subscriptions.held.insert(id);
                    self.listeners.heard(id);
                }
                Ok(_) => drop(subscriptions.held.remove(&id)),
                Err(error) if error.code() == Some("MOVED") => self.listeners.end(id),
                Err(error) if error.code() == Some("NOPERM") => {
                    return Err(End::Refused(fault::describe(&error)));
                }
                Err(error) => return Err(End::Lost(fault::describe(&error))),
            }
        }
        Ok(())
    }
}

/// What the connection is subscribed to.
struct Subscriptions {
    held: HashSet<RecordId>,
    /// By the commands for channels that stay with their slot.
    sharded: bool,
}

fn verb(wanted: bool, sharded: bool) -> &'static str {
    match (wanted, sharded) {
        (true, true) => "SSUBSCRIBE",
        (true, false) => "SUBSCRIBE",
        (false, true) => "SUNSUBSCRIBE",
        (false, false) => "UNSUBSCRIBE",
    }
}

/// Whether the server has no such command.
fn is_unknown(error: &RedisError) -> bool {
    error.to_string().contains("unknown command")
}

/// Takes what the server sends by itself.
fn hear(listeners: &Listeners, moved: &Notify, push: &PushInfo) {
    let Some(id) = push.data.first().and_then(named) else { return };
    match push.kind {
        PushKind::Message | PushKind::SMessage => listeners.hint(id),
        // The server says so by itself when the slot leaves it. The driver takes that for the answer to something that was
        // asked: so this connection goes.
        PushKind::SUnsubscribe if listeners.waits(id) => {
            listeners.end(id);
            moved.notify_one();
        }
        _ => {}
    }
}

/// The record that a channel is called after: 64 digits at its end.
fn named(channel: &Value) -> Option<RecordId> {
    let Value::BulkString(name) = channel else { return None };
    let digits = name.get(name.len().checked_sub(64)?..)?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(RecordId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_called_as_its_record_and_nothing_else_is_one() {
        let id = RecordId::from_bytes([0xa7; 32]);
        let name = Buckets::new("shop", 64).of(id).record(id);
        let read = |text: &str| named(&Value::BulkString(text.into()));
        assert_eq!(read(&name), Some(id));
        assert_eq!(read(&name[name.len() - 63..]), None);
        assert_eq!(read(&name.replace('a', "g")), None);
        assert_eq!(named(&Value::Int(1)), None);
    }
}
