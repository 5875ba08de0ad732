//! Consumers under fire: producers that send everything up to four times, consumers that are killed and stopped past their lease,
//! a handler that is slow, fails and cuts off, a broker and a store that are restarted. Its answers may name effects, which relays
//! send that are killed and stopped, too.

pub(crate) mod broker;
mod carried;
pub(crate) mod committing;
mod consumers;
mod counts;
mod handler;
mod judge;
mod producers;
mod receiver;
mod store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;

use self::broker::{Broker, Kind};
use self::consumers::{Fault, Post};
use self::counts::{Counted, Healed};
use self::handler::Handler;
use self::judge::judge;
use self::receiver::Receiver;
use self::store::{Server, Store};
use crate::Result;
use crate::subject::Subject;
use crate::time::{ms, now, until};

/// The consumer's name: that of all processes.
const NAME: &str = "billing";
/// How long a message stays claimed when its holder is gone.
const LEASE: Duration = ms(2_000);
/// How often a message is tried under a lease.
const ATTEMPTS: u32 = 5;
/// How long the healing may take.
const PATIENCE: Duration = ms(120_000);

/// What a run is made of.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where messages come from
    pub(crate) source: Kind,
    #[command(flatten)]
    pub(crate) subject: Subject,
    /// For how long messages are published, and faults go on
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// How many ids come for the first time in a second
    #[arg(long, default_value_t = 20)]
    pub(crate) rate: u64,
    /// `onceward consume` and a handler, or a consumer that writes its effect in the transaction
    #[arg(long, value_enum, default_value_t = Strength::Lease)]
    pub(crate) strength: Strength,
    /// Where outcomes are remembered
    #[arg(long, value_enum, default_value_t = Server::Postgres)]
    pub(crate) store: Server,
    /// How many processes share the work; one where the store is a directory
    #[arg(long, default_value_t = 3)]
    pub(crate) consumers: u64,
    /// The handler's answers name effects, which go out from there
    #[arg(long)]
    pub(crate) carried: bool,
    /// How many processes besides the consumers send them; none where the store is a directory
    #[arg(long, default_value_t = 2)]
    pub(crate) relays: u64,
    /// Where the id of a message stands. `position` is the control: there each copy is another message
    #[arg(long, default_value = "header:event-id")]
    pub(crate) key: String,
}

/// How a message and its effect are held together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Strength {
    /// Claim, effect, note
    Lease,
    /// Effect and note commit together
    Transaction,
}

/// What all who take part in a run share.
struct Field<'a> {
    args: &'a Args,
    folder: PathBuf,
    binary: PathBuf,
    runtime: Runtime,
    store: Store,
    broker: Mutex<Broker>,
    /// The broker's URL for consumers.
    from: String,
    handler: Handler,
    /// Where effects go that answers name.
    receiver: Option<Receiver>,
    began: Duration,
    /// No more faults: everything heals.
    ends: AtomicBool,
    /// Not before all was acknowledged.
    is_over: AtomicBool,
    /// When nobody minds that the store is away.
    away: Mutex<(bool, Duration)>,
    faults: Mutex<Vec<Fault>>,
    /// The number of the next process.
    processes: AtomicU64,
    published: Arc<AtomicU64>,
    counted: Counted,
    kills: AtomicU64,
    relay_kills: AtomicU64,
    stops: AtomicU64,
    broker_restarts: AtomicU64,
    store_restarts: AtomicU64,
    standstills: AtomicU64,
}

impl Field<'_> {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn messages(&self) -> u64 {
        self.args.seconds * self.args.rate
    }

    /// All processes that are kept running.
    fn posts(&self) -> impl Iterator<Item = Post> {
        let relays = if self.args.carried && self.store.is_server() { self.args.relays } else { 0 };
        (0..self.args.consumers).map(Post::Consumer).chain((0..relays).map(Post::Relay))
    }

    fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    fn faults(&self) -> Vec<Fault> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn away_from(&self, from: Duration) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = (true, from);
    }

    fn back(&self) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = (false, now());
    }

    /// Whether the store is away, or was when somebody who gives up now began.
    fn was_away(&self) -> bool {
        let (away, since) = *self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away || now() < since + ms(20_000)
    }
}

