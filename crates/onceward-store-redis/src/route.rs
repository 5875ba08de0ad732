//! Which server a call goes to, and how many calls may be under way.
//!
//! A Cluster says of every call that it belongs elsewhere, if it does, and has then done nothing: the map is asked for
//! again and the call repeated. The same when a node is away: another one may have taken its place. Sentinels tell a map,
//! too: one server that has everything.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use onceward_core::store::Hints;
use onceward_core::{ErrorKind, RecordId, Result};
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::cluster::{self, Range};
use crate::fault;
use crate::inspect::Facts;
use crate::keys::{self, Bucket, Buckets, SLOTS};
use crate::link::{Call, Told};
use crate::node::{Needs, Node};
use crate::open::OpenError;
use crate::script::{Script, Scripts};
use crate::settings::Address;
use crate::wire::Dialer;

/// How often a call follows a Cluster that says that its slot has moved.
const MOVES_MAX: u32 = 4;
/// No map is asked for sooner after the last one.
const MAP_PAUSE: Duration = Duration::from_millis(100);

/// The way to every bucket of a store.
#[derive(Debug)]
pub(crate) struct Route {
    dialer: Arc<Dialer>,
    places: Semaphore,
    map: Mutex<Arc<Map>>,
    /// When the map was asked for last. Who asks holds it.
    asked: tokio::sync::Mutex<Instant>,
    /// Why nothing may be sent any more, if so.
    closed: OnceLock<String>,
}

/// Who has which slots. A server of its own has all of them.
#[derive(Debug)]
struct Map {
    nodes: Vec<Arc<Node>>,
    ranges: Vec<Range>,
}

impl Route {
    pub(crate) async fn open(dialer: Arc<Dialer>) -> Result<Self, OpenError> {
        let settings = &dialer.settings;
        let ranges = if settings.may_move() {
            ask(&dialer, &settings.servers).await?
        } else {
            let none = || OpenError::Cluster { cause: "no server is named".to_owned() };
            let node = settings.servers.first().cloned().ok_or_else(none)?;
            vec![Range { first: 0, last: SLOTS - 1, node }]
        };
        let map = Map { nodes: open_all(&dialer, &addresses(&ranges)).await?, ranges };
        let places = Semaphore::new(settings.max_queue);
        let asked = tokio::sync::Mutex::new(Instant::now());
        Ok(Self { places, map: Mutex::new(Arc::new(map)), asked, closed: OnceLock::new(), dialer })
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.dialer.scripts
    }

    /// What is known of the servers that are there.
    pub(crate) fn facts(&self) -> Vec<Arc<Facts>> {
        self.map().nodes.iter().filter_map(|it| it.facts()).collect()
    }

