//! Redis Streams: a consumer group of one stream on Redis 6.2 or later, or Valkey: one server, the primary that Sentinels name,
//! or the node of a Cluster that has the stream.
//!
//! An entry's field `body` is the payload and `key` what is ordered by, if it is there; every other field is a header.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::{Entropy as _, Error, ErrorKind, Result, SystemEntropy};
use redis::{Cmd, FromRedisValue, RedisError, Script, Value};
use tokio::sync::Mutex;

use self::door::{Door, Link};
use super::{Arrival, Capabilities, Source};
use crate::message::{Delivery, Lane, Message, Receipt, Seen};
use crate::windows::{Kept, Windows};

mod door;
mod settings;
mod writing;

pub use self::settings::RedisStreamsSettings;
use self::writing::Writing;

const BODY: &str = "body";
const KEY: &str = "key";

const RECEIVE: &str = "receive messages";
const CLAIM: &str = "claim messages of consumers that died";

/// How long one blocking read waits at the server. Between two of them entries of consumers that died are looked for.
const BLOCK: Duration = Duration::from_millis(500);
/// How long a connection, or an answer, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps or frees deliveries, each only while it is this consumer's: after that, whoever has it must not lose it again.
/// `KEYS[1]` stream, `ARGV[1]` group, `ARGV[2]` consumer, `ARGV[3]` how long they shall seem to have been idle, then ids.
/// Gives back the ids that are not this consumer's.
const KEEP: &str = "
    local lost = {}
    for i = 4, #ARGV do
        local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
        if found[1] and found[1][2] == ARGV[2] then
            redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
        else
            lost[#lost + 1] = ARGV[i]
        end
    end
    return lost";

/// Lets others have at once what this consumer leaves, and forgets the consumer if it leaves nothing. `KEYS[1]` stream,
/// `ARGV[1]` group, `ARGV[2]` consumer, `ARGV[3]` how long it shall seem to have been idle.
const LEAVE: &str = "
    local left = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])
    for _, it in ipairs(left) do
        redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, it[1], 'IDLE', ARGV[3], 'JUSTID')
    end
    if #left == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    end
    return #left";

/// A consumer of a group.
pub struct RedisStreams {
    settings: RedisStreamsSettings,
    door: Door,
    /// The name of this consumer in its group: nobody else's, also not of this process before a restart.
    name: String,
    lane: Lane,
    topic: Arc<str>,
    next: AtomicU64,
    /// Reads block; nobody else uses the connection that waits.
    reading: Mutex<Option<Arc<Link>>>,
    asking: Mutex<Option<Arc<Link>>>,
    writing: Writing,
    /// Whether there may be something to leave. Who only publishes joins no group.
    joined: AtomicBool,
    /// Where the search for entries of consumers that died goes on.
    claim_from: Mutex<String>,
    keep: Script,
    leave: Script,
}

impl RedisStreams {
    /// A consumer of its own name in the group. Asks nobody yet.
    ///
    /// # Errors
    /// `Invalid`: the URL is none, a name is empty, or there is no certificate to trust.
    pub fn new(settings: RedisStreamsSettings) -> Result<Self> {
        let door = Door::new(&settings)?;
        let mut random = [0; 8];
        SystemEntropy
            .fill(&mut random)
            .map_err(|it| Error::new(ErrorKind::Unavailable, "name a consumer").caused_by(it))?;
        Ok(Self {
            name: format!("onceward-{:016x}", u64::from_be_bytes(random)),
            lane: Lane(settings.stream.as_str().into()),
            topic: settings.stream.as_str().into(),
            door,
            next: AtomicU64::new(0),
            reading: Mutex::default(),
            asking: Mutex::default(),
            writing: Writing::default(),
            joined: AtomicBool::new(false),
            claim_from: Mutex::new("0-0".to_owned()),
            keep: Script::new(KEEP),
            leave: Script::new(LEAVE),
            settings,
        })
    }

