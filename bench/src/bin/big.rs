//! `big`: does memory stay flat while long bodies stream through?

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::future::BoxFuture;
use http::{Request, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use onceward_bench::caller::{self, Mix, Plan};
use onceward_bench::client::{BLOCK, Connection, block, blocks, empty, hash_of_blocks, read, streamed};
use onceward_bench::gateway::{Gateway, SETTINGS, SETTINGS_H2C};
use onceward_bench::upstream::Upstream;
use onceward_bench::usage::mib;
use onceward_bench::{Result, args::Common, conclude};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

/// Does memory stay flat while long bodies stream through?
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: Common,
    /// A share of the full sizes in percent, for a quick look
    #[arg(long, default_value_t = 100)]
    percent: u64,
    /// Only the cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// How much more memory, in MiB, the gateway may hold at any moment
    #[arg(long, default_value_t = 32)]
    growth: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    conclude("big", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<bool> {
    let upstream = Upstream::start()?;
    let gateway = Gateway::start(&args.common, SETTINGS, &upstream.urls()).await?;
    let h2c_url = format!("http://{}", upstream.h2c);
    let h2c = Gateway::start(&args.common, SETTINGS_H2C, &[h2c_url]).await?;
    let gib = (1 << 30) / BLOCK * args.percent / 100;
    let quarter = gib / 4;
    let (to, to_h2c) = (gateway.address, h2c.address);
    let events = 30 * args.percent.clamp(10, 100) / 100;
    warm_up(to).await?;
    warm_up(to_h2c).await?;
    let cases: Vec<(&str, &Gateway, BoxFuture<'static, Result<()>>)> = vec![
        ("upgrade, echo of 256 MiB", &gateway, Box::pin(upgraded(to, quarter))),
        ("server-sent events beside traffic", &gateway, Box::pin(event_stream(to, events))),
        ("upload of 1 GiB, chunked, HTTP/1.1", &gateway, Box::pin(upload(to, gib, Version::HTTP_11))),
        ("upload of 1 GiB, HTTP/2", &gateway, Box::pin(upload(to, gib, Version::HTTP_2))),
        ("upload of 1 GiB, HTTP/2 both sides", &h2c, Box::pin(upload(to_h2c, gib, Version::HTTP_2))),
        ("gRPC-like, 256 MiB both ways", &h2c, Box::pin(grpc(to_h2c, quarter))),
        ("download of 1 GiB, HTTP/1.1", &gateway, Box::pin(download(to, gib, Version::HTTP_11))),
        ("download of 1 GiB, HTTP/2", &gateway, Box::pin(download(to, gib, Version::HTTP_2))),
        ("download of 1 GiB, HTTP/2 both sides", &h2c, Box::pin(download(to_h2c, gib, Version::HTTP_2))),
    ];
    println!("{:<38} {:>8} {:>12} {:>12}", "case", "seconds", "at its start", "most growth");
    let mut fine = true;
    for (name, gateway, case) in cases.into_iter().filter(|it| it.0.contains(&args.only)) {
        fine &= watch(name, gateway, args.growth, case).await?;
    }
    for gateway in [gateway, h2c] {
        let panics = gateway.panics()?;
        fine &= panics.is_empty();
        println!(
            "panics in the log: {}; {} descriptors at the end",
            panics.len(),
            gateway.usage()?.descriptors
        );
        gateway.stop().await?;
    }
    Ok(fine)
}

/// Runs a case while the gateway's memory is read ten times a second.
async fn watch(
    name: &str,
    gateway: &Gateway,
    growth: u64,
    case: impl Future<Output = Result<()>>,
) -> Result<bool> {
    let start = gateway.usage()?.rss;
    let (begun, mut most) = (Instant::now(), start);
    let sampling = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            if let Ok(now) = gateway.usage() {
                most = most.max(now.rss);
            }
        }
    };
    let outcome = tokio::select! {
        outcome = case => outcome,
        () = sampling => Ok(()),
    };
    let took = begun.elapsed().as_secs_f64();
    let grown = most.saturating_sub(start);
    let flat = grown >> 20 < growth;
    let verdict = match &outcome {
        Err(error) => format!("FAILED: {error}"),
        Ok(()) if !flat => format!("FAILED: grew by {growth} MiB or more"),
        Ok(()) => "right".into(),
    };
    println!("{name:<38} {took:>8.1} {:>12} {:>12}  {verdict}", mib(start), mib(grown));
    Ok(flat && outcome.is_ok())
}

/// A second of traffic, so that what every first request allocates is there.
async fn warm_up(to: SocketAddr) -> Result<()> {
    let tally = caller::run(reads(to, 2)).await?;
    if tally.wrong > 0 { Err(format!("{:?}", tally.reasons).into()) } else { Ok(()) }
}

