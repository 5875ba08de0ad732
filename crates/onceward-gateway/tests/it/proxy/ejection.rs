//! An upstream that keeps failing is left alone for a while. Time is moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::balance::{counts, urls};
use super::several::nobody;
use super::*;
use crate::scripted::{Scripted, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Lets this much time go by at once.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// An upstream that breaks every connection while it is sick.
async fn moody() -> (Scripted, Arc<AtomicBool>) {
    let sick = Arc::new(AtomicBool::new(true));
    let now = Arc::clone(&sick);
    let peer = Scripted::start(move |mut peer| {
        let now = Arc::clone(&now);
        async move {
            while peer.request().await.is_some() && !now.load(Ordering::SeqCst) {
                peer.send(OK).await;
            }
        }
    })
    .await;
    (peer, sick)
}

#[tokio::test]
async fn failures_in_a_row_eject_an_upstream_and_one_request_tries_it_after_the_pause() {
    let (peer, sick) = moody().await;
    let all = [peer, Scripted::answering(OK).await];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.eject_after = 2;
    let upstream = upstream(settings);
    let ejected = || upstream.states()[0].ejected_for.is_some();
    for round in 0..4 {
        assert_eq!(ejected(), round == 3, "round {round}");
        send(&upstream, operation("pay")).await;
    }
    assert!(ejected());
    assert_eq!(counts(&all), [2, 2]);
    for _ in 0..10 {
        assert_eq!(get(&upstream).await, "ok");
    }
    assert_eq!(counts(&all), [2, 12]);
    // One request tries it, and it is out again, for twice as long.
    pass(Duration::from_secs(10)).await;
    assert_eq!(outcome(&send(&upstream, operation("pay")).await), UNRESOLVED);
    for _ in 0..4 {
        assert_eq!(get(&upstream).await, "ok");
    }
    pass(Duration::from_secs(15)).await;
    assert_eq!(get(&upstream).await, "ok");
    assert_eq!(counts(&all), [3, 17]);
    sick.store(false, Ordering::SeqCst);
    pass(Duration::from_secs(5)).await;
    for _ in 0..4 {
        assert_eq!(get(&upstream).await, "ok");
    }
    assert!(!ejected());
    assert!(counts(&all)[0] > 4, "{:?}", counts(&all));
}

#[tokio::test]
async fn connections_that_are_refused_and_heads_that_do_not_come_count_too() {
    let hanging = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let well = Scripted::answering(OK).await;
    let mut settings = UpstreamSettings::several(vec![nobody().await]);
    settings.urls.extend(urls(&[hanging, well]));
    settings.eject_after = 1;
    settings.response_timeout = Duration::from_millis(100);
    let upstream = upstream(settings);
    for _ in 0..3 {
        send(&upstream, pass_through("/")).await;
    }
    let ejected: Vec<_> = upstream.states().iter().map(|it| it.ejected_for.is_some()).collect();
    assert_eq!(ejected, [true, true, false]);
}

#[tokio::test]
async fn an_answer_of_500_is_no_failure() {
    let failing = Scripted::answering("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n").await;
    let all = [failing, Scripted::answering(OK).await];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.eject_after = 1;
    let upstream = upstream(settings);
    for _ in 0..6 {
        text(send(&upstream, pass_through("/")).await).await;
    }
    assert_eq!(counts(&all), [3, 3]);
}

#[tokio::test]
async fn the_last_one_is_never_ejected() {
    let (peer, sick) = moody().await;
    let mut settings = settings(peer.addr);
    settings.eject_after = 1;
    let upstream = upstream(settings);
    for _ in 0..5 {
        assert_eq!(outcome(&send(&upstream, operation("pay")).await), UNRESOLVED);
    }
    assert_eq!(upstream.states()[0].ejected_for, None);
    sick.store(false, Ordering::SeqCst);
    assert_eq!(get(&upstream).await, "ok");
}

#[tokio::test]
async fn when_all_fail_all_are_tried_the_least_recently_failed_first() {
    let (all, sick): (Vec<_>, Vec<_>) = [moody().await, moody().await].into_iter().unzip();
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.eject_after = 1;
    let upstream = upstream(settings);
    for expected in [[1, 0], [1, 1], [2, 1], [2, 2]] {
        send(&upstream, operation("pay")).await;
        assert_eq!(counts(&all), expected);
    }
    sick.iter().for_each(|it| it.store(false, Ordering::SeqCst));
    assert_eq!(get(&upstream).await, "ok");
}

/// A caller must not be able to take an upstream away from the others.
#[tokio::test]
async fn a_client_that_stalls_its_upload_or_leaves_ejects_nobody() {
    let all = [
        Scripted::start(|mut peer| async move {
            peer.head().await;
            peer.closed().await;
        })
        .await,
        Scripted::answering(OK).await,
    ];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.eject_after = 1;
    settings.response_timeout = Duration::from_millis(100);
    let upstream = upstream(settings);
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes>::new(1);
    sender.send_data("half".into()).await.unwrap();
    let stalled = Request::post("/").extension(PassThrough).body(Body::stream(body)).unwrap();
    assert_eq!(send(&upstream, stalled).await.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!((upstream.states()[0].failures, upstream.states()[0].ejected_for), (0, None));
    get(&upstream).await;
    // Two turns on it is the first one's again; this caller leaves.
    let leaving = tokio::time::timeout(Duration::from_millis(20), send(&upstream, pass_through("/")));
    assert!(leaving.await.is_err());
    until(|| upstream.states()[0].in_flight == 0).await;
    assert_eq!((upstream.states()[0].failures, upstream.states()[0].ejected_for), (0, None));
}