    /// Whether every server is known to be durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.map().nodes.iter().all(|it| it.facts().is_some_and(|it| it.durable))
    }

    /// Sends nothing from now on, for this reason.
    pub(crate) fn close(&self, cause: String) {
        // The first reason is as good as any.
        let _ = self.closed.set(cause);
    }

    /// Runs a script on the server that has `bucket`.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent, or it was refused. `Uncertain`: it may have been carried out.
    pub(crate) async fn call(
        &self,
        bucket: &Bucket,
        script: &Script,
        needs: Needs,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Value> {
        if let Some(cause) = self.closed.get() {
            return Err(fault::away(cause));
        }
        let deadline = Instant::now() + self.dialer.settings.call_timeout;
        let _place = self.place(deadline).await?;
        let time = self.dialer.settings.time.as_ref().map(|it| (it.0)().as_millis().to_string());
        let mut arguments = arguments.to_vec();
        arguments.extend(time.as_ref().map(String::as_bytes));
        let call = Call { script, keys, arguments: &arguments };
        for _ in 0..MOVES_MAX {
            let map = self.map();
            let node = map.node(bucket.slot)?;
            let mut has_moved = false;
            let moved = match node.call(bucket, &call, needs, deadline).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if self.dialer.settings.may_move() && is_elsewhere(&error) => {
                    if error.code() == Some("ASK") {
                        let told = self.call_asking(&map, &error, &call, deadline).await?;
                        return told.map_err(|it| fault::answered(&it));
                    }
                    has_moved = error.code() == Some("MOVED");
                    fault::answered(&error)
                }
                Ok(Err(error)) => return Err(fault::answered(&error)),
                Err(error) if self.dialer.settings.may_move() && error.kind() == ErrorKind::Unavailable => {
                    error
                }
                Err(error) => return Err(error),
            };
            // Nothing was done. Where nobody else has the slot, that is all that can be told.
            if !self.ask_again(&map, bucket.slot, has_moved, deadline).await {
                return Err(moved);
            }
        }
        Err(fault::away("the slot of the record moves"))
    }

    /// Hints from the server that has the record now.
    pub(crate) fn hints(&self, buckets: &Arc<Buckets>, id: RecordId) -> Option<Hints> {
        if self.closed.get().is_some() {
            return None;
        }
        self.map().node(buckets.of(id).slot).ok()?.ear()?.hints(buckets, id)
    }

    /// Sends a plain command about `key`: used while a store is opened.
    pub(crate) async fn command(&self, key: &str, command: &Cmd) -> Result<Value, OpenError> {
        let deadline = Instant::now() + self.dialer.settings.call_timeout;
        let map = self.map();
        let at = |it: Option<&Node>| it.map(|it| it.address().to_string()).unwrap_or_default();
        let refused = |node, cause| OpenError::Unreachable { address: at(node), cause };
        let node = map.node(keys::slot(key)).map_err(|it| refused(None, it.to_string()))?;
        match node.link().send(command, deadline).await {
            Ok(told) => told.map_err(|it| refused(Some(node), fault::describe(&it))),
            Err(error) => Err(refused(Some(node), error.to_string())),
        }
    }

    fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A place among the calls under way. Who waits for one was not sent.
    async fn place(&self, deadline: Instant) -> Result<SemaphorePermit<'_>> {
        match timeout_at(deadline, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(fault::crowded()),
        }
    }

    /// The slot is on its way to another node, which has the record already.
    async fn call_asking(
        &self,
        map: &Map,
        error: &RedisError,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Told> {
        let target = error.redirect_node().and_then(|(at, _)| at.rsplit_once(':'));
        let target = target.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let node = target.and_then(|(host, port)| {
            map.nodes.iter().find(|it| it.address().host == host && it.address().port == port)
        });
        // A node without slots of its own is not in the map yet.
        let node = node.ok_or_else(|| fault::away("the slot of the record moves to a new node"))?;
        let mut both = Pipeline::with_capacity(2);
        both.cmd("ASKING").add_command(call.command(false));
        let mut told = node.link().send_together(&both, deadline).await?;
        told.pop().ok_or_else(fault::misunderstood)
    }

    /// Asks for the map, unless somebody has done so meanwhile. Whether another node has `slot` now. Where a node said that
    /// the slot `has_moved`, the map of a moment ago is wrong for certain: then the pause is waited for.
    async fn ask_again(&self, seen: &Map, slot: u16, has_moved: bool, deadline: Instant) -> bool {
        let came = Instant::now();
        let Ok(mut asked) = timeout_at(deadline, self.asked.lock()).await else { return false };
        let is_new = *asked >= came;
        let pause = MAP_PAUSE.saturating_sub(asked.elapsed());
        if has_moved && !is_new && timeout_at(deadline, tokio::time::sleep(pause)).await.is_err() {
            return false;
        }
        if !is_new && (has_moved || pause.is_zero()) {
            *asked = Instant::now();
            let settings = &self.dialer.settings;
            let mut known = settings.servers.clone();
            if settings.cluster {
                known.extend(seen.nodes.iter().map(|it| it.address().clone()));
            }
            // The one that could not help comes last.
            let silent = seen.node(slot).ok().map(Node::address);
            known.sort_by_key(|it| Some(it) == silent);
            if let Ok(Ok(ranges)) = timeout_at(deadline, ask(&self.dialer, &known)).await {
                self.follow(ranges);
            }
        }
        let (before, after) = (seen.node(slot), self.map());
        let after = after.node(slot).map(|it| it.address().clone());
        after.ok() != before.ok().map(|it| it.address().clone())
    }

    /// Takes a map into use. Nodes that stay keep their connections.
    fn follow(&self, ranges: Vec<Range>) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if map.ranges == ranges {
            return;
        }
        let nodes = addresses(&ranges).into_iter().map(|address| {
            let known = map.nodes.iter().find(|it| *it.address() == address);
            known.map_or_else(|| Arc::new(Node::start(&self.dialer, &address)), Arc::clone)
        });
        let nodes = nodes.collect();
        *map = Arc::new(Map { nodes, ranges });
    }
}

impl Map {
    fn node(&self, slot: u16) -> Result<&Node> {
        let range = self.ranges.iter().find(|it| (it.first..=it.last).contains(&slot));
        let node = range.and_then(|it| self.nodes.iter().find(|node| *node.address() == it.node));
        node.map(|it| &**it).ok_or_else(|| fault::away("no node of the Cluster has the slot"))
    }
}

/// Connects to all nodes. In a Cluster some may be away: what the others have can be used meanwhile.
///
/// # Errors
/// Nobody is there, or one of them may not be used.
async fn open_all(dialer: &Arc<Dialer>, addresses: &[Address]) -> Result<Vec<Arc<Node>>, OpenError> {
    let opened = join_all(addresses.iter().map(|it| Node::open(dialer, it))).await;
    let (mut nodes, mut away) = (Vec::new(), None);
    for (opened, address) in opened.into_iter().zip(addresses) {
        nodes.push(Arc::new(match opened {
            Ok(node) => node,
            Err(error) if dialer.settings.cluster && !error.is_final() => {
                away = Some(error);
                Node::start(dialer, address)
            }
            Err(error) => return Err(error),
        }));
    }
    match away {
        Some(error) if nodes.iter().all(|it| it.facts().is_none()) => Err(error),
        Some(_) | None => Ok(nodes),
    }
}

/// Asks one server after another for the map.
async fn ask(dialer: &Dialer, servers: &[Address]) -> Result<Vec<Range>, OpenError> {
    let mut question = Cmd::new();
    match &dialer.settings.sentinel {
        None => question.arg("CLUSTER").arg("SLOTS"),
        Some(it) => question.arg("SENTINEL").arg("get-master-addr-by-name").arg(&it.name),
    };
    let read = |told, server: &Address| match &dialer.settings.sentinel {
        None => cluster::ranges(told, server),
        Some(it) => cluster::primary(&told, &it.name, server),
    };
    let mut last = OpenError::Cluster { cause: "no server is named".to_owned() };
    for server in servers {
        match dialer.ask(server, &question).await.and_then(|it| read(it, server)) {
            Ok(ranges) => return Ok(ranges),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The nodes of a map, each once.
fn addresses(ranges: &[Range]) -> Vec<Address> {
    let mut addresses: Vec<_> = ranges.iter().map(|it| it.node.clone()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Whether a Cluster says that another node, or a later time, is right for a call.
fn is_elsewhere(error: &RedisError) -> bool {
    matches!(error.code(), Some("MOVED" | "ASK" | "CLUSTERDOWN" | "READONLY" | "MASTERDOWN"))
}
