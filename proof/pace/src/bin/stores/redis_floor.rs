//! What a Redis server makes of the very calls that the store sends it, without the store.
//!
//! `redis-benchmark` sends claims and replays, each client one call after the other. It cannot send pairs: a completion
//! names the revision that the claim was told, and `redis-benchmark` hands nothing of one answer to the next call. So a
//! bare client does that: a thread with as many connections, which writes the same bytes, waits, and writes the next. It
//! sends claims alone, too, so that the two can be compared.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::latency::Latencies;
use onceward_bench::load::Seen;
use onceward_core::RecordId;
use onceward_core::store::{Insert, Store as _};
use onceward_pace::made_up;
use onceward_pace::spent::seen;
use onceward_store_redis::{Address, RedisSettings, RedisStore};
use onceward_testkit::server::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use crate::stores::callers::{STORED, stored_id};
use crate::stores::resp::{self, Ear};
use crate::stores::rows::What;

/// What `redis-benchmark` replaces by twelve digits.
const RANDOM: &[u8] = b"__rand_int__";
/// So many different claims: as many as `redis-benchmark` can tell apart.
const CLAIMS: &str = "2147483647";

/// The calls, and the server.
#[derive(Debug)]
pub(crate) struct RedisFloor {
    server: Arc<RedisServer>,
    claim: Template,
    completion: Template,
    /// How many calls a second were made last, so that a measurement lasts as long as it should.
    rates: Mutex<HashMap<(What, u32), f64>>,
}

/// A call for one id, to be said again for others.
#[derive(Debug, Clone)]
struct Template {
    words: Vec<Vec<u8>>,
    bytes: Vec<u8>,
    id: RecordId,
    /// Where the id stands, in hexadecimal and as it is, and the revision seen, if any.
    hex_at: usize,
    id_at: usize,
    seen_at: Option<usize>,
}

impl RedisFloor {
    /// Listens to what a store says when it claims and completes.
    pub(crate) async fn learn(server: Arc<RedisServer>, settings: &RedisSettings) -> Result<Self> {
        let ear = Ear::before(server.port()).await?;
        let host = Address { host: ear.address.ip().to_string(), port: ear.address.port() };
        let store = RedisStore::open(RedisSettings { servers: vec![host], ..settings.clone() }).await?;
        // Like the ids of stored answers, so that all that differs is twelve digits.
        let (id, put) = (stored_id(999_999), made_up::claim("r00001-0-4294967295".to_owned()));
        let Insert::Kept(running) = store.insert(id, &put).await? else {
            return Err("a new key was not kept".into());
        };
        let claim = Template::of(ear.last()?, id, None)?;
        let done = made_up::completion(put, made_up::answer());
        store.replace(id, running.revision, &done).await?;
        let completion = Template::of(ear.last()?, id, Some(running.revision.to_string()))?;
        Ok(Self { server, claim, completion, rates: Mutex::default() })
    }

    /// Claims or replays by `redis-benchmark`.
    pub(crate) async fn benchmark(&self, what: What, callers: u32, length: Duration) -> Result<Seen> {
        let rate = {
            let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.get(&(what, callers)).copied()
        };
        let calls = rate.map_or(5000.0, |it| (it * length.as_secs_f64()).max(1000.0));
        let (failed, found) = (self.failed(), self.keys()?);
        let seen = self.run(what, callers, calls).await?;
        let kept = self.keys()? - found;
        // Two claims of one id are rare, and no failure.
        let fits = match what {
            What::Claim => kept as f64 >= 0.99 * calls,
            What::Replay | What::Pair => kept == 0,
        };
        // A few belong to others: to a server before 7.2, each connection of the store says two things that it does not know.
        #[expect(clippy::cast_precision_loss, reason = "the count of some seconds")]
        if !fits || (self.failed() - failed) as f64 > 0.01 * calls {
            return Err(format!("redis-benchmark kept {kept} of {calls:.0}; {}", self.failures()).into());
        }
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.insert((what, callers), seen.rate());
        Ok(seen)
    }

    async fn run(&self, what: What, callers: u32, calls: f64) -> Result<Seen> {
        let range = if what == What::Claim { CLAIMS.to_owned() } else { STORED.to_string() };
        let (words, body) = self.claim.for_benchmark()?;
        let mut command = std::process::Command::new("redis-benchmark");
        command.args(["-p", &self.server.port().to_string(), "-c", &callers.to_string()]);
        command.args(["-n", &format!("{calls:.0}"), "-r", &range, "--csv", "-x"]).args(words);
        let out = spawn_blocking(move || -> Result<_> {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            child.stdin.take().ok_or("it was asked for")?.write_all(&body)?;
            Ok(child.wait_with_output()?)
        });
        let out = out.await??;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        // "test","rps","avg","min","p50","p95","p99","max", the test's name being the whole call.
        let numbers =
            said.trim_end().rsplit("\",\"").take(7).map(|it| it.trim_matches('"').parse::<f64>().ok());
        let numbers: Option<Vec<f64>> = numbers.collect();
        match numbers.as_deref() {
            Some([_, p99, _, p50, _, _, rate]) if out.status.success() => {
                #[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
                let took_us = (calls / rate * 1e6) as u64;
                #[expect(clippy::cast_possible_truncation, reason = "a whole number that was asked for")]
                let requests = calls.round() as u64;
                let (p50_us, p99_us) = (p50 * 1e3, p99 * 1e3);
                Ok(Seen { requests, took_us, refused: 0, broken: 0, p50_us, p99_us })
            }
            _ => Err(format!("redis-benchmark ended with {}: {said}", out.status).into()),
        }
    }

