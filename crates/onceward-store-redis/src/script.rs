//! The server-side scripts: one for each promise, each known to the server by its hash.
//!
//! A script is its clock, what it shares with others, and its own file. Tests exchange the clock and nothing else.

use std::fmt;

use onceward_core::store::SETTLE;

use crate::settings::RedisSettings;

/// How long a finished record outlives the time at which a sweep would take it, before the server drops it by itself.
/// Long, so that it is a net behind the sweep and not a second rule.
const SLACK_MS: u128 = 24 * 3600 * 1000;

/// One script.
pub(crate) struct Script {
    pub(crate) source: String,
    pub(crate) hash: String,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// All scripts of a store.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) insert: Script,
    pub(crate) replace: Script,
    pub(crate) load: Script,
    pub(crate) due: Script,
    pub(crate) scan: Script,
    pub(crate) expire: Script,
    pub(crate) mend: Script,
}

impl Scripts {
    pub(crate) fn new(settings: &RedisSettings) -> Self {
        let clock = match settings.time {
            None => include_str!("scripts/clock.lua"),
            Some(_) => include_str!("scripts/clock_given.lua"),
        };
        let settle = SETTLE.as_millis();
        let numbers = format!("local SETTLE, NET = {settle}, {}\n", settle + SLACK_MS);
        let line = include_str!("scripts/line.lua");
        let reads = |own| script(&[clock, own]);
        // A Cluster sends such a message to the servers of its slot alone, from 7.0 on; all of them from then on know their
        // number.
        let sharded = if settings.cluster { "redis.REDIS_VERSION_NUM ~= nil" } else { "false" };
        let hint = format!("local SHARDED = {sharded}\n{}", include_str!("scripts/hint.lua"));
        let hint = if settings.hints { hint.as_str() } else { "" };
        let keeps = |own, hint| {
            let (keep, told) = (include_str!("scripts/keep.lua"), include_str!("scripts/told.lua"));
            script(&[clock, line, &numbers, own, keep, hint, told])
        };
        let tidies = |own| script(&[clock, line, &numbers, include_str!("scripts/record.lua"), own]);
        Self {
            insert: keeps(include_str!("scripts/insert.lua"), ""),
            replace: keeps(include_str!("scripts/replace.lua"), hint),
            load: reads(include_str!("scripts/load.lua")),
            due: reads(include_str!("scripts/due.lua")),
            scan: reads(include_str!("scripts/scan.lua")),
            expire: tidies(include_str!("scripts/expire.lua")),
            mend: tidies(include_str!("scripts/mend.lua")),
        }
    }

    pub(crate) fn all(&self) -> [&Script; 7] {
        [&self.insert, &self.replace, &self.load, &self.due, &self.scan, &self.expire, &self.mend]
    }
}

fn script(parts: &[&str]) -> Script {
    let source = parts.concat();
    let hash = redis::Script::new(&source).get_hash().to_owned();
    Script { source, hash }
}