    /// A connection of the kind, and what it says; one that failed is not used again.
    async fn on<T: FromRedisValue>(
        &self,
        kept: &Mutex<Option<Arc<Link>>>,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T> {
        let link = self.link(kept, doing).await?;
        let told = command.query_async(&mut link.connection()).await;
        if told.is_err() {
            *kept.lock().await = None;
        }
        told.map_err(|it| translate(doing, it))
    }

    async fn link(&self, kept: &Mutex<Option<Arc<Link>>>, doing: &'static str) -> Result<Arc<Link>> {
        let mut kept = kept.lock().await;
        if let Some(link) = &*kept {
            return Ok(Arc::clone(link));
        }
        self.joined.store(true, Ordering::Relaxed);
        Ok(Arc::clone(kept.insert(self.door.join(doing).await?)))
    }

    async fn script(
        &self,
        doing: &'static str,
        script: &Script,
        idle: Duration,
        ids: &[Receipt],
    ) -> Result<Value> {
        let link = self.link(&self.asking, doing).await?;
        let mut call = script.key(&self.settings.stream);
        call.arg(&self.settings.group).arg(&self.name).arg(millis(idle));
        for id in ids {
            call.arg(&*id.token);
        }
        let told = call.invoke_async(&mut link.connection()).await;
        if told.is_err() {
            *self.asking.lock().await = None;
        }
        told.map_err(|it| translate(doing, it))
    }

    /// Entries that nobody kept for as long as they last: those of consumers that died.
    async fn claim(&self, max: usize) -> Result<Vec<Arrival>> {
        let mut from = self.claim_from.lock().await;
        let mut command = redis::cmd("XAUTOCLAIM");
        command
            .arg(&self.settings.stream)
            .arg(&self.settings.group)
            .arg(&self.name)
            .arg(millis(self.settings.visible_for))
            .arg(&*from)
            .arg("COUNT")
            .arg(max);
        let told: Value = self.on(&self.reading, CLAIM, &command).await?;
        let Value::Array(parts) = told else { return Err(strange()) };
        let mut parts = parts.into_iter();
        let (Some(next), Some(entries)) = (parts.next(), parts.next()) else { return Err(strange()) };
        *from = text(&next)?;
        self.arrivals(entries, Seen::Before(None))
    }

    async fn read(&self, max: usize) -> Result<Vec<Arrival>> {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(&self.settings.group)
            .arg(&self.name)
            .arg("COUNT")
            .arg(max)
            .arg("BLOCK")
            .arg(millis(BLOCK))
            .arg("STREAMS")
            .arg(&self.settings.stream)
            .arg(">");
        let told: Value = self.on(&self.reading, RECEIVE, &command).await?;
        let entries = match told {
            Value::Nil => return Ok(Vec::new()),
            // One stream was asked for.
            Value::Array(mut streams) => match streams.pop() {
                Some(Value::Array(mut stream)) => stream.pop().ok_or_else(strange)?,
                _ => return Err(strange()),
            },
            Value::Map(mut streams) => streams.pop().ok_or_else(strange)?.1,
            _ => return Err(strange()),
        };
        self.arrivals(entries, Seen::First)
    }

    fn arrivals(&self, entries: Value, seen: Seen) -> Result<Vec<Arrival>> {
        let Value::Array(entries) = entries else { return Err(strange()) };
        // What was deleted meanwhile is nothing.
        let entries = entries.into_iter().filter(|it| *it != Value::Nil);
        entries.map(|it| self.arrival(it, seen)).collect()
    }

    fn arrival(&self, entry: Value, seen: Seen) -> Result<Arrival> {
        let Value::Array(mut parts) = entry else { return Err(strange()) };
        let (Some(fields), Some(id)) = (parts.pop(), parts.pop()) else { return Err(strange()) };
        let (id, mut message) = (
            text(&id)?,
            Message { topic: Arc::clone(&self.topic), key: None, headers: Vec::new(), body: Bytes::new() },
        );
        let fields: Vec<Value> = match fields {
            Value::Array(fields) => fields,
            Value::Map(fields) => fields.into_iter().flat_map(|it| [it.0, it.1]).collect(),
            Value::Nil => Vec::new(),
            _ => return Err(strange()),
        };
        let mut fields = fields.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            let value = bytes(value)?;
            match &bytes(name)?[..] {
                name if name == BODY.as_bytes() => message.body = value,
                name if name == KEY.as_bytes() => message.key = Some(value),
                name => message.headers.push((String::from_utf8_lossy(name).into_owned(), value)),
            }
        }
        Ok(Arrival::Delivered(Delivery {
            message: Arc::new(message),
            position: Some(format!("{}/{id}", self.settings.stream).into()),
            receipt: Receipt {
                lane: self.lane.clone(),
                session: 0,
                number: self.next.fetch_add(1, Ordering::Relaxed),
                token: id.into(),
            },
            seen,
        }))
    }
}

