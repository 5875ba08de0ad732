//! What is told of each upstream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward_gateway::{Fault, Surroundings, UpstreamEvent, UpstreamObserver, UpstreamOutcome};

use super::balance::urls;
use super::several::nobody;
use super::*;
use crate::scripted::Scripted;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Writes down what happens, with the URLs shortened to their ports.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl UpstreamObserver for Log {
    fn observe(&self, event: UpstreamEvent<'_>) {
        let line = match event {
            UpstreamEvent::Ended { url, outcome, elapsed, in_flight } => {
                assert!(elapsed < Duration::from_secs(20));
                format!("{url} {outcome:?} {in_flight}")
            }
            UpstreamEvent::Ejected { url, pause } => format!("{url} ejected {pause:?}"),
            UpstreamEvent::Returned { url } => format!("{url} returned"),
            UpstreamEvent::Full { url } => format!("{url} full"),
            _ => "something new".to_owned(),
        };
        self.0.lock().unwrap().push(line);
    }
}

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn observed(settings: UpstreamSettings) -> (Upstream, Arc<Log>) {
    let log = Arc::<Log>::default();
    let mut within = Surroundings::new(TaskTracker::new(), CancellationToken::new());
    within.observer = Some(Arc::clone(&log) as Arc<dyn UpstreamObserver>);
    (Upstream::within(settings, within).unwrap(), log)
}

#[tokio::test]
async fn every_try_is_told_with_its_upstream_and_how_it_ended() {
    let (away, well) = (nobody().await, Scripted::answering(OK).await);
    let mut settings = UpstreamSettings::several(vec![away.clone()]);
    settings.urls.extend(urls(std::slice::from_ref(&well)));
    settings.eject_after = 1;
    let (upstream, log) = observed(settings);
    get(&upstream).await;
    let (away, well) = (away.to_string(), format!("http://{}", well.addr));
    let away = away.trim_end_matches('/');
    assert_eq!(
        log.take(),
        [
            format!("{away} Failed({:?}) 1", Fault::Unreachable),
            format!("{away} ejected 10s"),
            format!("{well} Answered(200) 1"),
        ]
    );
    let states = upstream.states();
    assert_eq!((states[0].url.as_str(), states[0].in_flight, states[0].failures), (away, 0, 1));
    assert!(states[0].ejected_for.is_some_and(|it| it <= Duration::from_secs(10)));
    assert_eq!((states[1].url.as_str(), states[1].failures, states[1].ejected_for), (well.as_str(), 0, None));
}

#[tokio::test]
async fn a_return_a_full_upstream_and_a_caller_that_leaves_are_told() {
    let hanging = Scripted::start(|mut peer| async move {
        while let Some(seen) = peer.request().await {
            if seen.line().starts_with("GET /hang ") {
                return peer.closed().await;
            }
            if seen.line().starts_with("GET /break ") {
                return;
            }
            peer.send(OK).await;
        }
    })
    .await;
    let away = nobody().await;
    let mut settings = UpstreamSettings::several(urls(std::slice::from_ref(&hanging)));
    settings.urls.push(away);
    settings.in_flight_max = 1;
    settings.eject_after = 1;
    let (upstream, log) = observed(settings);
    let url = format!("http://{}", hanging.addr);
    send(&upstream, pass_through("/break")).await;
    assert_eq!(log.take(), [format!("{url} Failed(Broken) 1"), format!("{url} ejected 10s")]);
    super::ejection::pass(Duration::from_secs(10)).await;
    get(&upstream).await;
    assert_eq!(log.take(), [format!("{url} Answered(200) 1"), format!("{url} returned")]);
    let held = {
        let mut hang = Box::pin(send(&upstream, pass_through("/hang")));
        assert!(tokio::time::timeout(Duration::from_millis(100), &mut hang).await.is_err());
        hang
    };
    log.take();
    assert_eq!(send(&upstream, pass_through("/")).await.status(), StatusCode::BAD_GATEWAY);
    assert!(log.take().contains(&format!("{url} full")));
    drop(held);
    assert_eq!(log.take(), [format!("{url} {:?} 1", UpstreamOutcome::GivenUp)]);
}
