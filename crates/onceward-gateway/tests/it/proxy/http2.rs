//! HTTP/2 connections: how many there are, how they end, and what is sent before it is known that the other
//! side speaks it.

use std::time::Duration;

use super::h2_peer::{Deed, H2Peer};
use super::*;
use crate::scripted::{Scripted, until};

/// Sends so many at once, in the background.
fn start(upstream: &Upstream, requests: usize) -> tokio::task::JoinSet<StatusCode> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..requests {
        let upstream = upstream.clone();
        running.spawn(async move {
            let response = send(&upstream, operation("pay")).await;
            let status = response.status();
            text(response).await;
            status
        });
    }
    running
}

#[tokio::test]
async fn several_connections_are_made_when_streams_run_out() {
    let peer = H2Peer::allowing(3, |_, _| Deed::Wait).await;
    let upstream = upstream(peer.settings());
    let running = start(&upstream, 10);
    until(|| peer.streams() == 10).await;
    // Three and three and three and one.
    assert_eq!(peer.connections(), 4);
    peer.go.cancel();
    assert!(within(running.join_all()).await.iter().all(|it| *it == StatusCode::OK));
    // Now there is room for all on those that are there.
    within(start(&upstream, 6).join_all()).await;
    assert_eq!(peer.connections(), 4);
}

#[tokio::test]
async fn streams_up_to_the_last_of_a_goaway_finish_and_others_go_to_a_new_connection() {
    let peer =
        H2Peer::start(|connection, _| if connection == 0 { Deed::GoAwayAndWait } else { Deed::Answer }).await;
    let upstream = upstream(peer.settings());
    let running = start(&upstream, 1);
    until(|| peer.streams() == 1).await;
    // Until the GOAWAY has come, others may still be sent there and wait as well.
    within(async {
        while peer.connections() == 1 {
            let asked = send(&upstream, operation("pay"));
            let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
        }
    })
    .await;
    assert_eq!(send(&upstream, operation("pay")).await.status(), StatusCode::OK);
    assert_eq!(peer.connections(), 2);
    peer.go.cancel();
    assert_eq!(within(running.join_all()).await, [StatusCode::OK]);
}

#[tokio::test]
async fn a_server_that_does_not_speak_http2_frees_the_key() {
    let http1 = Scripted::start(|mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let silent = Scripted::start(|mut peer| async move { peer.closed().await }).await;
    for peer in [http1, silent] {
        let mut settings = settings(peer.addr);
        settings.protocol = onceward_gateway::Protocol::H2c;
        settings.connect_timeout = Duration::from_millis(200);
        assert_eq!(outcome(&send(&upstream(settings), operation("pay")).await), RELEASED);
    }
}

#[tokio::test]
async fn a_dead_connection_is_found_by_a_ping_and_leaves_the_outcome_unknown() {
    let dead = Scripted::start(|mut peer| async move {
        super::h2c::read_headers(&mut peer).await;
        // It reads on and never answers a ping.
        peer.closed().await;
    })
    .await;
    let mut settings = settings(dead.addr);
    settings.protocol = onceward_gateway::Protocol::H2c;
    settings.ping_every = Duration::from_millis(50);
    settings.response_timeout = Duration::from_secs(3600);
    let response = send(&upstream(settings), operation("pay")).await;
    assert_eq!(outcome(&response), UNRESOLVED);
    assert_eq!(response.extensions().get(), Some(&onceward_gateway::Fault::Broken));
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let peer = H2Peer::start(|_, _| Deed::Answer).await;
    let mut settings = peer.settings();
    settings.idle_max = Duration::from_millis(50);
    let tracker = TaskTracker::new();
    let upstream = Upstream::new(settings, tracker.clone(), CancellationToken::new()).unwrap();
    get(&upstream).await;
    tracker.close();
    within(tracker.wait()).await;
    get(&upstream).await;
    assert_eq!(peer.connections(), 2);
}
