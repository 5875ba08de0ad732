//! `onceward consume`: brings messages to an HTTP handler in any language, each once.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use onceward::queue::{Consumer, ConsumerSettings, Identity, Metrics, Order};
use onceward::{Policy, Unresolved};
use onceward_gateway::settings::{Log, parse_duration, reasons};
use onceward_gateway::{Upstream, UpstreamSettings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod batch;
mod effects;
mod handler;
pub(super) mod windows;

use self::batch::{Batches, Size};
use self::handler::deliver;
use self::windows::Patience;
use super::pages;
use super::queue::{Failed, engine, keep_up};
use crate::exit::Exit;
use crate::log;

/// The longest that a message may wait for others.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(10);

/// Bring each message of a topic to an HTTP handler once, however often it arrives
///
/// The message is the body of a POST. A 2xx answer: done. 401, 403, 407, 425, 429, 503 with Retry-After, or no connection: nothing
/// happened, tried again. 408, 409, 5xx, or no whole answer: it may have happened, and --unresolved says what then. Any other: put
/// among the dead letters. A handler may say it itself with the header `Onceward-Outcome: store | release | unknown`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where messages come from: kafka://HOST:9092/TOPIC, sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE, nats://HOST/STREAM,
    /// amqp://HOST/?queue=QUEUE, or redis-streams://HOST/STREAM; a password is better given by the variable
    #[arg(long, value_name = "URL", env = "ONCEWARD_FROM", hide_env_values = true)]
    from: String,
    /// The handler, for example http://127.0.0.1:9000/on-order
    #[arg(long, value_name = "URL")]
    to: Uri,
    /// The name of this consumer: all processes that share its work have the same
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Where the id of a message stands: header:NAME, json:/POINTER, or position (the broker's own name for it)
    #[arg(long, value_name = "PLACE")]
    key: Identity,
    /// Where outcomes are remembered; memory: forgets them with the process
    #[arg(
        long,
        value_name = "URL",
        env = "ONCEWARD_STORE",
        hide_env_values = true,
        default_value = "embedded:./onceward-data"
    )]
    store: String,
    /// What becomes of a message whose handler did not say whether its effect happened
    #[arg(long, value_enum, default_value_t = Unsure::Hold)]
    unresolved: Unsure,
    /// Which messages wait for which
    #[arg(long, value_enum, default_value_t = InOrder::Key)]
    order: InOrder,
    /// How many messages are at the handler at a time; at least as many as --batch
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    parallel: usize,
    /// Bring up to so many messages in one POST: a JSON array, which the handler answers with an array of results, or with one
    /// status for all. Each keeps a claim and an outcome of its own
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: Option<u16>,
    /// For how long the first message of a batch waits for others, at most 10s
    #[arg(long, value_name = "DURATION", default_value = "20ms", value_parser = batch_wait, requires = "batch")]
    batch_wait: Duration,
    #[command(flatten)]
    patience: Patience,
    /// Where to serve /metrics for Prometheus and /healthz, for example 127.0.0.1:9465
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// What sends the effects of a kind that the handler's answer names, as `onceward relay --send` has it; once for each kind
    ///
    /// An answer with the media type application/vnd.onceward.effects+json names them: {"effects": [{"kind": "hooks", "destination":
    /// "on-paid", "key": "1001", "headers": [["content-type", "application/json"]], "body": "…"}]}. They are stored together with the
    /// outcome of the message, and go out from there.
    #[arg(long, value_name = "KIND=URL", value_parser = super::relay::pair)]
    send: Vec<(String, String)>,
    /// Where the secret of a kind is, as `onceward relay --secret` has it
    #[arg(long, value_name = "KIND=PLACE", value_parser = super::relay::pair)]
    secret: Vec<(String, String)>,
    /// Who sends e-mail, for example `Shop <orders@shop.example>`
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// Start although messages can come again for longer than --retention and a week, or are lost before their attempts are over
    #[arg(long)]
    allow_short_windows: bool,
    /// Only say whether the windows of the broker fit; exit code 1 where they do not
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Unsure {
    /// Put among the dead letters until somebody who knows says what happened
    Hold,
    /// Tried again: only for a handler that tells repeats apart by Idempotency-Key and Onceward-Fence
    Rerun,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InOrder {
    /// None
    Free,
    /// Those with one key of the broker's
    Key,
    /// Those of one partition or queue
    Lane,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use a number with a unit: 500ms, 60s, 7d".to_owned())
}

fn batch_wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait > BATCH_WAIT_MAX { Err("at most 10s".to_owned()) } else { Ok(wait) }
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match consume(args).await {
        Ok(()) => Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}

async fn consume(args: Args) -> Result<(), Failed> {
    let cannot_start = |what: &str, error: &dyn std::error::Error| {
        (Exit::CannotStart, format!("{what}: {}", reasons(error)))
    };
    let mut terminated =
        signal(SignalKind::terminate()).map_err(|it| cannot_start("cannot listen for signals", &it))?;
    let mut interrupted =
        signal(SignalKind::interrupt()).map_err(|it| cannot_start("cannot listen for signals", &it))?;
    let _log = log::start(Log::Json).map_err(|it| cannot_start("cannot write log lines", &it))?;
    let source = onceward::queue::source::open::open(&args.from, &args.name)
        .map_err(|it| (Exit::Usage, format!("--from: {}", reasons(&it))))?;
    if args.check {
        return windows::check(&*source, &args.patience).await;
    }
    if args.store.starts_with("memory:") {
        tracing::warn!("outcomes are kept in memory: what comes again after a restart is run again");
    }
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let upstream = upstream(&args, tracker.clone(), shutdown.clone())?;
    #[cfg(not(feature = "relay"))]
    if !args.send.is_empty() || !args.secret.is_empty() || args.mail_from.is_some() {
        return Err((Exit::Usage, format!("--send: {}", super::relay::NOT_BUILT)));
    }
    #[cfg(feature = "relay")]
    let senders = super::relay::senders(&args.send, &args.secret, args.mail_from.as_deref())?;
    let engine = engine(&args.store).await?;
    let settings = settings(&args);
    tracker.spawn(keep_up(engine.clone(), shutdown.clone()));
    let metrics = Arc::new(Metrics::default());
    let page = Arc::clone(&metrics);
    let page = move || page.page();
    #[cfg(feature = "relay")]
    let page = relay(engine.clone(), senders, settings.policy.lease, (&tracker, &shutdown), page);
    if let Some(address) = args.metrics {
        pages::serve(address, move || page(), &tracker, shutdown.clone()).await?;
    }
    let to = Arc::new(args.to.clone());
    let consumer =
        Consumer::new(&args.name, source, engine).key(args.key).settings(settings).observer(metrics);
    let consumer = match args.batch {
        None => consumer.handler(move |it| {
            let (upstream, to) = (upstream.clone(), Arc::clone(&to));
            async move { deliver(upstream, &to, &it).await }
        }),
        Some(max) => {
            let size = Size { max: max.into(), wait: args.batch_wait };
            let batches = Batches::start(size, upstream, to, &tracker, shutdown.clone());
            consumer.handler(move |it| {
                let batches = batches.clone();
                async move { batches.deliver(it).await }
            })
        }
    };
    tracing::info!(consumer = args.name, to = %args.to, "consuming");
    let stop = async {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let ended = consumer.run(stop).await;
    tracing::info!("stopped");
    shutdown.cancel();
    tracker.close();
    tracker.wait().await;
    ended.map_err(|it| (Exit::CannotStart, reasons(&it)))
}

/// Sends what answers carry for as long as the consumer runs. Gives its page of metrics behind the one that is given.
#[cfg(feature = "relay")]
fn relay(
    engine: onceward::Engine,
    senders: Vec<super::relay::OfKind>,
    lease: Duration,
    (tracker, shutdown): (&TaskTracker, &CancellationToken),
    page: impl Fn() -> String + Send + Sync + 'static,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    use onceward::queue::outbox::{RelayMetrics, RelaySettings};
    if senders.is_empty() {
        return Arc::new(page);
    }
    let metrics = Arc::new(RelayMetrics::default());
    // The consumer has drained before: both together end before service managers kill.
    let settings = RelaySettings {
        lease: lease.max(Duration::from_secs(1)),
        drain: Duration::from_secs(3),
        ..RelaySettings::default()
    };
    let relay = super::relay::relay_answers(engine, senders, settings, Arc::clone(&metrics));
    let stop = shutdown.clone().cancelled_owned();
    tracker.spawn(async move {
        if let Err(error) = relay.run(stop).await {
            tracing::error!(error = reasons(&error), "effects do not go out");
        }
    });
    // A page ends with a mark.
    Arc::new(move || page().trim_end_matches("# EOF\n").to_owned() + &metrics.page())
}

fn settings(args: &Args) -> ConsumerSettings {
    let defaults = ConsumerSettings::default();
    let policy = args.patience.policy();
    let parallel = args.parallel.max(args.batch.unwrap_or(1).into());
    ConsumerSettings {
        policy: Policy {
            run_max: policy.run_max + args.batch.map_or(Duration::ZERO, |_| args.batch_wait),
            unresolved: match args.unresolved {
                Unsure::Hold => Unresolved::Hold,
                Unsure::Rerun => Unresolved::Rerun,
            },
            ..policy
        },
        order: match args.order {
            InOrder::Free => Order::Free,
            InOrder::Key => Order::Key,
            InOrder::Lane => Order::Lane,
        },
        parallel,
        in_hand_max: defaults.in_hand_max.max(parallel.saturating_mul(4)),
        retries: args.patience.retries(),
        short_windows: args.allow_short_windows,
        ..defaults
    }
}

fn upstream(args: &Args, tracker: TaskTracker, shutdown: CancellationToken) -> Result<Upstream, Failed> {
    let mut parts = args.to.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let root = Uri::from_parts(parts)
        .map_err(|_| (Exit::Usage, "--to: write it as http://host:port/path".to_owned()))?;
    let settings =
        UpstreamSettings { response_timeout: args.patience.timeout, ..UpstreamSettings::new(root) };
    Upstream::new(settings, tracker, shutdown).map_err(|it| (Exit::Usage, format!("--to: {}", reasons(&it))))
}
