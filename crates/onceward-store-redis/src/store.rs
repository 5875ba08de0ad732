//! The door: each call becomes one script on the server that has the record.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::store::{
    Agenda, Cursor, DueCursor, DuePage, Filter, Hints, Insert, Loaded, Page, Put, Replace, Store, Swept,
    Traits,
};
use onceward_core::{Error, ErrorKind, Record, RecordId, Result, Revision, Timestamp};
use redis::Value;

use crate::keys::{self, Bucket, Buckets};
use crate::layout;
use crate::link::warn_of_costs;
use crate::node::Needs;
use crate::open::OpenError;
use crate::reply::{self, Written};
use crate::route::Route;
use crate::script::Script;
use crate::settings::RedisSettings;
use crate::value;
use crate::wire::Dialer;

/// Records on a Redis server, or on a Cluster, that other processes may use at the same time.
///
/// It needs a tokio runtime with time and I/O. Its connections are carried by tasks on the runtime where the store was
/// opened, which has to run while calls wait, and on others that go on calling; they end when the store is dropped. With
/// `replicas=N` those of the first runtime alone carry what waits for replicas.
pub struct RedisStore {
    pub(crate) route: Route,
    pub(crate) buckets: Arc<Buckets>,
    meta: String,
    durable: bool,
}

impl RedisStore {
    /// Connects, looks whether the server may keep records, and makes the layout where there is none yet.
    ///
    /// # Errors
    /// [`OpenError`] says what to change; no record was touched.
    ///
    /// # Cancel safety
    /// A dropped call leaves at most the empty layout of a new store.
    pub async fn open(settings: RedisSettings) -> Result<Self, OpenError> {
        let settings = settings.bounded();
        let (prefix, wanted) = (settings.prefix.clone(), settings.buckets);
        let dialer = Arc::new(Dialer::new(settings)?);
        let route = Route::open(Arc::clone(&dialer)).await?;
        let facts = route.facts();
        if let Some(first) = facts.iter().find(|it| it.costs.is_some()) {
            warn_of_costs(&dialer.settings, first);
        }
        let meta = keys::meta(&prefix);
        let count = layout::agree(&route, &meta, wanted).await?;
        let durable = route.is_durable();
        Ok(Self { route, buckets: Arc::new(Buckets::new(&prefix, count)), meta, durable })
    }

    /// The version that the server says it has; `None` while it is away.
    #[must_use]
    pub fn server_version(&self) -> Option<String> {
        self.route.facts().first().map(|it| it.version.clone())
    }

    /// Runs a script on one record: its key and the indexes of its bucket, and its id as the first argument.
    pub(crate) async fn on_record(
        &self,
        script: &Script,
        needs: Needs,
        id: RecordId,
        arguments: &[&[u8]],
    ) -> Result<Value> {
        let bucket = self.buckets.of(id);
        let record = bucket.record(id);
        let keys = [
            record.as_str(),
            &bucket.ids,
            bucket.index(Agenda::Lease),
            bucket.index(Agenda::Wake),
            bucket.index(Agenda::Expiry),
        ];
        let mut all: Vec<&[u8]> = Vec::with_capacity(arguments.len() + 2);
        all.push(id.as_bytes());
        all.extend_from_slice(arguments);
        self.route.call(bucket, script, needs, &keys, &all).await
    }

    /// What is stored for `id`, not yet read.
    pub(crate) async fn stored(&self, needs: Needs, id: RecordId) -> Result<(Timestamp, Option<Bytes>)> {
        let bucket: &Bucket = self.buckets.of(id);
        let record = bucket.record(id);
        let load = &self.route.scripts().load;
        reply::loaded(self.route.call(bucket, load, needs, &[&record], &[]).await?)
    }

    async fn write(&self, script: &Script, id: RecordId, seen: &str, put: &Put) -> Result<Written> {
        let owner = put.grant.map(|it| value::hex(it.owner.as_bytes())).unwrap_or_default();
        let new_life: &[u8] = if put.grant.is_some_and(|it| it.new_life) { b"1" } else { b"0" };
        let policy = &put.policy;
        let times = [policy.lease, policy.run_max, policy.retention, policy.tombstone].map(value::pause);
        let wake = put.wake_after.map_or_else(|| "n".to_owned(), value::pause);
        let (not_after, state) = (value::time_text(put.not_after), value::letter(&put.state).to_string());
        let body = value::body(id, put);
        let arguments: [&[u8]; 11] = [
            not_after.as_bytes(),
            seen.as_bytes(),
            owner.as_bytes(),
            new_life,
            state.as_bytes(),
            times[0].as_bytes(),
            times[1].as_bytes(),
            times[2].as_bytes(),
            times[3].as_bytes(),
            wake.as_bytes(),
            &body,
        ];
        reply::written(self.on_record(script, Needs::Replicas, id, &arguments).await?)
    }
}

/// What is stored for `id`, read.
pub(crate) fn read(id: RecordId, stored: Option<Bytes>) -> Result<Option<Arc<Record>>> {
    stored.map(|it| value::read(id, &it).map(Arc::new)).transpose()
}

fn broken() -> Error {
    Error::new(ErrorKind::Corrupt, "read the line of a stored record")
}

#[async_trait]
impl Store for RedisStore {
    async fn insert(&self, id: RecordId, put: &Put) -> Result<Insert> {
        match self.write(&self.route.scripts().insert, id, "", put).await? {
            Written::Kept(line) => Ok(Insert::Kept(Arc::new(value::kept(id, put, &line)?))),
            Written::Found(now, found) => {
                Ok(Insert::Found(read(id, found)?.ok_or_else(crate::fault::misunderstood)?, now))
            }
            Written::Late(now) => Ok(Insert::Late(now)),
            Written::Broken => Err(broken()),
        }
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> Result<Replace> {
        match self.write(&self.route.scripts().replace, id, &seen.to_string(), put).await? {
            Written::Kept(line) => Ok(Replace::Kept(Arc::new(value::kept(id, put, &line)?))),
            Written::Found(now, found) => Ok(Replace::Lost(read(id, found)?, now)),
            Written::Late(now) => Ok(Replace::Late(now)),
            Written::Broken => Err(broken()),
        }
    }

    async fn load(&self, id: RecordId) -> Result<Loaded> {
        let (now, stored) = self.stored(Needs::Replicas, id).await?;
        Ok(Loaded { record: read(id, stored)?, now })
    }

    async fn due(&self, from: DueCursor, limit: usize) -> Result<DuePage> {
        self.look_due(from, limit).await
    }

    async fn list(&self, filter: &Filter, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        self.look_through(filter, cursor, limit).await
    }

    async fn sweep(&self, limit: usize) -> Result<Swept> {
        layout::confirm(&self.route, &self.meta, self.buckets.count()).await;
        self.sweep_some(limit).await
    }

    async fn check(&self) -> Result<()> {
        self.stored(Needs::Replicas, RecordId::from_bytes([0; 32])).await.map(drop)
    }

    fn traits(&self) -> Traits {
        Traits { name: "redis", durable: self.durable, shared: true }
    }

    fn hints(&self, id: RecordId) -> Option<Hints> {
        self.route.hints(&self.buckets, id)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("durable", &self.durable).finish_non_exhaustive()
    }
}
