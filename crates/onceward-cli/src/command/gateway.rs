//! `onceward gateway`: the reverse proxy.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use onceward::{LateStore, Store as _, SystemClock};
use onceward_admin::{Build, Token};
use onceward_gateway::doctor::check_files;
use onceward_gateway::settings::{Settings, reasons};
use onceward_gateway::{Ended, Gateway, Process, SettingsSource, Workers};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::command::doctor::store_look;
use crate::command::source::Source;
use crate::exit::Exit;
use crate::log;
use crate::say::{complain, say};

/// Run the gateway: a reverse proxy that makes the API behind it safe to repeat
///
/// Flags win over ONCEWARD_… variables (ONCEWARD_UPSTREAM__URLS, ONCEWARD_POLICY__LEASE), variables over the
/// file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: Source,
    /// The form of log lines: json or human [default: json]
    #[arg(long, value_name = "FORM")]
    log: Option<String>,
    /// Check the settings and the certificate files that they name, and stop
    #[arg(long)]
    check: bool,
    /// Print the settings in force, secrets hidden, and stop
    #[arg(long)]
    print_config: bool,
}

pub(crate) async fn run(args: Args) -> ExitCode {
    // A reload reads the very same places again.
    let read_again = move || args.source.read(args.log.as_deref());
    let read = match read_again() {
        Ok(read) => read,
        Err(error) => return Exit::Usage.report(&reasons(&error)),
    };
    for warning in &read.warnings {
        complain(&format!("warning: {warning}"));
    }
    let settings = read.settings;
    for (key, url) in [("store", Some(&settings.store)), ("store_from", settings.store_from.as_ref())] {
        if let Some(Err(error)) = url.map(|it| onceward::check(it.as_str())) {
            return Exit::Usage.report(&format!("{key}: {}", reasons(&error)));
        }
    }
    if args.print_config {
        say(&settings.to_toml());
        return Exit::Done.code();
    }
    if args.check {
        let faults = check_files(&settings).faults;
        for fault in &faults {
            complain(&format!("{}: {}", fault.setting, fault.says));
        }
        if !faults.is_empty() {
            return Exit::Usage.code();
        }
        say("the settings are fine\n");
        return Exit::Done.code();
    }
    serve(settings, SettingsSource::new(read_again)).await
}

