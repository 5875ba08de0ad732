//! Bad neighbours. Each is cheap by itself, so that what others feel is the gateway's doing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Result;
use crate::client::{BLOCK, Connection, blocks, full, streamed};
use crate::upstream::Upstream;

/// What one neighbour does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Nothing: shows how much two quiet rounds differ.
    Nothing,
    /// One operation whose upstream hangs, and one duplicate that waits for it.
    Waiting,
    /// 32 operations whose upstream hangs.
    Hanging,
    /// An upload of 100 MB that passes through, at 25 MB a second.
    PacedUpload,
    /// Uploads of 100 MB that pass through one after the other, as fast as they are taken.
    Upload,
    /// 1,000 connections that never finish the head of their request.
    Loris,
    /// A caller that reads a big answer at 160 KiB a second.
    SlowReader,
    /// All of them; the upload is the paced one.
    All,
}

impl Disturbance {
    /// In the order of the table.
    pub const EACH: [Self; 8] = [
        Self::Nothing,
        Self::Waiting,
        Self::Hanging,
        Self::PacedUpload,
        Self::Upload,
        Self::Loris,
        Self::SlowReader,
        Self::All,
    ];

    /// Its name on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Waiting => "waiting",
            Self::Hanging => "hanging",
            Self::PacedUpload => "upload-paced",
            Self::Upload => "upload-flat-out",
            Self::Loris => "loris",
            Self::SlowReader => "slow-reader",
            Self::All => "all",
        }
    }
}

const LORIS: u64 = 1000;
const STUCK: u64 = 32;
const UPLOAD_BLOCKS: u64 = 100_000_000 / BLOCK;
const SETTLED: Duration = Duration::from_secs(20);

/// A neighbour at work. Ends with [`Neighbour::stop`].
#[derive(Debug)]
pub struct Neighbour {
    what: Disturbance,
    stop: CancellationToken,
    tasks: TaskTracker,
    seen: Arc<Seen>,
    sunk_before: u64,
}

#[derive(Debug, Default)]
struct Seen {
    loris: AtomicU64,
    read: AtomicU64,
    replays: AtomicU64,
}

