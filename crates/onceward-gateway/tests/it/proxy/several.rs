//! Another upstream gets a request only when the first provably did not process it.

use http::header::RETRY_AFTER;
use onceward_gateway::Fault;
use tokio::net::TcpListener;

use super::balance::{counts, three, urls};
use super::h2_peer::{Deed, H2Peer};
use super::h2c::{NO_ERROR, goaway, read_headers};
use super::*;
use crate::scripted::{Scripted, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An address where nobody listens.
pub(super) async fn nobody() -> http::Uri {
    let addr = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    format!("http://{addr}").parse().unwrap()
}

#[tokio::test]
async fn a_request_that_finds_no_connection_goes_to_the_next_upstream() {
    let well = [Scripted::answering(OK).await];
    let mut all = vec![nobody().await, nobody().await];
    all.extend(urls(&well));
    let upstream = upstream(UpstreamSettings::several(all));
    for _ in 0..3 {
        let response = send(&upstream, operation("pay")).await;
        assert_eq!(outcome(&response), (StatusCode::OK, None));
        assert_eq!(text(response).await, "ok");
    }
    // The body came whole every time.
    assert!(well[0].seen().iter().all(|it| it.body == b"pay"));
    assert_eq!(counts(&well), [3]);
}

#[tokio::test]
async fn each_is_tried_once_and_then_the_key_is_free() {
    let upstream = upstream(UpstreamSettings::several(vec![nobody().await, nobody().await]));
    let response = send(&upstream, operation("pay")).await;
    assert_eq!(outcome(&response), RELEASED);
    assert_eq!(upstream.states().iter().map(|it| it.failures).collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_goes_to_nobody_else() {
    for reset in [true, false] {
        let broken = Scripted::start(move |mut peer| async move {
            peer.request().await;
            if reset {
                peer.reset();
            }
        })
        .await;
        let all = [broken, Scripted::answering(OK).await];
        let upstream = upstream(UpstreamSettings::several(urls(&all)));
        assert_eq!(outcome(&send(&upstream, operation("pay")).await), UNRESOLVED);
        assert_eq!(counts(&all), [1, 0]);
    }
}

#[tokio::test]
async fn a_request_that_timed_out_goes_to_nobody_else() {
    let hanging = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let all = [hanging, Scripted::answering(OK).await];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.response_timeout = std::time::Duration::from_millis(150);
    let upstream = upstream(settings);
    assert_eq!(outcome(&send(&upstream, operation("pay")).await), UNRESOLVED);
    assert_eq!(counts(&all), [1, 0]);
}

/// Two HTTP/2 upstreams, of which the first does this to its requests.
async fn after(deed: Deed, request: Request<Body>) -> (Response<Body>, H2Peer, H2Peer) {
    let (first, second) = (H2Peer::start(move |_, _| deed).await, H2Peer::start(|_, _| Deed::Answer).await);
    let mut settings = UpstreamSettings::several(vec![first.url(), second.url()]);
    settings.protocol = onceward_gateway::Protocol::H2c;
    settings.trust_refused_stream = true;
    let response = send(&upstream(settings), request).await;
    (response, first, second)
}

#[tokio::test]
async fn an_operation_whose_stream_is_refused_goes_to_the_next_upstream_with_its_whole_body() {
    for deed in [Deed::Refuse, Deed::ReadAndRefuse] {
        let (response, first, second) = after(deed, operation("pay")).await;
        assert_eq!(outcome(&response), (StatusCode::OK, None), "{deed:?}");
        assert_eq!((first.streams(), second.bodies()), (1, vec![Bytes::from("pay")]), "{deed:?}");
    }
}

#[tokio::test]
async fn an_operation_above_the_last_stream_of_a_goaway_goes_to_the_next_upstream() {
    let leaving = Scripted::start(|mut peer| async move {
        read_headers(&mut peer).await;
        peer.send(goaway(0, NO_ERROR)).await;
        peer.closed().await;
    })
    .await;
    let second = H2Peer::start(|_, _| Deed::Answer).await;
    let mut settings = second.settings();
    settings.urls.insert(0, format!("http://{}", leaving.addr).parse().unwrap());
    let response = send(&upstream(settings), operation("pay")).await;
    assert_eq!(outcome(&response), (StatusCode::OK, None));
    assert_eq!(second.bodies(), ["pay"]);
}

#[tokio::test]
async fn an_operation_whose_stream_is_reset_otherwise_goes_to_nobody_else() {
    for deed in [Deed::Reset, Deed::Close] {
        let (response, _first, second) = after(deed, operation("pay")).await;
        assert_eq!(outcome(&response), UNRESOLVED, "{deed:?}");
        assert_eq!(second.streams(), 0, "{deed:?}");
    }
}

fn upload(body: Body) -> Request<Body> {
    Request::post("/").header("host", "a").extension(PassThrough).body(body).unwrap()
}

#[tokio::test]
async fn a_streamed_body_that_was_begun_goes_to_nobody_else() {
    let body = Body::stream(http_body_util::Full::new(Bytes::from("upload")));
    let (response, _first, second) = after(Deed::ReadAndRefuse, upload(body)).await;
    assert_eq!(outcome(&response), (StatusCode::BAD_GATEWAY, None));
    assert_eq!(response.extensions().get(), Some(&Fault::Unreachable));
    assert_eq!(second.streams(), 0);
}

#[tokio::test]
async fn a_streamed_body_that_nobody_has_read_goes_to_the_next_upstream() {
    let well = [Scripted::answering(OK).await];
    let mut all = vec![nobody().await];
    all.extend(urls(&well));
    let upstream = upstream(UpstreamSettings::several(all));
    let body = Body::stream(http_body_util::Full::new(Bytes::from("upload")));
    assert_eq!(text(send(&upstream, upload(body)).await).await, "ok");
    assert_eq!(well[0].only().body, b"upload");
}

#[tokio::test]
async fn an_upstream_that_is_full_is_passed_over() {
    let hanging = || {
        Scripted::start(|mut peer| async move {
            peer.request().await;
            peer.closed().await;
        })
    };
    let all = [hanging().await, Scripted::answering(OK).await];
    let mut settings = UpstreamSettings::several(urls(&all));
    settings.in_flight_max = 1;
    let upstream = upstream(settings);
    let mut stuck = tokio::task::JoinSet::new();
    let sending = upstream.clone();
    stuck.spawn(async move { send(&sending, pass_through("/")).await });
    until(|| all[0].seen().len() == 1).await;
    for _ in 0..4 {
        assert_eq!(get(&upstream).await, "ok");
    }
    assert_eq!(counts(&all), [1, 4]);
}

#[tokio::test]
async fn when_all_are_full_the_answer_is_503_and_the_key_is_free() {
    let three = three().await;
    let mut settings = UpstreamSettings::several(urls(&three));
    settings.in_flight_max = 1;
    let upstream = upstream(settings);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(send(&upstream, pass_through("/")).await);
    }
    let full = send(&upstream, operation("pay")).await;
    assert_eq!(outcome(&full), (StatusCode::SERVICE_UNAVAILABLE, Some(Outcome::Release)));
    assert_eq!(full.headers()[RETRY_AFTER], "1");
    let full = send(&upstream, pass_through("/")).await;
    assert_eq!(outcome(&full), (StatusCode::SERVICE_UNAVAILABLE, None));
    assert_eq!(counts(&three), [1, 1, 1]);
    // A place that is left is taken.
    text(held.pop().unwrap()).await;
    assert_eq!(get(&upstream).await, "ok");
}

#[tokio::test]
async fn many_requests_at_once_never_exceed_the_limit() {
    let (now, most) = (
        std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)),
        std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)),
    );
    let (count, max) = (now.clone(), most.clone());
    let counting = Scripted::start(move |mut peer| {
        let (count, max) = (count.clone(), max.clone());
        async move {
            use std::sync::atomic::Ordering::SeqCst;
            while peer.request().await.is_some() {
                max.fetch_max(count.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::task::yield_now().await;
                count.fetch_sub(1, SeqCst);
                peer.send(OK).await;
            }
        }
    })
    .await;
    let mut settings = settings(counting.addr);
    settings.in_flight_max = 5;
    let upstream = upstream(settings);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let upstream = upstream.clone();
        running.spawn(async move {
            let response = send(&upstream, pass_through("/")).await;
            let status = response.status();
            text(response).await;
            status
        });
    }
    let answers = running.join_all().await;
    let answered = answers.iter().filter(|it| **it == StatusCode::OK).count();
    assert!(answered >= 5 && answers.iter().all(|it| [200, 503].contains(&it.as_u16())), "{answers:?}");
    assert!(most.load(std::sync::atomic::Ordering::SeqCst) <= 5);
    assert_eq!(upstream.states()[0].in_flight, 0);
}
