//! The relay as a process.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use onceward::postgres::PostgresSettings;
use onceward::queue::Retries;
use onceward::queue::outbox::{Outbox, OutboxSettings, Relay, RelayMetrics, RelaySettings};
use onceward_gateway::settings::{Log, reasons};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Args, send};
use crate::command::pages;
use crate::command::queue::Failed;
use crate::exit::Exit;
use crate::log;

/// How often the outbox is counted: that looks at every unsent effect.
const COUNTED_EVERY: Duration = Duration::from_secs(15);

/// What a relay uses at a time, and a count.
const CONNECTIONS: u32 = 6;

pub(super) async fn run(args: Args) -> ExitCode {
    match relay(args).await {
        Ok(()) => Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}

/// The outbox that a URL names, and connections to its database.
pub(in crate::command) fn database(url: &str, connections: u32) -> Result<(Outbox, sqlx::PgPool), Failed> {
    let usage = |it: &dyn std::error::Error| (Exit::Usage, format!("--store: {}", reasons(it)));
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        let what = "--store: an outbox is a table of PostgreSQL; write `postgres://user@host/database`";
        return Err((Exit::Usage, what.to_owned()));
    }
    let settings = PostgresSettings::from_url(url).map_err(|it| usage(&it))?;
    let pool = settings.sqlx_pool(connections).map_err(|it| usage(&it))?;
    // Any pooler may sit in between.
    let outbox =
        OutboxSettings { schema: settings.schema, named_statements: false, ..OutboxSettings::default() };
    Ok((Outbox::new(&outbox), pool))
}

async fn relay(args: Args) -> Result<(), Failed> {
    let cannot_start = |what: &str, error: &dyn std::error::Error| {
        (Exit::CannotStart, format!("{what}: {}", reasons(error)))
    };
    let listening = "cannot listen for signals";
    let mut terminated = signal(SignalKind::terminate()).map_err(|it| cannot_start(listening, &it))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|it| cannot_start(listening, &it))?;
    let _log = log::start(Log::Json).map_err(|it| cannot_start("cannot write log lines", &it))?;
    let (outbox, pool) = database(&args.store, CONNECTIONS)?;
    let senders = send::senders(&args.send, &args.secret, args.mail_from.as_deref())?;
    // Makes the tables, or says what is wrong with them.
    drop(onceward::open(&args.store).await.map_err(|it| (Exit::CannotStart, reasons(&it)))?);
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let metrics = Arc::new(RelayMetrics::default());
    if let Some(address) = args.metrics {
        let shown = Arc::clone(&metrics);
        pages::serve(address, move || shown.page(), &tracker, shutdown.clone()).await?;
        let (counting, outbox, pool) = (Arc::clone(&metrics), outbox.clone(), pool.clone());
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(async move {
            loop {
                counting.counted(outbox.stats(&pool).await.ok().as_ref());
                tokio::time::sleep(COUNTED_EVERY).await;
            }
        }));
    }
    let defaults = RelaySettings::default();
    let settings = RelaySettings {
        lease: args.lease,
        poll: args.poll,
        listen: args.listen,
        parallel: args.parallel,
        in_hand_max: args.in_hand,
        line_max: defaults.line_max.min(args.in_hand),
        send_max: args.timeout,
        retries: Retries { attempts_max: args.attempts, pause: args.pause, ..defaults.retries },
        keep: Some(args.keep),
        drain: args.drain,
        ..defaults
    };
    let mut relay = Relay::new(pool, outbox).settings(settings).observer(metrics);
    let kinds: Vec<_> = senders.iter().map(|it| it.0.clone()).collect();
    for (kind, sender) in senders {
        relay = relay.shared_sender(&kind, sender);
    }
    tracing::info!(kinds = kinds.join(","), "relaying");
    let stop = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let ended = relay.run(stop).await;
    tracing::info!("stopped");
    shutdown.cancel();
    tracker.close();
    tracker.wait().await;
    ended.map_err(|it| (Exit::Usage, reasons(&it)))
}
