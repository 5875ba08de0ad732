//! The rows of a table: what is measured of whom, and beside what.

use std::time::Duration;

use clap::ValueEnum;
use onceward_bench::Result;
use onceward_bench::cell::{Cell, Sample};
use onceward_bench::report::aligned;
use onceward_pace::spent::Spent;

use crate::stores::callers;
use crate::stores::place::{Floor, Kind, Place};

/// What callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum What {
    /// A claim of a new key and its completion
    Pair,
    /// A claim alone
    Claim,
    /// A claim that finds a stored answer
    Replay,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Another program with the same calls
    Program,
    /// A bare client of ours, where that program cannot express the calls; or beside it, so that the two can be compared
    Bare,
    /// The store
    Store,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// The number of its store.
    pub(crate) place: usize,
    kind: Kind,
    what: What,
    by: By,
}

impl Row {
    /// The rows of a store.
    pub(crate) fn all(place: usize, of: &Place) -> Vec<Self> {
        use {By::*, What::*};
        let rows: &[(What, By)] = match of.floor {
            None => &[(Pair, Store), (Replay, Store)],
            Some(Floor::File(_)) => &[(Pair, Program), (Pair, Store), (Replay, Store)],
            Some(Floor::Pgbench(_)) => &[(Pair, Program), (Pair, Store), (Replay, Program), (Replay, Store)],
            Some(Floor::Redis(_)) => &[
                (Pair, Bare),
                (Pair, Store),
                (Claim, Program),
                (Claim, Bare),
                (Claim, Store),
                (Replay, Program),
                (Replay, Store),
            ],
        };
        rows.iter().map(|(what, by)| Self { place, kind: of.kind, what: *what, by: *by }).collect()
    }

    /// Whether it is among those asked for; none is named where all are.
    pub(crate) fn is_wanted(&self, what: &[What], by: &[By]) -> bool {
        (what.is_empty() || what.contains(&self.what)) && (by.is_empty() || by.contains(&self.by))
    }

    /// One measurement.
    pub(crate) async fn measure(&self, place: &Place, callers: u32, length: Duration) -> Result<Sample> {
        let store = place.opened().await?;
        let before = Spent::now(place.server.pid())?;
        let seen = match (self.by, &place.floor) {
            (By::Store, _) => callers::through(&store, self.what, callers, length).await?,
            (_, Some(Floor::File(floor))) => callers::to_file(floor, callers, length).await?,
            (_, Some(Floor::Pgbench(floor))) => floor.measure(self.what, callers, length).await?,
            (By::Bare, Some(Floor::Redis(floor))) => floor.bare(self.what, callers, length).await?,
            (By::Program, Some(Floor::Redis(floor))) => floor.benchmark(self.what, callers, length).await?,
            (_, None) => return Err("there is no floor".into()),
        };
        Ok(Spent::now(place.server.pid())?.since(&before, seen))
    }

    fn name(&self) -> &'static str {
        match (self.by, self.kind) {
            (By::Store, _) => "store",
            (By::Bare, _) => "bare client",
            (By::Program, Kind::Postgres) => "pgbench",
            (By::Program, Kind::Redis | Kind::RedisEverysec) => "redis-benchmark",
            (By::Program, Kind::Memory | Kind::Embedded) => "file",
        }
    }

    /// What it is measured by: the other program, else the bare client.
    fn base(&self, all: &[(Self, Cell)]) -> Option<usize> {
        let of = |by| all.iter().position(|it| it.0 == Self { by, ..*self });
        [By::Program, By::Bare].into_iter().filter(|it| *it != self.by).find_map(of)
    }
}

/// The table of one number of callers.
pub(crate) fn table(rows: &[(Row, Cell)]) -> String {
    let head = [
        "store",
        "what",
        "by",
        "a second",
        "× floor",
        "quartiles",
        "p50 ms",
        "× floor",
        "p99 ms",
        "µs each",
        "of the server",
        "others",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (row, cell) in rows {
        // The floor itself is compared with nothing.
        let base = if row.by == By::Program { None } else { row.base(rows).map(|it| &rows[it].1) };
        let ratio = |of: fn(&Sample) -> f64| base.and_then(|it| cell.ratio(it, of));
        let [rate, quartiles] = ratio(|it| it.seen.rate()).map_or_else(Default::default, |it| {
            [format!("{:.2}", it[1]), format!("{:.2}–{:.2}", it[0], it[2])]
        });
        let latency = ratio(|it| it.seen.p50_us).map_or_else(String::new, |it| format!("{:.2}", it[1]));
        let all = cell.median(|it| it.cpu_us);
        let server = cell.median(|it| it.upstream_us);
        lines.push(vec![
            row.kind.name().to_owned(),
            format!("{:?}", row.what).to_lowercase(),
            row.name().to_owned(),
            format!("{:.0}", cell.median(|it| it.seen.rate())),
            rate,
            quartiles,
            format!("{:.3}", cell.median(|it| it.seen.p50_us) / 1e3),
            latency,
            format!("{:.3}", cell.median(|it| it.seen.p99_us) / 1e3),
            format!("{all:.1}"),
            if server > 0.0 { format!("{server:.1}") } else { String::new() },
            format!("{:.0} %", cell.median(|it| it.others) * 100.0),
        ]);
    }
    aligned(&lines)
}