impl Neighbour {
    /// Starts it and waits until it is in place.
    ///
    /// # Errors
    /// It is not in place within 20 s.
    pub async fn start(what: Disturbance, target: SocketAddr, upstream: &Upstream, run: u64) -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let is = |one: Disturbance| what == one || what == Disturbance::All;
        let spawn = |work: futures_util::future::BoxFuture<'static, Result<()>>| {
            let stop = stop.clone();
            // What goes wrong shows in what was seen, which `stop` checks.
            tasks.spawn(async move {
                tokio::select! { _ = work => {}, () = stop.cancelled() => {} }
            });
        };
        let waits = is(Disturbance::Waiting);
        if waits {
            for _ in 0..2 {
                // These two end by being answered, not by being stopped.
                tasks.spawn(hang(target, format!("waiting-{run}"), Arc::clone(&seen)));
            }
        }
        if is(Disturbance::Hanging) {
            for number in 0..STUCK {
                tasks.spawn(hang(target, format!("hanging-{run}-{number}"), Arc::clone(&seen)));
            }
        }
        if is(Disturbance::PacedUpload) {
            let pace = Duration::from_secs_f64(BLOCK as f64 / 25e6);
            spawn(Box::pin(upload(target, Some(pace))));
        }
        if what == Disturbance::Upload {
            spawn(Box::pin(upload(target, None)));
        }
        if is(Disturbance::Loris) {
            for number in 0..LORIS {
                spawn(Box::pin(loris(target, number, Arc::clone(&seen))));
            }
        }
        if is(Disturbance::SlowReader) {
            spawn(Box::pin(read_slowly(target, Arc::clone(&seen))));
        }
        let neighbour = Self { what, stop, tasks, seen, sunk_before: upstream.sunk() };
        neighbour.until(|| neighbour.missing(upstream).is_none()).await;
        match neighbour.missing(upstream) {
            None => Ok(neighbour),
            Some(missing) => Err(format!("{}: {missing}", what.name()).into()),
        }
    }

    /// Ends it and waits until nothing of it is left here.
    ///
    /// # Errors
    /// It was no longer in place, or what hung was not answered in the end.
    pub async fn stop(self, upstream: &Upstream, replays: bool) -> Result<()> {
        let missing = self.missing(upstream);
        self.stop.cancel();
        self.tasks.close();
        let release = async {
            while !self.tasks.is_empty() {
                upstream.release();
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SETTLED, release).await.map_err(|_| "a hanging caller was never answered")?;
        let waits = matches!(self.what, Disturbance::Waiting | Disturbance::All);
        if replays && waits && self.seen.replays.load(Ordering::Relaxed) != 1 {
            return Err("the waiting duplicate did not get the replay".into());
        }
        missing.map_or(Ok(()), |it| Err(format!("{} ended early: {it}", self.what.name()).into()))
    }

    /// What should be in place and is not.
    fn missing(&self, upstream: &Upstream) -> Option<String> {
        let is = |one: Disturbance| self.what == one || self.what == Disturbance::All;
        let (stuck, loris) = (upstream.hanging(), self.seen.loris.load(Ordering::Relaxed));
        let wanted = u64::from(is(Disturbance::Waiting)) + if is(Disturbance::Hanging) { STUCK } else { 0 };
        if stuck < wanted {
            return Some(format!("{stuck} of {wanted} callers are stuck"));
        }
        if is(Disturbance::Loris) && loris < LORIS {
            return Some(format!("{loris} of {LORIS} slow connections are open"));
        }
        if is(Disturbance::SlowReader) && self.seen.read.load(Ordering::Relaxed) == 0 {
            return Some("the slow reader has read nothing".into());
        }
        let uploads = is(Disturbance::PacedUpload) || self.what == Disturbance::Upload;
        if uploads && upstream.sunk() == self.sunk_before {
            return Some("nothing of the upload has arrived".into());
        }
        None
    }

    async fn until(&self, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() && begun.elapsed() < SETTLED {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn hang(target: SocketAddr, key: String, seen: Arc<Seen>) -> Result<()> {
    let request = Request::post("/hang")
        .header("host", "bench.test")
        .header("authorization", "Bearer neighbour")
        .header("idempotency-key", key)
        .body(full("x"))?;
    let mut connection = Connection::http1(target).await?;
    let response = connection.send(request).await?;
    if response.status() == 200 && response.headers().contains_key("idempotent-replayed") {
        seen.replays.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

async fn upload(target: SocketAddr, pace: Option<Duration>) -> Result<()> {
    loop {
        let request = Request::post("/sink?plain").header("host", "bench.test");
        let request = request.body(streamed(blocks(UPLOAD_BLOCKS, pace)))?;
        Connection::http1(target).await?.send(request).await?;
    }
}

/// A byte every five seconds, each connection at another time, and a new connection when it is closed.
async fn loris(target: SocketAddr, number: u64, seen: Arc<Seen>) -> Result<()> {
    // Not all in the same moment: a full accept queue would be the kernel's doing.
    sleep(Duration::from_micros(number * 500)).await;
    loop {
        let mut stream = TcpStream::connect(target).await?;
        stream.write_all(b"GET /fast HTTP/1.1\r\nhost: bench.test\r\nx-slow: ").await?;
        seen.loris.fetch_add(1, Ordering::Relaxed);
        let begun = sleep(Duration::from_millis(5 * number));
        begun.await;
        let mut byte = [0];
        loop {
            tokio::select! {
                read = stream.read(&mut byte) => if !matches!(read, Ok(n) if n > 0) { break },
                () = sleep(Duration::from_secs(5)) => if stream.write_all(b"x").await.is_err() { break },
            }
        }
        seen.loris.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn read_slowly(target: SocketAddr, seen: Arc<Seen>) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    let mut stream = socket.connect(target).await?;
    stream.write_all(b"GET /big?blocks=1600 HTTP/1.1\r\nhost: bench.test\r\n\r\n").await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err("the big answer ended".into());
        }
        seen.read.fetch_add(read as u64, Ordering::Relaxed);
        sleep(Duration::from_millis(100)).await;
    }
}
