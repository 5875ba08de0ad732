//! A consumer as an application has it: its effect is a row that commits with the note that the message was done.

use std::net::SocketAddr;
use std::sync::Arc;

use onceward::postgres::operations::{OperationSettings, Operations};
use onceward::queue::source::open::open;
use onceward::queue::{Consumer, ConsumerSettings, Failure, Handling, Identity, Metrics, Retries};
use onceward::{Engine, Policy};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::producers::seed_of;
use super::{ATTEMPTS, LEASE};
use crate::Result;
use crate::time::ms;

/// What it is started with: as `onceward consume`, as far as it goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    from: String,
    #[arg(long)]
    name: String,
    #[arg(long)]
    key: Identity,
    #[arg(long)]
    store: String,
    #[arg(long)]
    metrics: SocketAddr,
    #[arg(long)]
    process: i64,
    #[arg(long)]
    seed: u64,
}

/// Consumes until it is told to stop.
pub(crate) fn serve(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(consume(args))
}

async fn consume(args: &Args) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let store = match onceward::open(&args.store).await {
        Ok(store) => store,
        Err(error) => {
            eprintln!("the store is away: {error}");
            std::process::exit(super::consumers::CANNOT_START);
        }
    };
    let pool = PgPoolOptions::new().max_connections(20).connect_lazy(&args.store)?;
    let engine = Engine::new(store);
    let metrics = Arc::new(Metrics::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(tell(TcpListener::bind(args.metrics).await?, Arc::clone(&metrics)));
    let upkeep = engine.clone();
    tasks.spawn(async move {
        loop {
            // Whatever it could not do is done at the next turn.
            let _ = upkeep.maintain().await;
            tokio::time::sleep(ms(1_000)).await;
        }
    });
    let settings = ConsumerSettings {
        policy: Policy { lease: LEASE, ..ConsumerSettings::default().policy },
        retries: Retries { attempts_max: ATTEMPTS * 2, pause: ms(50), pause_max: ms(1_000) },
        short_windows: true,
        ..ConsumerSettings::default()
    };
    let (process, seed) = (args.process, args.seed);
    let consumer = Consumer::new(&args.name, open(&args.from, &args.name)?, engine)
        .key(args.key.clone())
        .settings(settings)
        .observer(metrics)
        .in_transaction(pool, Operations::new(OperationSettings::default()), move |it, connection| {
            Box::pin(note(it, connection, process, seed))
        });
    let stop = async {
        terminated.recv().await;
    };
    Ok(consumer.run(stop).await?)
}

/// Writes that the message had its effect, into a ledger in which nothing is unique.
async fn note(it: Handling, connection: &mut PgConnection, process: i64, seed: u64) -> Result<(), Failure> {
    let id = String::from_utf8_lossy(&it.message.body).into_owned();
    let mut for_id = fastrand::Rng::with_seed(seed ^ seed_of(&id));
    let fate = for_id.u32(0..200);
    let mut rng = fastrand::Rng::with_seed(for_id.u64(..) ^ u64::from(it.attempt));
    let drawn = rng.u32(0..100);
    if drawn < 5 {
        return Err(Failure::retry("before anything was written"));
    }
    tokio::time::sleep(ms(rng.u64(0..40))).await;
    sqlx::query("INSERT INTO ledger (id, attempt, process) VALUES ($1, $2, $3)")
        .bind(&id)
        .bind(i64::from(it.attempt))
        .bind(process)
        .execute(&mut *connection)
        .await?;
    tokio::time::sleep(if drawn >= 90 { LEASE.mul_f64(rng.f64() * 1.5) } else { ms(rng.u64(0..20)) }).await;
    match (fate, drawn) {
        // It never gets through.
        (0, _) => Err(Failure::retry("after its row was written")),
        (1, _) => Err(Failure::park("it cannot be done")),
        (_, 5..10) => Err(Failure::unknown("after its row was written")),
        _ => Ok(()),
    }
}

/// Tells whoever asks what was counted.
async fn tell(listener: TcpListener, metrics: Arc<Metrics>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut asked = [0; 1024];
        let page = metrics.page();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", page.len());
        // Who asked may be gone.
        let _ = stream.read(&mut asked).await;
        let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
    }
}
