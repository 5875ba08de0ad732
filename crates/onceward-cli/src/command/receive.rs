//! `onceward receive`: takes webhooks in, hands them to a broker, and answers at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use onceward::http::Problem;
use onceward::queue::source::Source;
use onceward::queue::{Identity, NotTaken, Receiver};
use onceward::webhook::{Scheme, Secrets, TOLERANCE, Verifier};
use onceward::{Clock as _, ErrorKind, SystemClock};
use onceward_gateway::settings::{Log, reasons};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::queue::Failed;
use crate::exit::Exit;
use crate::log;

/// How long a request may take to come whole.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long the broker may take to confirm one; senders wait for 5 to 30 s.
const BROKER_MAX: Duration = Duration::from_secs(10);

/// Take webhooks in, hand each to a broker, and answer 202 once the broker has confirmed it
///
/// A repeat is handed on again under the same id, the header event-id of the message: `onceward consume --key header:event-id` has
/// it handled once. What is not signed or has no id is refused; while the broker cannot be reached senders get 503 and come again.
/// Listens without TLS: put a proxy in front, which may be `onceward gateway`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen, for example 127.0.0.1:8090
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The broker, for example redis-streams://127.0.0.1:6379/hooks
    #[arg(long, value_name = "URL")]
    to: String,
    /// The topic, stream, subject or queue to publish to; what the path of the URL names, unless said otherwise
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// The only path that is taken
    #[arg(long, value_name = "PATH", default_value = "/")]
    path: String,
    /// Where the id of an event stands: header:NAME or json:/POINTER
    #[arg(long, value_name = "PLACE")]
    key: Identity,
    /// How the sender signs: standard, stripe, github, stripe:HEADER or github:HEADER
    #[arg(long, value_name = "SCHEME", requires = "secret_file")]
    verify: Option<Scheme>,
    /// A file with the sender's secrets, one on each line
    #[arg(long, value_name = "FILE", requires = "verify")]
    secret_file: Option<PathBuf>,
    /// Take events that nobody signed: whoever reaches this address can make them up
    #[arg(long, conflicts_with = "verify", required_unless_present = "verify")]
    unsigned: bool,
    /// How far the time of a signature may be from ours
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = super::consume::duration)]
    tolerance: Duration,
    /// A header of the request that goes along with the message, beside Content-Type; may be given several times
    #[arg(long = "carry", value_name = "HEADER")]
    carried: Vec<HeaderName>,
    /// The longest body that is taken, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    max_body: usize,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    match receive(args).await {
        Ok(()) => Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}

struct Door {
    receiver: Receiver,
    path: String,
    max_body: usize,
}

async fn receive(args: Args) -> Result<(), Failed> {
    let cannot_start = |what: String, error: &dyn std::error::Error| {
        (Exit::CannotStart, format!("{what}: {}", reasons(error)))
    };
    let signals = "cannot listen for signals".to_owned();
    let mut terminated = signal(SignalKind::terminate()).map_err(|it| cannot_start(signals.clone(), &it))?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(|it| cannot_start(signals, &it))?;
    let _log = log::start(Log::Json).map_err(|it| cannot_start("cannot write log lines".into(), &it))?;
    let source = onceward::queue::source::open::open(&args.to, "receive")
        .map_err(|it| (Exit::Usage, format!("--to: {}", reasons(&it))))?;
    let receiver = receiver(&args, Arc::clone(&source))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|it| {
        cannot_start(format!("--listen: cannot listen on {}; choose a free address", args.listen), &it)
    })?;
    let address = listener.local_addr().map_or(args.listen, |it| it);
    let door = Arc::new(Door { receiver, path: args.path.clone(), max_body: args.max_body });
    let pages = axum::Router::new().fallback(take).with_state(door);
    tracing::info!(%address, path = args.path, "receiving");
    let stop = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };
    let ended = axum::serve(listener, pages).with_graceful_shutdown(stop).await;
    source.close().await;
    tracing::info!("stopped");
    ended.map_err(|it| cannot_start("cannot go on to listen".into(), &it))
}

fn receiver(args: &Args, source: Arc<dyn Source>) -> Result<Receiver, Failed> {
    if args.key.is_position() {
        return Err((
            Exit::Usage,
            "--key: an event has no position yet; write header:NAME or json:/POINTER".to_owned(),
        ));
    }
    let of_url = || args.to.split('?').next()?.split("://").nth(1)?.split_once('/')?.1.rsplit('/').next();
    let topic = args.topic.as_deref().or_else(of_url).filter(|it| !it.is_empty());
    let topic = topic.ok_or_else(|| (Exit::Usage, "--topic: name what to publish to".to_owned()))?;
    let mut receiver = Receiver::new(source, topic, args.key.clone());
    for name in &args.carried {
        receiver = receiver.carrying(name.clone());
    }
    if let (Some(scheme), Some(file)) = (&args.verify, &args.secret_file) {
        receiver = receiver.verified_by(verifier(scheme, file)?.tolerance(args.tolerance));
    }
    Ok(receiver)
}

fn verifier(scheme: &Scheme, file: &Path) -> Result<Verifier, Failed> {
    let wrong = |says: String| (Exit::Usage, format!("--secret-file: {}: {says}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|it| wrong(it.to_string()))?;
    let secrets = Secrets::parse(scheme, &text).map_err(|it| wrong(it.to_string()))?;
    Ok(Verifier::new(scheme.clone(), secrets).tolerance(TOLERANCE))
}

async fn take(State(door): State<Arc<Door>>, request: Request<axum::body::Body>) -> Response {
    let (parts, body) = request.into_parts();
    if parts.uri.path() != door.path {
        return refusal(StatusCode::NOT_FOUND, "Nothing is received under this path");
    }
    if parts.method != Method::POST {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "Send events by POST");
    }
    let whole = tokio::time::timeout(REQUEST_MAX, Limited::new(body, door.max_body).collect()).await;
    let body = match whole {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "The event is longer than --max-body");
        }
        Ok(Err(_)) => return refusal(StatusCode::BAD_REQUEST, "The body of the event was cut off"),
        Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "The event did not come whole in time"),
    };
    let taking = door.receiver.take(&parts.headers, body, SystemClock.wall());
    // The publish that is given up may still land: the sender comes again, and it is the same event.
    match tokio::time::timeout(BROKER_MAX, taking).await {
        Ok(Ok(_)) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(NotTaken::Signature(why))) => {
            let (parts, body) = Problem::SignatureInvalid(why).response().into_parts();
            Response::from_parts(parts, axum::body::Body::new(body))
        }
        Ok(Err(NotTaken::Broker(error))) if error.kind() == ErrorKind::Invalid => {
            tracing::error!(error = &error as &dyn std::error::Error, "the broker takes no such message");
            refusal(StatusCode::UNPROCESSABLE_ENTITY, "The broker takes no such message")
        }
        Ok(Err(NotTaken::Broker(error))) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "an event was not confirmed");
            unconfirmed()
        }
        Ok(Err(why)) => refusal(StatusCode::BAD_REQUEST, &format!("The event cannot be taken: {why}")),
        Err(_) => {
            tracing::warn!("the broker did not confirm an event in time");
            unconfirmed()
        }
    }
}

fn unconfirmed() -> Response {
    let refusal =
        refusal(StatusCode::SERVICE_UNAVAILABLE, "The broker did not confirm the event. Send it again");
    ([(RETRY_AFTER, "1")], refusal).into_response()
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({ "status": status.as_u16(), "title": status.canonical_reason(), "detail": detail });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
