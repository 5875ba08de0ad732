//! Upstreams are asked whether they are well.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::balance::urls;
use super::*;
use crate::scripted::{Scripted, until};

/// An upstream whose health has this status; zero is silence.
async fn checked(status: usize) -> (Scripted, Arc<AtomicUsize>) {
    let status = Arc::new(AtomicUsize::new(status));
    let now = Arc::clone(&status);
    let peer = Scripted::start(move |mut peer| {
        let now = Arc::clone(&now);
        async move {
            while let Some(seen) = peer.request().await {
                let is_check = seen.line().starts_with("GET /health ");
                match if is_check { now.load(Ordering::SeqCst) } else { 200 } {
                    0 => peer.closed().await,
                    status => peer.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok")).await,
                }
            }
        }
    })
    .await;
    (peer, status)
}

fn settings_of(all: &[Scripted]) -> UpstreamSettings {
    let mut settings = UpstreamSettings::several(urls(all));
    settings.check = Some("/health".into());
    settings.check_every = Duration::from_millis(10);
    settings.check_timeout = Duration::from_millis(200);
    settings.check_failures = 2;
    settings
}

fn ejected(upstream: &Upstream) -> Vec<bool> {
    upstream.states().iter().map(|it| it.ejected_for.is_some()).collect()
}

#[tokio::test]
async fn bad_checks_eject_an_upstream_and_a_good_one_returns_it() {
    for bad in [500, 404, 0] {
        let (first, health) = checked(200).await;
        let (second, _) = checked(302).await;
        let all = [first, second];
        let upstream = upstream(settings_of(&all));
        until(|| all.iter().all(|it| it.seen().len() > 4)).await;
        assert_eq!(ejected(&upstream), [false, false], "{bad}");
        health.store(bad, Ordering::SeqCst);
        until(|| ejected(&upstream) == [true, false]).await;
        for _ in 0..4 {
            assert_eq!(get(&upstream).await, "ok");
        }
        assert!(all[0].seen().iter().all(|it| it.line().starts_with("GET /health ")));
        health.store(204, Ordering::SeqCst);
        until(|| ejected(&upstream) == [false, false]).await;
    }
}

#[tokio::test]
async fn checks_eject_never_the_last_one() {
    let (only, _) = checked(500).await;
    let all = [only];
    let upstream = upstream(settings_of(&all));
    until(|| all[0].seen().len() > 6).await;
    assert_eq!(ejected(&upstream), [false]);
    assert_eq!(get(&upstream).await, "ok");
}

#[tokio::test]
async fn a_check_reuses_its_connection_and_says_who_asks() {
    let (only, _) = checked(200).await;
    let all = [only];
    let upstream = upstream(settings_of(&all));
    until(|| all[0].seen().len() > 6).await;
    drop(upstream);
    assert!(all[0].connections() <= 2, "{}", all[0].connections());
    assert_eq!(all[0].seen()[0].get("user-agent"), ["onceward-check"]);
}

#[tokio::test]
async fn checks_end_with_shutdown_with_the_last_clone_and_with_other_settings() {
    for how in 0..3 {
        let (only, _) = checked(200).await;
        let all = [only];
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let upstream = Upstream::new(settings_of(&all), tracker.clone(), shutdown.clone()).unwrap();
        until(|| !all[0].seen().is_empty()).await;
        let mut left = None;
        match how {
            0 => shutdown.cancel(),
            1 => drop(upstream),
            _ => {
                upstream.replace(settings("127.0.0.1:1".parse().unwrap())).unwrap();
                left = Some(upstream);
            }
        }
        tracker.close();
        within(tracker.wait()).await;
        drop(left);
    }
}