async fn serve(settings: Settings, source: SettingsSource) -> ExitCode {
    let _log = match log::start(settings.log) {
        Ok(guard) => guard,
        Err(error) => return Exit::CannotStart.report(&format!("cannot start the log: {error}")),
    };
    raise_file_limit();
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return Exit::CannotStart.report(&format!("cannot listen for signals: {error}")),
    };
    let url = settings.store.as_str().to_owned();
    let from = settings.store_from.as_ref().map(|it| it.as_str().to_owned());
    let directory = onceward::directory(&url);
    let is_new = directory.as_deref().is_none_or(is_empty);
    let opened = tokio::select! {
        opened = open(&url, from.as_deref()) => opened,
        signal = signals.stop.next() => return stopped_early(signal),
    };
    let store = match opened {
        Ok(store) => store,
        Err(error) => return Exit::CannotStart.report(&reasons(&error)),
    };
    let token_file = match &directory {
        Some(directory) => directory.join(&settings.admin.token_file),
        None => settings.admin.token_file.clone(),
    };
    let (token, _created) = match Token::load_or_create(&token_file) {
        Ok(loaded) => loaded,
        Err(error) => return Exit::CannotStart.report(&reasons(&error)),
    };
    let traits = store.traits();
    if let Some(from) = &settings.store_from {
        tracing::info!(from = %from, to = %settings.store, "records are moved from the old store while operations go on");
    }
    let upstreams: Vec<_> = settings.upstream.urls.iter().map(ToString::to_string).collect();
    let build =
        Build { version: env!("CARGO_PKG_VERSION").into(), commit: env!("ONCEWARD_BUILT_FROM").into() };
    let store_look = Some(store_look(&settings, &store));
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = match Workers::start(cores) {
        Ok(workers) => workers,
        Err(error) => return Exit::CannotStart.report(&format!("cannot start a thread: {error}")),
    };
    let process = Process { source: Some(source), build, store_look, workers, ..Process::default() };
    let gateway = match Gateway::start_in(process, settings, Arc::clone(&store) as _, token).await {
        Ok(gateway) => gateway,
        Err(error) => return Exit::CannotStart.report(&reasons(&error)),
    };
    tracing::info!(
        listen = %gateway.address(),
        admin = %gateway.admin_address(),
        upstreams = upstreams.join(" "),
        store = traits.name,
        durable = traits.durable,
        token_file = %token_file.display(),
        "the gateway is ready"
    );
    // A path that was mistyped, or taken from another working directory, shows here: old keys would run again.
    let place = directory.as_deref().and_then(|it| std::path::absolute(it).ok());
    tracing::info!(
        directory = place.as_ref().map(|it| it.display().to_string()),
        "{}",
        if !store.is_open() {
            "the store is not there yet: operations are refused with 503 until it is"
        } else if traits.shared {
            "the store is shared: every gateway on it sees the same records"
        } else if is_new {
            "the store is new and empty: no earlier key is known"
        } else {
            "the store has earlier records"
        }
    );
    if !traits.shared {
        tracing::info!(
            "this store serves one gateway only: a second gateway with a store of its own protects nothing"
        );
    }
    if !traits.durable {
        tracing::warn!("this store is not durable: a crash or a power cut can make an operation run twice");
    }
    let late = Arc::clone(&store);
    let mut opening = std::pin::pin!(async move { late.keep_trying().await });
    drop(store);
    let mut is_open = false;
    let first = loop {
        tokio::select! {
            () = &mut opening, if !is_open => is_open = true,
            signal = signals.stop.next() => break signal,
            // What became of it is logged and counted by the gateway.
            _ = signals.hang_up.recv() => drop(gateway.reload()),
        }
    };
    tracing::info!(signal = first, "stopping; a second signal stops at once");
    tokio::select! {
        ended = gateway.stop() => match ended {
            Ended::Clean => {
                tracing::info!("stopped: everything finished and is stored");
                Exit::Done.code()
            }
            Ended::Abandoned(operations) => {
                tracing::warn!(operations, "stopped with operations under way");
                Exit::Abandoned.code()
            }
        },
        _ = signals.stop.next() => Exit::Abandoned.report("stopped at once by a second signal"),
    }
}

/// The signals that the gateway obeys.
struct Signals {
    stop: Stop,
    /// Read the settings again. Listened to from the start, since it would end the process otherwise.
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// The signals that tell it to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// The next one, by its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Whether nothing was ever stored there.
fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut it| it.next().is_none())
}

/// Opens the store, or lets it be opened as soon as that works. Another gateway may still have it; that is said
/// when it takes a while.
async fn open(url: &str, from: Option<&str>) -> Result<Arc<LateStore>, onceward::OpenError> {
    let mut opening = std::pin::pin!(async {
        match from {
            None => onceward::open_once_left(url, Arc::new(SystemClock)).await,
            Some(from) => onceward::open_moving(from, url, Arc::new(SystemClock)).await,
        }
    });
    tokio::select! {
        opened = &mut opening => return opened,
        () = tokio::time::sleep(Duration::from_millis(500)) => {}
    }
    tracing::info!("waiting for the store");
    opening.await
}

/// Nothing was served yet, so nothing is left to be finished.
fn stopped_early(signal: &str) -> ExitCode {
    tracing::info!(signal, "stopped before the store was open");
    Exit::Done.code()
}

/// Takes all the files and sockets that the system grants: the soft limit is often 1024, for programs that cannot
/// handle more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files and sockets stays where it is");
    }
}
