//! `onceward relay`: sends what services have put into their outbox.

#[cfg(feature = "relay")]
mod run;
#[cfg(feature = "relay")]
mod send;
#[cfg(feature = "outbox")]
mod table;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use onceward_gateway::settings::parse_duration;

#[cfg(feature = "relay")]
pub(super) use self::run::relay_answers;
#[cfg(feature = "relay")]
pub(super) use self::send::{OfKind, senders};
#[cfg(feature = "outbox")]
pub(super) use self::table::database;

#[cfg(not(feature = "relay"))]
use crate::exit::Exit;

/// What a build says that was made without.
#[cfg(not(feature = "relay"))]
pub(super) const NOT_BUILT: &str = "this build sends no effects; build it with `--features relay`, or `--features outbox` for an \
    outbox in PostgreSQL";

/// What a build says of PostgreSQL that only knows effects that answers carry.
#[cfg(all(feature = "relay", not(feature = "outbox")))]
pub(super) const NO_TABLE: &str =
    "this build knows no outbox in PostgreSQL; build it with `--features outbox`";

/// Send what services have put into their outbox, and what answers carry
///
/// In PostgreSQL an outbox is a table; in every store the answers of consumers may carry effects. Any number of relays share the
/// work, but a directory belongs to one process: there `onceward consume --send` sends them. Effects of kinds that are not named here are left to relays that name them. What cannot be
/// sent is parked: see `onceward outbox`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the effects are, for example postgres://user@host/database or redis://host
    #[arg(long, value_name = "URL", env = "ONCEWARD_STORE", hide_env_values = true)]
    store: String,
    /// What sends the effects of a kind, for example orders=nats://127.0.0.1/ORDERS; once for each kind
    ///
    /// KIND=https://host/path: webhooks, to that URL and what is below it; KIND=https: to every https:// URL, KIND=http: to every
    /// URL. KIND=smtps://user@host or KIND=smtp://host?tls=required: e-mail. Any other: a broker, as `onceward consume --from` has
    /// it.
    #[arg(long, value_name = "KIND=URL", required = true, value_parser = pair)]
    send: Vec<(String, String)>,
    /// Where the secret of a kind is: KIND=file:PATH or KIND=env:VARIABLE
    ///
    /// Of webhooks what signs them, whsec_…; several, one a line, while one is replaced. Of all others the password of the URL.
    #[arg(long, value_name = "KIND=PLACE", value_parser = pair)]
    secret: Vec<(String, String)>,
    /// Who sends e-mail, for example `Shop <orders@shop.example>`
    #[arg(long, value_name = "ADDRESS")]
    mail_from: Option<String>,
    /// How many effects are sent at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    parallel: usize,
    /// How many effects this relay has in hand: so many at most go out twice when it is killed
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    in_hand: usize,
    /// How often an effect is tried until it is parked
    #[arg(long, value_name = "COUNT", default_value_t = 30)]
    attempts: u32,
    /// The pause after the first failure; it doubles with each, up to 15 minutes
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pause: Duration,
    /// How long a try may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// How long effects stay claimed after a crash
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    lease: Duration,
    /// How often it looks when there was nothing to do
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    poll: Duration,
    /// Also be woken by services whose outbox notifies
    #[arg(long)]
    listen: bool,
    /// How long effects that are sent are kept
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    keep: Duration,
    /// How long what is on its way may take after SIGTERM
    #[arg(long, value_name = "DURATION", default_value = "25s", value_parser = duration)]
    drain: Duration,
    /// Where to serve /metrics for Prometheus and /healthz, for example 127.0.0.1:9466
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "use a number with a unit: 500ms, 60s, 7d".to_owned())
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (kind, rest) = text.split_once('=').ok_or("write it as KIND=…")?;
    if kind.is_empty() { Err("write it as KIND=…".into()) } else { Ok((kind.to_owned(), rest.to_owned())) }
}

#[cfg(not(feature = "relay"))]
pub(crate) async fn run(_args: Args) -> ExitCode {
    Exit::Usage.report(NOT_BUILT)
}

#[cfg(feature = "relay")]
pub(crate) async fn run(args: Args) -> ExitCode {
    run::run(args).await
}