#[async_trait]
impl Source for RedisStreams {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "redis-streams",
            // What one consumer has does not hold up what another gets.
            ordered: false,
            visible_for: Some(self.settings.visible_for),
            delays: Duration::ZERO,
            tells_redelivery: true,
            stable_position: true,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        loop {
            for arrivals in [self.claim(max).await?, self.read(max).await?] {
                if !arrivals.is_empty() {
                    return Ok(arrivals);
                }
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        let told = self.script("extend deliveries", &self.keep, Duration::ZERO, receipts).await?;
        let Value::Array(lost) = told else { return Err(strange()) };
        let lost: HashSet<String> = lost.iter().map(text).collect::<Result<_>>()?;
        Ok(receipts.iter().filter(|it| lost.contains(&*it.token)).cloned().collect())
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        // Whoever has them by now finds them done: to acknowledge for another is right.
        let ids: Vec<&str> = receipts.iter().map(|it| &*it.token).collect();
        let mut both = redis::pipe();
        both.atomic().cmd("XACK").arg(&self.settings.stream).arg(&self.settings.group).arg(&ids).ignore();
        if self.settings.delete {
            // With it or not at all: an entry that was acknowledged comes to nobody who could delete it.
            both.cmd("XDEL").arg(&self.settings.stream).arg(&ids).ignore();
        }
        let doing = "acknowledge deliveries";
        let link = self.link(&self.asking, doing).await?;
        let told: Result<(), RedisError> = both.query_async(&mut link.connection()).await;
        if told.is_err() {
            *self.asking.lock().await = None;
        }
        told.map_err(|it| translate(doing, it))
    }

    async fn give_back(&self, receipts: &[Receipt], _pause: Duration) -> Result<()> {
        self.script("give deliveries back", &self.keep, self.settings.visible_for, receipts).await.map(drop)
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let mut command = redis::cmd("XADD");
        command.arg(&*message.topic).arg("*").arg(BODY).arg(&message.body[..]);
        if let Some(key) = &message.key {
            command.arg(KEY).arg(&key[..]);
        }
        for (name, value) in &message.headers {
            if name == BODY || name == KEY {
                let what = "publish a message: a stream has no room for headers called `body` or `key`";
                return Err(Error::new(ErrorKind::Invalid, what));
            }
            command.arg(name).arg(&value[..]);
        }
        self.writing.carry(&self.door, &command).await
    }

    async fn windows(&self) -> Result<Windows> {
        // It says nothing of it, but may be away, or one that forgets.
        self.door.open("ask a Redis server what it may forget").await?;
        // A stream has no age: whoever trims it decides. What is deleted once it is done comes again only until then.
        let kept = if self.settings.delete { None } else { Some(Kept::WithoutEnd) };
        Ok(Windows { kept, ..Windows::default() })
    }

    async fn lag(&self) -> Result<Option<u64>> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(&*self.settings.stream);
        let groups: Vec<HashMap<String, redis::Value>> =
            self.on(&self.asking, "ask how many messages wait", &command).await?;
        let is_ours = |it: &&HashMap<String, redis::Value>| {
            let name = it.get("name").and_then(|it| String::from_redis_value(it.clone()).ok());
            name.as_deref() == Some(&*self.settings.group)
        };
        let Some(group) = groups.iter().find(is_ours) else { return Ok(None) };
        let number = |name: &str| u64::from_redis_value(group.get(name)?.clone()).ok();
        // Before Redis 7, or after entries were deleted from the middle, it does not know.
        Ok(number("lag").zip(number("pending")).map(|(lag, pending)| lag + pending))
    }

    async fn close(&self) {
        if !self.joined.load(Ordering::Relaxed) {
            return;
        }
        // What cannot be told now is seen by others once its time is over.
        let _ = self.script("leave the group", &self.leave, self.settings.visible_for, &[]).await;
    }
}

impl fmt::Debug for RedisStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStreams")
            .field("settings", &self.settings)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn translate(doing: &'static str, error: RedisError) -> Error {
    let refused = ["NOPERM", "WRONGPASS", "NOAUTH", "WRONGTYPE"];
    let refused = error.code().is_some_and(|it| refused.contains(&it))
        || error.kind() == redis::ErrorKind::AuthenticationFailed;
    let kind = if refused {
        ErrorKind::Invalid
    } else if error.is_connection_refusal()
        || ["MOVED", "READONLY"].contains(&error.code().unwrap_or_default())
        || doing == RECEIVE
        || doing == CLAIM
    {
        // What was to be read comes again.
        ErrorKind::Unavailable
    } else {
        // It may have been carried out.
        ErrorKind::Uncertain
    };
    Error::new(kind, doing).caused_by(error)
}

fn strange() -> Error {
    Error::new(ErrorKind::Unavailable, "understand what the Redis server says of a stream")
}

fn text(value: &Value) -> Result<String> {
    String::from_redis_value_ref(value).map_err(|it| strange().caused_by(it))
}

fn bytes(value: Value) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        other => text(&other).map(Bytes::from),
    }
}

fn millis(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}
