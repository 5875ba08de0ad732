//! The callers in front of bad gateways: each fault must be noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// What a scripted gateway does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NoMarker,
    MarkerOnFirst,
    OtherBody,
    ServerError,
    WrongEcho,
    CutsOff,
    Slow,
}

/// A gateway that replays from memory, and has one fault in about every third answer.
async fn run_before(fault: Fault) -> Tally {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let serial = Arc::new(AtomicU64::new(0));
    let mut gateway = JoinSet::new();
    gateway.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let serial = Arc::clone(&serial);
            connections.spawn(async move {
                let mut first = (String::new(), String::new());
                // Counted for each connection, so that it does not matter how the two take turns.
                for nth in 0_u64.. {
                    let Some((key, sent)) = read_request(&mut stream).await else { return };
                    let number = serial.fetch_add(1, Ordering::Relaxed);
                    let is_third = nth % 3 == 2;
                    let is_repeat = !key.is_empty() && key == first.0;
                    let echo = if fault == Fault::WrongEcho && is_third { "x" } else { &sent };
                    let fresh = format!(r#"{{"serial":{number},"sent":"{echo}"}}"#);
                    let mut body = if is_repeat { first.1.clone() } else { fresh.clone() };
                    if !is_repeat && !key.is_empty() {
                        first = (key, fresh.clone());
                    }
                    let (mut status, mut marker, mut cut) = (200, is_repeat, false);
                    match fault {
                        Fault::NoMarker => marker = false,
                        Fault::OtherBody if is_repeat => body = fresh,
                        Fault::MarkerOnFirst if is_third => marker = true,
                        Fault::ServerError if is_third => status = 503,
                        Fault::CutsOff if is_third => cut = true,
                        Fault::Slow if number == 20 => tokio::time::sleep(Duration::from_millis(300)).await,
                        _ => {}
                    }
                    let marker = if marker { "idempotent-replayed: true\r\n" } else { "" };
                    let length = body.len() + usize::from(cut);
                    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{marker}\r\n");
                    stream.write_all((head + &body).as_bytes()).await.unwrap();
                    if cut {
                        return;
                    }
                }
            });
        }
    });
    let plan = Plan {
        target,
        connections: 2,
        rate: 200,
        length: Duration::from_millis(500),
        warm_up: Duration::ZERO,
        mix: Mix::Operations,
        replays: true,
        fresh_every: 0,
        run: 7,
    };
    run(plan).await.unwrap()
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|it| it.strip_prefix(name)).unwrap_or("").trim().to_owned();
    let mut body = vec![0; field("content-length:").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((field("idempotency-key:"), String::from_utf8(body).unwrap()))
}

#[tokio::test]
async fn a_good_gateway_has_no_wrong_answer() {
    let tally = run_before(Fault::None).await;
    assert_eq!((tally.right, tally.wrong), (100, 0), "{:?}", tally.reasons);
    assert_eq!((tally.replayed, tally.operations.count(), tally.reads.count()), (10, 100, 0));
}

#[tokio::test]
async fn every_fault_of_a_gateway_is_noticed() {
    for (fault, reason) in [
        (Fault::NoMarker, "no replay"),
        (Fault::MarkerOnFirst, "calls itself a replay"),
        (Fault::OtherBody, "differs from its first"),
        (Fault::ServerError, "status 503"),
        (Fault::WrongEcho, "not to what was sent"),
        (Fault::CutsOff, "request"),
    ] {
        let tally = run_before(fault).await;
        assert!(tally.wrong >= 5, "{reason}: {} wrong", tally.wrong);
        assert!(tally.reasons.iter().all(|it| it.contains(reason)), "{:?}", tally.reasons);
    }
}

#[tokio::test]
async fn requests_that_were_due_during_a_stall_count_from_when_they_were_due() {
    let tally = run_before(Fault::Slow).await;
    assert_eq!(tally.wrong, 0, "{:?}", tally.reasons);
    let mut latencies = tally.all();
    // One connection stood still for 300 ms, in which 30 requests were due: most of them waited over 50 ms.
    assert!(latencies.quantile(0.80) > Duration::from_millis(50), "{:?}", latencies.quantile(0.80));
}

#[test]
fn the_half_mix_is_five_reads_four_operations_and_a_repeat() {
    let kinds: Vec<Kind> = (0..10).map(|it| Mix::Half.kind(it)).collect();
    let count = |kind| kinds.iter().filter(|it| **it == kind).count();
    assert_eq!((count(Kind::Read), count(Kind::Operation), count(Kind::Repeat)), (5, 4, 1));
}
