//! Whether a server may keep records: what it is, what it forgets, and what a crash of it would cost.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisError};

use crate::fault;
use crate::open::OpenError;
use crate::settings::{Durability, RedisSettings};

/// The oldest version whose scripts and commands we use.
const OLDEST: (u32, u32) = (6, 2);

/// Stands for an `appendfsync always` that is none for as long as the server rewrites its file.
const NOT_ON_REWRITE: &str = "always, but not on rewrite";

/// What was found out about a server that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) version: String,
    /// Whether a returned write survives a crash of the server and a power cut.
    pub(crate) durable: bool,
    /// What a crash of it can cost, in a sentence; `None` when nothing.
    pub(crate) costs: Option<&'static str>,
    /// Whether it can wait until replicas have synced their files.
    pub(crate) has_waitaof: bool,
}

/// Asks the server about itself.
pub(crate) async fn inspect(
    connection: &mut MultiplexedConnection,
    settings: &RedisSettings,
) -> Result<Facts, OpenError> {
    let mut about = Vec::new();
    for section in ["server", "replication", "memory", "persistence", "cluster"] {
        let told: Result<String, RedisError> = redis::cmd("INFO").arg(section).query_async(connection).await;
        about.push(told.map_err(|it| OpenError::Unknowable { cause: fault::describe(&it) })?);
    }
    let policy = config(connection, "maxmemory-policy").await;
    let mut fsync = config(connection, "appendfsync").await;
    if fsync.as_deref() == Some("always")
        && config(connection, "no-appendfsync-on-rewrite").await.as_deref() == Some("yes")
    {
        fsync = Some(NOT_ON_REWRITE.to_owned());
    }
    judge(&parse(&about.concat()), policy.as_deref(), fsync.as_deref(), settings)
}

/// What INFO and, where it may be asked, CONFIG say, judged.
fn judge(
    info: &HashMap<&str, &str>,
    policy: Option<&str>,
    fsync: Option<&str>,
    settings: &RedisSettings,
) -> Result<Facts, OpenError> {
    let said = |name: &str| info.get(name).copied();
    let version = said("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(|it| it.parse::<u32>().unwrap_or(0));
    let version_number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version_number < OLDEST {
        return Err(OpenError::Old { version: version.to_owned() });
    }
    match (said("cluster_enabled") == Some("1"), settings.cluster) {
        (true, false) => {
            return Err(OpenError::Scheme { said: "a node of a Cluster", scheme: "redis-cluster" });
        }
        (false, true) => return Err(OpenError::Scheme { said: "a server of its own", scheme: "redis" }),
        (true, true) | (false, false) => {}
    }
    if said("role") != Some("master") {
        return Err(OpenError::Replica);
    }
    if said("loading").is_some_and(|it| it != "0") {
        return Err(OpenError::Loading);
    }
    let policy = policy.or(said("maxmemory_policy")).unwrap_or("unknown");
    if policy != "noeviction" {
        return Err(OpenError::Evicts { policy: policy.to_owned() });
    }
    let costs = match (said("aof_enabled"), fsync) {
        (Some("1"), Some("always")) => None,
        (Some("1"), Some(NOT_ON_REWRITE)) => Some(
            "no-appendfsync-on-rewrite is yes: a crash of its machine while it rewrites its file may lose what it wrote \
             meanwhile, and operations whose callers already have their answer can then run again; set \
             `no-appendfsync-on-rewrite no`",
        ),
        (Some("1"), Some("everysec")) => Some(
            "appendfsync is everysec: a crash of its machine may lose about the last second of writes, and operations \
             whose callers already have their answer can then run again",
        ),
        (Some("1"), Some(_)) => Some(
            "appendfsync is not always: a crash of its machine may lose the last half minute of writes, and operations \
             whose callers already have their answer can then run again",
        ),
        (Some("1"), None) => Some(
            "appendfsync may not be asked for (the user has no `+config|get`, or CONFIG is forbidden): unless it is always, a \
             crash may lose the last writes, and operations whose callers already have their answer can then run again",
        ),
        _ => Some(
            "appendonly is no: a crash or a restart of it may lose everything since its last snapshot, and operations \
             whose callers already have their answer can then run again",
        ),
    };
    match (costs, settings.durability) {
        (Some(costs), Some(Durability::Durable)) => Err(OpenError::NotDurable { costs }),
        (costs, wanted) => Ok(Facts {
            version: version.to_owned(),
            durable: costs.is_none() && wanted != Some(Durability::Relaxed),
            costs,
            has_waitaof: version_number >= (7, 2),
        }),
    }
}

/// A setting of the server; `None` where it may not be asked.
async fn config(connection: &mut MultiplexedConnection, name: &str) -> Option<String> {
    let mut ask = Cmd::new();
    ask.arg("CONFIG").arg("GET").arg(name);
    let told: Vec<String> = ask.query_async(connection).await.ok()?;
    told.into_iter().nth(1)
}

fn parse(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|it| it.split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nloading:0\r\naof_enabled:1\r\n\
                        maxmemory_policy:noeviction\r\n";

    fn judged(info: &str, policy: Option<&str>, fsync: Option<&str>, url: &str) -> Result<Facts, OpenError> {
        judge(&parse(info), policy, fsync, &RedisSettings::from_url(url).unwrap())
    }

    #[test]
    fn a_server_that_may_forget_or_refuse_is_refused_by_name() {
        for (from, to, said) in [
            ("redis_version:7.0.15", "redis_version:6.0.16", "6.0.16"),
            ("redis_version:7.0.15", "", "6.2"),
            ("role:master", "role:slave", "replica"),
            ("loading:0", "loading:1", "loading"),
            ("role:master", "role:master\r\ncluster_enabled:1", "`redis-cluster://`"),
            ("noeviction", "allkeys-lru", "maxmemory-policy noeviction"),
            ("noeviction", "volatile-ttl", "`volatile-ttl`"),
            ("maxmemory_policy:noeviction", "", "`unknown`"),
        ] {
            let told = judged(&GOOD.replace(from, to), None, Some("always"), "redis://a");
            let told = told.expect_err(to).to_string();
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn only_a_file_that_is_synced_before_the_reply_is_durable() {
        let off = GOOD.replace("aof_enabled:1", "aof_enabled:0");
        for (info, fsync, durable) in [
            (GOOD, Some("always"), true),
            (GOOD, Some("everysec"), false),
            (GOOD, Some("no"), false),
            (GOOD, Some(NOT_ON_REWRITE), false),
            (GOOD, None, false),
            (off.as_str(), Some("always"), false),
        ] {
            let facts = judged(info, Some("noeviction"), fsync, "redis://a").unwrap();
            assert_eq!((facts.durable, facts.costs.is_none()), (durable, durable), "{fsync:?}");
            let wanted = judged(info, None, fsync, "redis://a?durability=durable");
            assert_eq!(wanted.is_ok(), durable, "{fsync:?}");
            assert!(!judged(info, None, fsync, "redis://a?durability=relaxed").unwrap().durable);
        }
    }

    #[test]
    fn replicas_that_sync_can_be_waited_for_from_7_2_on() {
        for (version, has) in [("6.2.0", false), ("7.0.15", false), ("7.2.4", true), ("8.0.0", true)] {
            let info = GOOD.replace("7.0.15", version);
            assert_eq!(judged(&info, None, None, "redis://a").unwrap().has_waitaof, has, "{version}");
        }
    }
}