    /// Claims or pairs by a bare client.
    pub(crate) async fn bare(&self, what: What, callers: u32, length: Duration) -> Result<Seen> {
        let (claim, port) = (self.claim.clone(), self.server.port());
        let completion = (what == What::Pair).then(|| self.completion.clone());
        spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(clients(claim, completion, port, callers, length))
        })
        .await?
    }

    fn keys(&self) -> Result<i64> {
        Ok(self.server.cli(&["DBSIZE"]).trim_start_matches("(integer) ").parse()?)
    }

    /// How many calls failed.
    fn failed(&self) -> u64 {
        let told = self.failures();
        told.split("count=").skip(1).filter_map(|it| it.split_whitespace().next()?.parse::<u64>().ok()).sum()
    }

    /// What the server says of calls that failed.
    fn failures(&self) -> String {
        let told = self.server.cli(&["INFO", "errorstats"]);
        told.lines().filter(|it| it.starts_with("errorstat_")).collect::<Vec<_>>().join(" ")
    }
}

impl Template {
    fn of(words: Vec<Vec<u8>>, id: RecordId, seen: Option<String>) -> Result<Self> {
        let bytes = resp::encode(&words);
        let at = |what: &[u8]| bytes.windows(what.len()).position(|it| it == what);
        let hex: String = id.as_bytes().iter().map(|it| format!("{it:02x}")).collect();
        let hex_at = at(hex.as_bytes()).ok_or("the call has no key")?;
        let id_at = at(id.as_bytes()).ok_or("the call has no id")?;
        let seen_at = seen.map(|it| at(it.as_bytes()).ok_or("the call has no revision")).transpose()?;
        Ok(Self { words, bytes, id, hex_at, id_at, seen_at })
    }

    /// The words before the last one, with what is to be replaced, and the last one.
    fn for_benchmark(&self) -> Result<(Vec<String>, Vec<u8>)> {
        let (mut words, body) = (self.words.clone(), self.words.last().cloned().unwrap_or_default());
        words.pop();
        for word in &mut words {
            if *word == self.id.as_bytes() {
                word.truncate(32 - RANDOM.len());
                word.extend_from_slice(RANDOM);
            } else if word.len() > 64 && word.windows(64).any(|it| it == &self.bytes[self.hex_at..][..64]) {
                word.truncate(word.len() - RANDOM.len());
                word.extend_from_slice(RANDOM);
            }
        }
        let words: std::result::Result<Vec<String>, _> = words.into_iter().map(String::from_utf8).collect();
        Ok((words?, body))
    }

    fn write(&mut self, id: RecordId, seen: &[u8]) {
        self.bytes[self.id_at..][..32].copy_from_slice(id.as_bytes());
        for (digits, byte) in self.bytes[self.hex_at..][..64].chunks_exact_mut(2).zip(id.as_bytes()) {
            let digit = |it: u8| b"0123456789abcdef"[usize::from(it)];
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        if let Some(at) = self.seen_at {
            self.bytes[at..][..seen.len()].copy_from_slice(seen);
        }
    }
}

/// So many connections, each with one call under way at a time.
async fn clients(
    claim: Template,
    completion: Option<Template>,
    port: u16,
    callers: u32,
    length: Duration,
) -> Result<Seen> {
    let mut streams = Vec::new();
    for _ in 0..callers {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (mut tasks, begun) = (JoinSet::new(), Instant::now());
    for mut stream in streams {
        let (mut claim, mut completion) = (claim.clone(), completion.clone());
        tasks.spawn(async move {
            let (mut took, mut buffer) = (Latencies::default(), Vec::with_capacity(4096));
            while begun.elapsed() < length {
                let (asked, id) = (Instant::now(), made_up::id());
                claim.write(id, b"");
                let seen = ask(&mut stream, &mut buffer, &claim).await?;
                if let Some(completion) = &mut completion {
                    completion.write(id, &seen);
                    ask(&mut stream, &mut buffer, completion).await?;
                }
                took.add(asked.elapsed());
            }
            Result::Ok(took)
        });
    }
    let mut took = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        took.merge(&ended??);
    }
    seen(took, begun.elapsed())
}

/// The revision that was kept.
async fn ask(stream: &mut TcpStream, buffer: &mut Vec<u8>, call: &Template) -> Result<Vec<u8>> {
    stream.write_all(&call.bytes).await?;
    loop {
        if let Some((length, revision)) = resp::kept(buffer)? {
            buffer.drain(..length);
            return Ok(revision);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err("the server closed the connection".into());
        }
    }
}
