//! `onceward consume`: brings messages to an HTTP handler in any language, each once.

mod effects;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use onceward::http::{Body, HttpPolicy, IDEMPOTENCY_KEY, ONCEWARD_OUTCOME, Outcome, Reason};
use onceward::queue::source::Source;
use onceward::queue::{
    Consumer, ConsumerSettings, Failure, Handling, Identity, Level, Metrics, Order, Retries,
};
use onceward::{Policy, Unresolved};
use onceward_gateway::settings::{Log, parse_duration, reasons};
use onceward_gateway::{Upstream, UpstreamSettings};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::pages;
use super::queue::{Failed, engine, keep_up};
use crate::exit::Exit;
use crate::log;
use crate::say::say;

/// How long a broker may take to answer `--check`.
const CHECK_MAX: Duration = Duration::from_secs(10);

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
    /// How many messages are at the handler at a time
    #[arg(long, value_name = "COUNT", default_value_t = 16)]
    parallel: usize,
    /// How often a message is tried until it is put among the dead letters
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    attempts: u32,
    /// The pause after the first failure; it doubles with each, up to 5 minutes
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pause: Duration,
    /// How long the handler may take
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// How long a message stays claimed after a crash; it comes again once the broker delivers it again and this is over
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    lease: Duration,
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
    /// How long it is remembered that a message was done: longer than it can come again
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    retention: Duration,
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
    let settings = settings(&args);
    if args.check {
        return check(&*source, &settings).await;
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
    tracker.spawn(keep_up(engine.clone(), shutdown.clone()));
    let metrics = Arc::new(Metrics::default());
    let page = Arc::clone(&metrics);
    let page = move || page.page();
    #[cfg(feature = "relay")]
    let page = relay(engine.clone(), senders, args.lease, (&tracker, &shutdown), page);
    if let Some(address) = args.metrics {
        pages::serve(address, move || page(), &tracker, shutdown.clone()).await?;
    }
    let to = Arc::new(args.to.clone());
    let consumer =
        Consumer::new(&args.name, source, engine).key(args.key).settings(settings).observer(metrics).handler(
            move |it| {
                let (upstream, to) = (upstream.clone(), Arc::clone(&to));
                async move { deliver(upstream, &to, &it).await }
            },
        );
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
    let settings = RelaySettings { lease: lease.max(Duration::from_secs(1)), ..RelaySettings::default() };
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
    ConsumerSettings {
        policy: Policy {
            lease: args.lease,
            retention: args.retention,
            // The handler is given up before its lease is.
            run_max: args.timeout.saturating_add(args.lease.max(Duration::from_secs(60))),
            unresolved: match args.unresolved {
                Unsure::Hold => Unresolved::Hold,
                Unsure::Rerun => Unresolved::Rerun,
            },
            ..defaults.policy
        },
        order: match args.order {
            InOrder::Free => Order::Free,
            InOrder::Key => Order::Key,
            InOrder::Lane => Order::Lane,
        },
        parallel: args.parallel,
        in_hand_max: defaults.in_hand_max.max(args.parallel.saturating_mul(4)),
        retries: Retries { attempts_max: args.attempts, pause: args.pause, ..defaults.retries },
        short_windows: args.allow_short_windows,
        ..defaults
    }
}

/// Says what does not fit.
async fn check(source: &dyn Source, settings: &ConsumerSettings) -> Result<(), Failed> {
    let asked = tokio::time::timeout(CHECK_MAX, source.windows()).await;
    let cannot = |why: String| (Exit::CannotStart, format!("--from: {why}"));
    let windows = asked
        .map_err(|_| cannot(format!("the broker does not answer within {} s", CHECK_MAX.as_secs())))?
        .map_err(|it| cannot(reasons(&it)))?;
    let misfits = windows.misfits(&settings.policy, &settings.retries);
    for it in &misfits {
        let level = if it.level == Level::Error { "error" } else { "warning" };
        say(&format!("{level}: {it}\n"));
    }
    if misfits.iter().any(|it| it.level == Level::Error) {
        return Err((
            Exit::No,
            "a consumer does not start like this without --allow-short-windows".to_owned(),
        ));
    }
    if misfits.is_empty() {
        say(match windows.kept {
            Some(_) => "ok: what was done is remembered for longer than it can come again\n",
            None => "ok: the broker does not say for how long messages can come again\n",
        });
    }
    Ok(())
}

fn upstream(args: &Args, tracker: TaskTracker, shutdown: CancellationToken) -> Result<Upstream, Failed> {
    let mut parts = args.to.clone().into_parts();
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let root = Uri::from_parts(parts)
        .map_err(|_| (Exit::Usage, "--to: write it as http://host:port/path".to_owned()))?;
    let settings = UpstreamSettings { response_timeout: args.timeout, ..UpstreamSettings::new(root) };
    Upstream::new(settings, tracker, shutdown).map_err(|it| (Exit::Usage, format!("--to: {}", reasons(&it))))
}

/// Sends a message to the handler, once.
async fn deliver(mut upstream: Upstream, to: &Uri, it: &Handling) -> Result<(), Failure> {
    let request = request(to, it).map_err(Failure::park)?;
    let Ok(response) = upstream.call(request).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
    let response = Response::from_parts(parts, ());
    judge(&response, body.as_deref())?;
    let media_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    // It did what it was asked for; but without these it is not done.
    effects::add(&it.effects, media_type, body.as_deref().unwrap_or_default()).map_err(Failure::unknown)
}

