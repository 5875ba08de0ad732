//! The relay as a process.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use onceward::Engine;
use onceward::queue::Retries;
use onceward::queue::outbox::{AnswerRelay, RelayMetrics, RelaySettings};
use onceward_gateway::settings::{Log, reasons};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Args, OfKind, senders};
use crate::command::pages;
use crate::command::queue::{Failed, engine, keep_up};
use crate::exit::Exit;
use crate::log;

pub(super) async fn run(args: Args) -> ExitCode {
    match relay(args).await {
        Ok(()) => Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}

pub(in crate::command) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

async fn relay(args: Args) -> Result<(), Failed> {
    let cannot_start = |what: &str, error: &dyn std::error::Error| {
        (Exit::CannotStart, format!("{what}: {}", reasons(error)))
    };
    let listening = "cannot listen for signals";
    let mut terminated = signal(SignalKind::terminate()).map_err(|it| cannot_start(listening, &it))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|it| cannot_start(listening, &it))?;
    let _log = log::start(Log::Json).map_err(|it| cannot_start("cannot write log lines", &it))?;
    #[cfg(not(feature = "outbox"))]
    if is_postgres(&args.store) {
        return Err((Exit::Usage, super::NO_TABLE.to_owned()));
    }
    #[cfg(feature = "outbox")]
    let table = super::table::database(&args.store, super::table::CONNECTIONS)?;
    let senders = senders(&args.send, &args.secret, args.mail_from.as_deref())?;
    let settings = settings(&args);
    // Makes the tables, or says what is wrong with them.
    let engine = engine(&args.store).await?;
    let (tracker, shutdown, stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    tracker.spawn(keep_up(engine.clone(), shutdown.clone()));
    let metrics = Arc::new(RelayMetrics::default());
    if let Some(address) = args.metrics {
        let shown = Arc::clone(&metrics);
        pages::serve(address, move || shown.page(), &tracker, shutdown.clone()).await?;
    }
    let kinds: Vec<_> = senders.iter().map(|it| it.0.clone()).collect();
    let answers = relay_answers(engine, senders.clone(), settings.clone(), Arc::clone(&metrics));
    let answers = answers.run(stop.clone().cancelled_owned());
    tracing::info!(kinds = kinds.join(","), "relaying");
    let signalled = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        stop.cancel();
    };
    #[cfg(feature = "outbox")]
    let rows = async {
        use onceward::queue::outbox::Relay;
        let Some((outbox, pool)) = table else { return Ok(()) };
        if args.metrics.is_some() {
            let counting = count(Arc::clone(&metrics), outbox.clone(), pool.clone());
            tracker.spawn(shutdown.clone().run_until_cancelled_owned(counting));
        }
        let mut relay = Relay::new(pool, outbox).settings(settings).observer(metrics);
        for (kind, sender) in senders {
            relay = relay.shared_sender(&kind, sender);
        }
        relay.run(stop.clone().cancelled_owned()).await
    };
    #[cfg(not(feature = "outbox"))]
    let rows = std::future::ready(Ok(()));
    let mut ended = pin!(async { tokio::try_join!(answers, rows) });
    let ended = tokio::select! {
        // Its settings are wrong.
        ended = &mut ended => ended,
        () = signalled => ended.await,
    };
    tracing::info!("stopped");
    shutdown.cancel();
    tracker.close();
    tracker.wait().await;
    ended.map(drop).map_err(|it| (Exit::Usage, reasons(&it)))
}

fn settings(args: &Args) -> RelaySettings {
    let defaults = RelaySettings::default();
    RelaySettings {
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
    }
}

/// A relay of what the answers in a store carry.
pub(in crate::command) fn relay_answers(
    engine: Engine,
    senders: Vec<OfKind>,
    settings: RelaySettings,
    metrics: Arc<RelayMetrics>,
) -> AnswerRelay {
    let relay = AnswerRelay::new(engine).settings(settings).observer(metrics);
    senders.into_iter().fold(relay, |relay, (kind, sender)| relay.shared_sender(&kind, sender))
}

/// Counts the outbox again and again: that looks at every unsent effect.
#[cfg(feature = "outbox")]
async fn count(metrics: Arc<RelayMetrics>, outbox: onceward::queue::outbox::Outbox, pool: sqlx::PgPool) {
    const EVERY: std::time::Duration = std::time::Duration::from_secs(15);
    loop {
        metrics.counted(outbox.stats(&pool).await.ok().as_ref());
        tokio::time::sleep(EVERY).await;
    }
}
