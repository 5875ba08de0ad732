//! Idle connections: used again, but never when that could make an outcome unknown for nothing.

use std::collections::HashMap;
use std::time::Duration;

use onceward_gateway::FreshConnection;
use tokio::time::Instant;

use super::*;
use crate::scripted::{Scripted, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Sends `first`, waits until the connection is idle again, and sends another.
async fn connections_for_two(upstream: &Upstream, scripted: &Scripted) -> usize {
    get(upstream).await;
    tokio::task::yield_now().await;
    get(upstream).await;
    scripted.connections()
}

#[tokio::test]
async fn an_idle_connection_is_used_again() {
    let scripted = Scripted::answering(OK).await;
    assert_eq!(connections_for_two(&upstream(settings(scripted.addr)), &scripted).await, 1);
}

#[tokio::test]
async fn a_request_may_ask_for_a_fresh_connection() {
    let scripted = Scripted::answering(OK).await;
    let upstream = upstream(settings(scripted.addr));
    get(&upstream).await;
    let mut fresh = pass_through("/");
    fresh.extensions_mut().insert(FreshConnection);
    text(send(&upstream, fresh).await).await;
    assert_eq!(scripted.connections(), 2);
}

#[tokio::test]
async fn a_connection_in_use_is_not_shared() {
    let scripted = Scripted::start(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha").await;
            if peer.number > 0 {
                peer.send("lf").await;
            }
        }
    })
    .await;
    let upstream = upstream(settings(scripted.addr));
    let unread = send(&upstream, pass_through("/")).await;
    assert_eq!(get(&upstream).await, "half");
    assert_eq!(scripted.connections(), 2);
    drop(unread);
}

#[tokio::test]
async fn a_response_that_closes_its_connection_ends_its_use() {
    for closing in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        // Gone within the second that we keep away from the upstream's own limit.
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let scripted = Scripted::answering(closing).await;
        let used = connections_for_two(&upstream(settings(scripted.addr)), &scripted).await;
        assert_eq!(used, 2, "{closing:?}");
    }
}

/// How long the gateway keeps an idle connection.
async fn kept(response: &'static str, configure: impl Fn(&mut UpstreamSettings)) -> Duration {
    let (tell, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let scripted = Scripted::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            peer.request().await;
            peer.send(response).await;
            let answered = Instant::now();
            peer.closed().await;
            tell.send(answered.elapsed()).unwrap();
        }
    })
    .await;
    let mut settings = settings(scripted.addr);
    configure(&mut settings);
    let upstream = upstream(settings);
    get(&upstream).await;
    let kept = within(closed.recv()).await.unwrap();
    drop(upstream);
    kept
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let kept = kept(OK, |it| it.idle_max = Duration::from_millis(300)).await;
    assert!((Duration::from_millis(250)..Duration::from_secs(3)).contains(&kept), "{kept:?}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_before_the_upstream_would_close_it() {
    let promised = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=2\r\ncontent-length: 2\r\n\r\nok";
    let kept = kept(promised, |it| it.idle_max = Duration::from_secs(15)).await;
    assert!((Duration::from_millis(900)..Duration::from_secs(2)).contains(&kept), "{kept:?}");
}

#[tokio::test]
async fn only_so_many_idle_connections_are_kept() {
    let kept = kept(OK, |it| it.idle_connections_max = 0).await;
    assert!(kept < Duration::from_secs(3), "{kept:?}");
}

#[tokio::test]
async fn shutdown_and_the_last_clone_close_what_is_idle() {
    for by_token in [true, false] {
        let scripted = Scripted::answering(OK).await;
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let mut settings = settings(scripted.addr);
        settings.idle_max = Duration::from_secs(3600);
        let upstream = Upstream::new(settings, tracker.clone(), shutdown.clone()).unwrap();
        get(&upstream).await;
        tracker.close();
        if by_token {
            shutdown.cancel();
        } else {
            drop(upstream);
        }
        within(tracker.wait()).await;
    }
}

#[tokio::test]
async fn an_exchange_under_way_at_shutdown_ends_well_and_keeps_no_connection() {
    let (scripted, finish) = Scripted::held(OK).await;
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let mut settings = settings(scripted.addr);
    settings.idle_max = Duration::from_secs(3600);
    let upstream = Upstream::new(settings, tracker.clone(), shutdown.clone()).unwrap();
    let mut running = tokio::task::JoinSet::new();
    let sending = upstream.clone();
    running.spawn(async move { get(&sending).await });
    until(|| scripted.seen().len() == 1).await;
    shutdown.cancel();
    finish.send(true).unwrap();
    assert_eq!(within(running.join_next()).await.unwrap().unwrap(), "ok");
    tracker.close();
    within(tracker.wait()).await;
}

#[tokio::test]
async fn a_connection_found_closed_is_passed_over_for_a_new_one() {
    let scripted = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.send(OK).await;
    })
    .await;
    let upstream = upstream(settings(scripted.addr));
    for round in 1..=20 {
        // The close arrives together with the response or a little later: wait until it surely has.
        assert_eq!(get(&upstream).await, "ok");
        until(|| scripted.seen().len() == round).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(scripted.connections(), 20);
}

/// The race that makes clients pay twice: the upstream closes just as the connection is used again, with or
/// without having read the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_dies_as_it_is_reused_never_sends_a_request_twice() {
    let scripted = Scripted::start(|mut peer| async move {
        let mut dice = u64::try_from(peer.number).unwrap().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        while peer.request().await.is_some() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match dice >> 61 {
                0 => return,
                1 => return peer.reset(),
                _ => peer.send(OK).await,
            }
            for _ in 0..dice >> 58 {
                tokio::task::yield_now().await;
            }
            match (dice >> 50) % 4 {
                0 => return,
                1 => return peer.reset(),
                _ => {}
            }
        }
    })
    .await;
    let upstream = upstream(settings(scripted.addr));
    let mut told = HashMap::new();
    for id in 0..1500 {
        let request = Request::post("/payments").header("x-id", id).body(Body::from("pay")).unwrap();
        let response = send(&upstream, request).await;
        told.insert(id.to_string(), outcome(&response));
        let _ = within(response.into_body().collect()).await;
    }
    let mut arrived = HashMap::new();
    for seen in scripted.seen() {
        *arrived.entry(seen.get("x-id")[0].to_owned()).or_insert(0) += 1;
    }
    let mut answered = 0;
    for (id, told) in told {
        let times = arrived.get(&id).copied().unwrap_or(0);
        match told {
            (StatusCode::OK, None) => assert_eq!(times, 1, "{id} was answered"),
            UNRESOLVED => assert!(times <= 1, "{id} came {times} times"),
            RELEASED => assert_eq!(times, 0, "{id} was called unsent"),
            other => panic!("{id} got {other:?}"),
        }
        answered += usize::from(told.0 == StatusCode::OK);
    }
    // The race was really run: connections were reused, and many requests were answered all the same.
    assert!(scripted.connections() < 1500 && answered > 500, "{} {answered}", scripted.connections());
}