/// The headers of the message that an HTTP request cannot carry are counted in `Onceward-Message-Omitted`.
fn request(to: &Uri, it: &Handling) -> Result<Request<Body>, String> {
    let message = &it.message;
    let path = to.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::builder().method(Method::POST).uri(path);
    let headers = request.headers_mut().ok_or_else(|| format!("the handler's URL cannot be asked: {to}"))?;
    headers.insert(http::header::HOST, value(to.authority().map_or("", |it| it.as_str()).as_bytes())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(IDEMPOTENCY_KEY, value(it.key.as_str().as_bytes())?);
    headers.insert("onceward-attempt", HeaderValue::from(it.attempt));
    headers.insert("onceward-topic", value(message.topic.as_bytes())?);
    if let Some(fence) = it.fence {
        headers.insert("onceward-fence", HeaderValue::from(fence.0));
    }
    let mut omitted = 0_u32;
    for (name, content) in &message.headers {
        let named = HeaderName::try_from(format!("onceward-message-{name}"));
        match (named, HeaderValue::from_bytes(content)) {
            (Ok(named), Ok(content)) => {
                if name.eq_ignore_ascii_case("content-type") {
                    headers.insert(CONTENT_TYPE, content.clone());
                }
                headers.append(named, content);
            }
            _ => omitted += 1,
        }
    }
    if omitted > 0 {
        headers.insert("onceward-message-omitted", HeaderValue::from(omitted));
    }
    let body = Body::whole(Bytes::clone(&message.body), None);
    request.body(body).map_err(|it| format!("the message cannot be sent as a request: {it}"))
}

fn value(bytes: &[u8]) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(bytes).map_err(|it| format!("the message cannot be sent as a request: {it}"))
}

/// How many characters of an answer a dead letter shows.
const SHOWN: usize = 500;

/// What an answer of the handler means for its message. There is no body where it did not come whole.
fn judge<T>(response: &Response<T>, body: Option<&[u8]>) -> Result<(), Failure> {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER);
    let header = response.headers().get(ONCEWARD_OUTCOME).map(HeaderValue::as_bytes);
    let said = response.extensions().get::<Outcome>().copied().or(match header {
        Some(b"store") => Some(Outcome::Store),
        Some(b"release") => Some(Outcome::Release),
        Some(b"unknown") => Some(Outcome::Unknown),
        _ => None,
    });
    let told = match response.extensions().get::<Reason>() {
        // No handler said that.
        Some(Reason(why)) => format!("the handler did not answer: {why}"),
        None => {
            let text: String =
                String::from_utf8_lossy(body.unwrap_or_default()).chars().take(SHOWN).collect();
            let header = header.map(|it| format!(" with onceward-outcome: {}", String::from_utf8_lossy(it)));
            let told = format!("the handler answered {}{}", status.as_u16(), header.unwrap_or_default());
            if text.is_empty() { told } else { format!("{told}: {text}") }
        }
    };
    match HttpPolicy::default().outcome(status, after.is_some(), said) {
        Outcome::Release => {
            let seconds = after.and_then(|it| it.to_str().ok()?.parse().ok());
            Err(Failure::Retry { reason: told, after: seconds.map(Duration::from_secs) })
        }
        _ if body.is_none() => Err(Failure::unknown("the handler's answer did not come whole")),
        Outcome::Unknown => Err(Failure::unknown(told)),
        Outcome::Store if said.is_some() || status.is_success() => Ok(()),
        // It may be working on a request with this key.
        Outcome::Store if status.is_server_error() || status == StatusCode::CONFLICT => {
            Err(Failure::unknown(told))
        }
        Outcome::Store => Err(Failure::park(told)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_what_becomes_of_a_message() {
        let judged = |status: u16, headers: &[(&str, &str)], whole: bool| {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            match judge(&response.body(()).unwrap(), whole.then_some(&b""[..])) {
                Ok(()) => "done".to_owned(),
                Err(Failure::Retry { after, .. }) => format!("retry {}", after.map_or(0, |it| it.as_secs())),
                Err(Failure::Park { .. }) => "park".to_owned(),
                Err(Failure::Unknown { .. }) => "unknown".to_owned(),
            }
        };
        let outcome = |it| [("onceward-outcome", it)];
        for (status, headers, whole, wanted) in [
            (200, vec![], true, "done"),
            (204, vec![], true, "done"),
            (200, vec![], false, "unknown"),
            (302, vec![], true, "park"),
            (400, vec![], true, "park"),
            (422, vec![], true, "park"),
            (409, vec![], true, "unknown"),
            (401, vec![], true, "retry 0"),
            (429, vec![("retry-after", "7")], true, "retry 7"),
            (503, vec![("retry-after", "soon")], true, "retry 0"),
            (503, vec![], true, "unknown"),
            (500, vec![], true, "unknown"),
            (408, vec![], true, "unknown"),
            (500, outcome("store").to_vec(), true, "done"),
            (200, outcome("release").to_vec(), true, "retry 0"),
            (404, outcome("unknown").to_vec(), true, "unknown"),
        ] {
            assert_eq!(judged(status, &headers, whole), wanted, "{status} {headers:?} {whole}");
        }
    }
}