fn reads(target: SocketAddr, seconds: u64) -> Plan {
    Plan {
        target,
        connections: 16,
        rate: 200,
        length: Duration::from_secs(seconds),
        warm_up: Duration::ZERO,
        mix: Mix::Reads,
        replays: true,
        fresh_every: 0,
        run: 0,
    }
}

async fn upgraded(to: SocketAddr, count: u64) -> Result<()> {
    let request = Request::get("/upgrade").header("host", "bench.test");
    let request = request.header("connection", "upgrade").header("upgrade", "websocket").body(empty())?;
    let mut connection = Connection::http1(to).await?;
    let response = connection.send(request).await?;
    if response.status() != 101 {
        return Err(format!("status {}", response.status()).into());
    }
    let io = TokioIo::new(hyper::upgrade::on(response).await?);
    let (mut from, mut into) = tokio::io::split(io);
    let write = async {
        for number in 0..count {
            into.write_all(&block(number)).await?;
        }
        Ok::<_, onceward_bench::Trouble>(into.shutdown().await?)
    };
    let read = async {
        let mut got = vec![0; 64 * 1024];
        for number in 0..count {
            from.read_exact(&mut got).await?;
            if got != block(number) {
                return Err(format!("block {number} came back changed").into());
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read).map(drop)
}

async fn event_stream(to: SocketAddr, seconds: u64) -> Result<()> {
    let stream = async {
        let request =
            Request::get(format!("/sse?seconds={seconds}")).header("host", "bench.test").body(empty())?;
        let mut connection = Connection::http1(to).await?;
        let mut body = connection.send(request).await?.into_body();
        let (mut next, mut last, mut gap) = (0, Instant::now(), Duration::ZERO);
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            for _ in String::from_utf8_lossy(&data).matches("data: ") {
                next += 1;
            }
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
        // Ten a second: half a second without one means that somebody held them back.
        if next != seconds * 10 || gap > Duration::from_millis(500) {
            return Err(format!("{next} of {} events, the longest gap {gap:?}", seconds * 10).into());
        }
        Ok(())
    };
    let traffic = async {
        let tally = caller::run(reads(to, seconds)).await?;
        if tally.wrong > 0 { Err(format!("{:?}", tally.reasons).into()) } else { Ok(()) }
    };
    tokio::try_join!(stream, traffic).map(drop)
}

async fn connect(to: SocketAddr, version: Version) -> Result<Connection> {
    if version == Version::HTTP_2 { Connection::http2(to).await } else { Connection::http1(to).await }
}

fn asking(to: SocketAddr, method: &str, path: &str) -> http::request::Builder {
    // HTTP/2 takes the whole URL, HTTP/1.1 through this client the path.
    Request::builder().method(method).uri(format!("http://{to}{path}"))
}

async fn upload(to: SocketAddr, count: u64, version: Version) -> Result<()> {
    let mut connection = connect(to, version).await?;
    let request = match version {
        Version::HTTP_2 => asking(to, "POST", "/sink").version(version),
        _ => Request::post("/sink").header("host", "bench.test"),
    };
    let response = connection.send(request.body(streamed(blocks(count, None)))?).await?;
    let answer = read(response).await?;
    let expected = format!("{} {}", count * BLOCK, hash_of_blocks(count));
    if answer.body != expected { Err(format!("the sink says {:?}", answer.body).into()) } else { Ok(()) }
}

async fn download(to: SocketAddr, count: u64, version: Version) -> Result<()> {
    let mut connection = connect(to, version).await?;
    let path = format!("/big?blocks={count}");
    let request = match version {
        Version::HTTP_2 => asking(to, "GET", &path).version(version),
        _ => Request::get(path).header("host", "bench.test"),
    };
    let body = connection.send(request.body(empty())?).await?.into_body();
    same_blocks(body, count).await.map(drop)
}

/// Messages of 64 KiB both ways at once, and the status in the trailers.
async fn grpc(to: SocketAddr, count: u64) -> Result<()> {
    let mut connection = connect(to, Version::HTTP_2).await?;
    let request = asking(to, "POST", "/echo").version(Version::HTTP_2);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let response = connection.send(request.body(streamed(blocks(count, None)))?).await?;
    if response.status() != 200 {
        return Err(format!("status {}", response.status()).into());
    }
    match same_blocks(response.into_body(), count).await? {
        Some(trailers) if trailers.get("grpc-status").is_some_and(|it| it == "0") => Ok(()),
        other => Err(format!("the trailers are {other:?}").into()),
    }
}

/// Reads a body, which must be so many blocks; gives its trailers.
async fn same_blocks(mut body: Incoming, count: u64) -> Result<Option<http::HeaderMap>> {
    let (mut hash, mut length) = (blake3::Hasher::new(), 0);
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => {
                length += data.len() as u64;
                hash.update(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    if length != count * BLOCK || hash.finalize().to_hex().to_string() != hash_of_blocks(count) {
        return Err(format!("{length} bytes came, not the {} that were sent", count * BLOCK).into());
    }
    Ok(trailers)
}
