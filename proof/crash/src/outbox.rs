//! An outbox under fire: services that commit in any order, `onceward relay` processes that are killed and stopped, a database
//! that is restarted, a broker that stands still, and `onceward consume` behind it.

mod adders;
mod behind;
mod judge;
mod relays;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use onceward_testkit::server::{Postgres, RedisServer};

use self::adders::Committed;
use self::behind::{Behind, Handler};
use self::judge::{Counts, judge};
use crate::Result;
use crate::subject::Subject;
use crate::time::{ms, now, until};

/// The stream of all effects: an append-only ledger in which nothing is unique.
const STREAM: &str = "effects";
/// How many effects a relay has in hand at most: what may go out twice when it ends.
const IN_HAND: u64 = 100;
/// How long the healing may take.
const PATIENCE: Duration = ms(90_000);

/// What a run is made of.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// For how long effects are added, and faults go on
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// How many effects are committed
    #[arg(long, default_value_t = 10_000)]
    pub(crate) rows: usize,
    /// How many relays share the work
    #[arg(long, default_value_t = 4)]
    pub(crate) relays: u64,
}

/// What all who take part in a run share.
struct Field<'a> {
    args: &'a Args,
    folder: PathBuf,
    binary: PathBuf,
    database: Postgres,
    broker: RedisServer,
    /// No more faults: everything heals.
    ends: AtomicBool,
    /// Not before all went out.
    is_over: AtomicBool,
    /// Nobody minds now that the database is away.
    is_away: AtomicBool,
    kills: AtomicU64,
    stops: AtomicU64,
    standstills: AtomicU64,
    restarts: AtomicU64,
}

impl Field<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn stream(&self) -> String {
        format!("redis-streams://127.0.0.1:{}/{STREAM}", self.broker.port())
    }

    fn unsent(&self) -> Option<u64> {
        let count = "SELECT count(*) FROM onceward_outbox WHERE sent_at IS NULL";
        self.database.sql(count).parse().ok()
    }
}

/// Says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let folder = args.subject.folder("outbox")?;
    let began = now();
    let field = Field {
        args,
        folder: folder.path.clone(),
        binary: args.subject.binary()?,
        database: Postgres::start(&[]),
        broker: RedisServer::start(),
        ends: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        is_away: AtomicBool::new(false),
        kills: AtomicU64::new(0),
        stops: AtomicU64::new(0),
        standstills: AtomicU64::new(0),
        restarts: AtomicU64::new(0),
    };
    let migrated = field.command().args(["store", "migrate", &field.database.url("onceward")]).output()?;
    if !migrated.status.success() {
        return Err(format!("no tables: {}", String::from_utf8_lossy(&migrated.stderr)).into());
    }
    let handler = Handler::start()?;
    let behind = Behind::start(&field, &handler)?;
    let (committed, went_out) = thread::scope(|scope| -> Result<(Committed, Option<Duration>)> {
        let relays: Vec<_> = (0..args.relays)
            .map(|it| {
                scope.spawn({
                    let field = &field;
                    move || relays::keep(field, it)
                })
            })
            .collect();
        let nemesis = scope.spawn(|| relays::disturb(&field));
        let committed = adders::add(&field);
        field.ends.store(true, Ordering::SeqCst);
        let disturbed = nemesis.join().map_err(|_| "the nemesis panicked")?;
        let healed = now();
        let went_out = until(PATIENCE, || (field.unsent() == Some(0)).then_some(())).map(|()| now() - healed);
        field.is_over.store(true, Ordering::SeqCst);
        for relay in relays {
            relay.join().map_err(|_| "a keeper of a relay panicked")??;
        }
        disturbed?;
        Ok((committed?, went_out))
    })?;
    behind.finish(&field)?;
    let (counts, violations) = judge(&field, &committed, &handler)?;
    print_counts(&field, &counts, went_out, now() - began);
    for (check, what) in violations.iter().take(5) {
        println!("\nVIOLATION of `{check}` with seed {}: {what}", args.subject.seed);
    }
    Ok(violations.is_empty())
}

fn print_counts(field: &Field<'_>, counts: &Counts, went_out: Option<Duration>, took: Duration) {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let healed = went_out.map_or_else(|| "NOT in time".to_owned(), |it| format!("{:.1} s", it.as_secs_f64()));
    let rows = [
        ("seed", field.args.subject.seed.to_string()),
        ("relays", field.args.relays.to_string()),
        ("seconds of faults, and in all", format!("{}, {}", field.args.seconds, took.as_secs())),
        ("effects committed", counts.committed.to_string()),
        ("  in transactions that ended in doubt", counts.in_doubt.to_string()),
        ("  that became visible after a higher number", counts.late.to_string()),
        ("effects rolled back", counts.rolled_back.to_string()),
        ("kills of relays", of(&field.kills).to_string()),
        ("stops past the lease and back", of(&field.stops).to_string()),
        ("restarts of the database", of(&field.restarts).to_string()),
        ("times the broker stood still", of(&field.standstills).to_string()),
        ("sends", counts.sends.to_string()),
        ("  repeats", counts.repeats.to_string()),
        ("  repeats at most, by what was in hand", counts.repeats_max.to_string()),
        ("all was out after the faults within", healed),
        ("lost", counts.lost.to_string()),
        ("sent though rolled back", counts.invented.to_string()),
        ("sent under another id", counts.renamed.to_string()),
        ("out of order under their key", counts.disordered.to_string()),
        ("deliveries to the consumer's handler", counts.handled.to_string()),
        ("  not seen behind the consumer", counts.unseen.to_string()),
        ("  doubled behind the consumer", counts.doubled.to_string()),
    ];
    println!();
    for (name, value) in rows {
        println!("{name:<44} {value}");
    }
}
