//! Other upstreams while requests are under way.

use std::time::Duration;

use super::balance::{counts, three, urls};
use super::certificates::Authority;
use super::*;
use crate::scripted::{Scripted, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn requests_under_way_finish_on_the_old_upstream_and_new_ones_go_to_the_new() {
    let (old, finish) = Scripted::held(OK).await;
    let new = Scripted::answering(OK).await;
    let upstream = upstream(settings(old.addr));
    let mut running = tokio::task::JoinSet::new();
    let sending = upstream.clone();
    running.spawn(async move { get(&sending).await });
    until(|| old.seen().len() == 1).await;
    upstream.replace(settings(new.addr)).unwrap();
    assert_eq!(get(&upstream).await, "ok");
    assert_eq!((old.seen().len(), new.seen().len()), (1, 1));
    finish.send(true).unwrap();
    assert_eq!(within(running.join_next()).await.unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn who_stays_keeps_its_connections_and_who_leaves_closes_what_is_idle() {
    let (tell, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let leaving = Scripted::start(move |mut peer| {
        let tell = tell.clone();
        async move {
            while peer.request().await.is_some() {
                peer.send(OK).await;
            }
            tell.send(()).unwrap();
        }
    })
    .await;
    let [staying, coming, _] = three().await;
    let of = |all: &[&Scripted]| {
        let url = |it: &&Scripted| format!("http://{}", it.addr).parse().unwrap();
        let mut settings = UpstreamSettings::several(all.iter().map(url).collect());
        settings.idle_max = Duration::from_secs(3600);
        settings
    };
    let upstream = upstream(of(&[&staying, &leaving]));
    for _ in 0..4 {
        get(&upstream).await;
        tokio::task::yield_now().await;
    }
    upstream.replace(of(&[&coming, &staying])).unwrap();
    within(closed.recv()).await.unwrap();
    for _ in 0..4 {
        get(&upstream).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(counts(&[staying, leaving, coming]), [4, 2, 2]);
}

#[tokio::test]
async fn a_kept_connection_is_not_made_anew() {
    let [staying, coming, _] = three().await;
    let mut settings = settings(staying.addr);
    settings.idle_max = Duration::from_secs(3600);
    let upstream = upstream(settings.clone());
    get(&upstream).await;
    tokio::task::yield_now().await;
    // Other limits make no other upstream.
    settings.response_timeout = Duration::from_secs(1);
    settings.urls.push(format!("http://{}", coming.addr).parse().unwrap());
    upstream.replace(settings).unwrap();
    for _ in 0..4 {
        get(&upstream).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(staying.connections(), 1);
    assert_eq!(counts(&[staying, coming]), [3, 2]);
}

#[tokio::test]
async fn who_stays_keeps_its_health() {
    let broken = Scripted::start(|mut peer| async move { drop(peer.request().await) }).await;
    let all = [broken, Scripted::answering(OK).await];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.eject_after = 1;
    let upstream = upstream(settings.clone());
    send(&upstream, operation("pay")).await;
    assert!(upstream.states()[0].ejected_for.is_some());
    settings.urls.reverse();
    upstream.replace(settings).unwrap();
    let ejected: Vec<_> = upstream.states().iter().map(|it| it.ejected_for.is_some()).collect();
    assert_eq!(ejected, [false, true]);
    for _ in 0..4 {
        assert_eq!(get(&upstream).await, "ok");
    }
}

#[tokio::test]
async fn settings_that_cannot_be_used_leave_the_old_upstreams_in_place() {
    let [peer, ..] = three().await;
    let upstream = upstream(settings(peer.addr));
    let mut wrong = UpstreamSettings::new("https://localhost".parse().unwrap());
    wrong.ca_file = Some("/no/such/file.pem".into());
    let error = upstream.replace(wrong).unwrap_err();
    assert!(error.to_string().contains("/no/such/file.pem"), "{error}");
    assert_eq!(upstream.replace(UpstreamSettings::several(vec![])).unwrap_err().field(), "url");
    assert_eq!(get(&upstream).await, "ok");
    assert_eq!(upstream.states().len(), 1);
}

#[tokio::test]
async fn another_ca_file_counts_at_once_and_the_same_one_keeps_connections() {
    let (ca, other) = (Authority::new(), Authority::new());
    let peer = super::tls_peer::TlsPeer::start(ca.server("localhost", &["h2"])).await;
    let mut settings = UpstreamSettings::new(peer.url("localhost"));
    settings.ca_file = Some(ca.file());
    let upstream = upstream(settings.clone());
    get(&upstream).await;
    upstream.replace(settings.clone()).unwrap();
    get(&upstream).await;
    assert_eq!(peer.handshakes().len(), 1);
    // The same path with another certificate in it, as when the file is renewed.
    std::fs::copy(other.file(), ca.file()).unwrap();
    upstream.replace(settings).unwrap();
    assert_eq!(outcome(&send(&upstream, operation("pay")).await), RELEASED);
}