/// Where a consumer shows its metrics: no other process of this machine listens there.
fn page_address(slot: u64) -> SocketAddr {
    let mut address = crate::upstream::free_address();
    address.set_port(9_001 + u16::try_from(slot).unwrap_or(0));
    address
}

/// Says whether every promise was kept.
pub(crate) fn run(args: &Args) -> Result<bool> {
    if args.strength == Strength::Transaction && args.store != Server::Postgres {
        return Err("effects commit with their notes only in PostgreSQL".into());
    }
    if args.strength == Strength::Transaction && args.carried {
        return Err("a handler that has a transaction puts effects into the outbox of its database".into());
    }
    if args.store == Server::Embedded && args.consumers != 1 {
        return Err("a directory belongs to one process: `--consumers 1`".into());
    }
    let folder = args.subject.folder("consume")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let broker = Broker::start(args.source, &runtime)?;
    let field = Field {
        args,
        folder: folder.path.clone(),
        binary: args.subject.binary()?,
        runtime,
        store: Store::start(args.store, &folder.path),
        from: broker.url(),
        broker: Mutex::new(broker),
        handler: Handler::start(args.subject.seed, args.carried)?,
        receiver: args.carried.then(|| Receiver::start(args.subject.seed)).transpose()?,
        began: now(),
        ends: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        away: Mutex::new((false, Duration::ZERO)),
        faults: Mutex::default(),
        processes: AtomicU64::new(0),
        published: Arc::default(),
        counted: Counted::default(),
        kills: AtomicU64::new(0),
        relay_kills: AtomicU64::new(0),
        stops: AtomicU64::new(0),
        broker_restarts: AtomicU64::new(0),
        store_restarts: AtomicU64::new(0),
        standstills: AtomicU64::new(0),
    };
    field.store.prepare(&mut field.command(&field.binary))?;
    let healed = thread::scope(|scope| -> Result<Healed> {
        let field = &field;
        let keepers: Vec<_> =
            field.posts().map(|it| scope.spawn(move || consumers::keep(field, it))).collect();
        scope.spawn(|| consumers::watch(field));
        let nemesis = scope.spawn(|| consumers::disturb(field));
        let published = producers::publish(field);
        field.ends.store(true, Ordering::SeqCst);
        let disturbed = nemesis.join().map_err(|_| "the nemesis panicked")?;
        let began = now();
        let published = published.and_then(|()| producers::publish_again(field));
        let all_ended = || keepers.iter().any(thread::ScopedJoinHandle::is_finished);
        let is_empty = || {
            let asked = field.broker.lock().ok()?.is_empty(&field.runtime);
            asked.unwrap_or_else(|| consumers::is_quiet(field)).then_some(())
        };
        let mut healed = Healed::default();
        if published.is_ok() {
            let acknowledged = until(PATIENCE, || all_ended().then_some(()).or_else(is_empty));
            healed.acknowledged = acknowledged.map(|()| now() - began);
        }
        let out = match (&field.receiver, healed.acknowledged) {
            (Some(receiver), Some(_)) => carried::until_all_is_out(field, receiver),
            _ => Ok(None),
        };
        field.is_over.store(true, Ordering::SeqCst);
        for keeper in keepers {
            keeper.join().map_err(|_| "a keeper of a consumer panicked")??;
        }
        disturbed?;
        published?;
        healed.went_out = out?.map(|at| at.saturating_sub(began));
        Ok(healed)
    })?;
    let (counts, mut violations) = judge(&field)?;
    if healed.acknowledged.is_none() {
        violations.push(("stuck", "the broker still has messages that nobody acknowledged".to_owned()));
    }
    counts::print(&field, &counts, &healed);
    for (check, what) in violations.iter().take(5) {
        println!("\nVIOLATION of `{check}` with seed {}: {what}", args.subject.seed);
    }
    Ok(violations.is_empty())
}
