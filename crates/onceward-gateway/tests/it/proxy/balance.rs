//! Who gets which request.

use std::collections::{BTreeMap, BTreeSet};

use onceward_core::RecordId;
use onceward_gateway::{Balance, rendezvous};
use onceward_http::Operation;

use super::*;
use crate::scripted::{Scripted, until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Several upstreams, which answer.
pub(super) async fn three() -> [Scripted; 3] {
    [Scripted::answering(OK).await, Scripted::answering(OK).await, Scripted::answering(OK).await]
}

pub(super) fn urls(of: &[Scripted]) -> Vec<http::Uri> {
    of.iter().map(|it| format!("http://{}", it.addr).parse().unwrap()).collect()
}

pub(super) fn counts(of: &[Scripted]) -> Vec<usize> {
    of.iter().map(|it| it.seen().len()).collect()
}

fn balanced(of: &[Scripted], balance: Balance) -> Upstream {
    let mut settings = UpstreamSettings::several(urls(of));
    settings.balance = balance;
    upstream(settings)
}

/// An operation with a record of its own.
pub(super) fn recorded(number: u32) -> Request<Body> {
    let record = RecordId::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes());
    let mut request = operation("pay");
    request.headers_mut().insert("x-number", number.into());
    request.extensions_mut().insert(Operation { record });
    request
}

#[tokio::test]
async fn round_robin_gives_each_the_same_share() {
    let three = three().await;
    let upstream = balanced(&three, Balance::RoundRobin);
    for _ in 0..30 {
        get(&upstream).await;
    }
    assert_eq!(counts(&three), [10, 10, 10]);
}

#[tokio::test]
async fn least_busy_spares_one_that_is_busy_and_idle_ones_share() {
    let busy = Scripted::start(|mut peer| async move {
        peer.request().await;
        peer.closed().await;
    })
    .await;
    let all = [busy, Scripted::answering(OK).await, Scripted::answering(OK).await];
    let upstream = balanced(&all, Balance::LeastBusy);
    let mut stuck = tokio::task::JoinSet::new();
    // The first turn is the first upstream's.
    let sending = upstream.clone();
    stuck.spawn(async move { send(&sending, pass_through("/")).await });
    until(|| all[0].seen().len() == 1).await;
    for _ in 0..30 {
        get(&upstream).await;
    }
    let counts = counts(&all);
    assert_eq!(counts[0], 1);
    assert!(counts[1] >= 10 && counts[2] >= 10, "{counts:?}");
    assert_eq!(upstream.states().iter().map(|it| it.in_flight).collect::<Vec<_>>(), [1, 0, 0]);
}

#[tokio::test]
async fn a_response_that_is_not_read_to_its_end_is_still_in_flight() {
    let three = three().await;
    let upstream = balanced(&three, Balance::LeastBusy);
    let in_flight = || upstream.states().iter().map(|it| it.in_flight).sum::<usize>();
    let unread = send(&upstream, pass_through("/")).await;
    assert_eq!(in_flight(), 1);
    text(unread).await;
    assert_eq!(in_flight(), 0);
}

#[tokio::test]
async fn key_hash_sends_the_same_record_to_the_same_upstream_and_others_in_turn() {
    let three = three().await;
    let upstream = balanced(&three, Balance::KeyHash);
    for number in (0..60).chain(0..60) {
        text(send(&upstream, recorded(number)).await).await;
    }
    let mut homes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (index, it) in three.iter().enumerate() {
        for seen in it.seen() {
            homes.entry(seen.get("x-number")[0].to_owned()).or_default().insert(index);
        }
    }
    assert_eq!(homes.len(), 60);
    let labels: Vec<String> = upstream.states().into_iter().map(|it| it.url).collect();
    for (number, found) in homes {
        let number: u32 = number.parse().unwrap();
        let record = *blake3::hash(&number.to_be_bytes()).as_bytes();
        let home = rendezvous(labels.iter().map(String::as_str), &record)[0];
        assert_eq!(found, BTreeSet::from([home]), "{number}");
    }
    let before = counts(&three);
    for _ in 0..30 {
        get(&upstream).await;
    }
    let after = counts(&three);
    assert_eq!(after.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>(), [10; 3]);
}

#[tokio::test]
async fn when_an_upstream_is_away_its_records_go_to_the_next_by_weight() {
    let three = three().await;
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut all = urls(&three[..2]);
    all.push(format!("http://{away}").parse().unwrap());
    let mut settings = UpstreamSettings::several(all);
    settings.balance = Balance::KeyHash;
    let upstream = upstream(settings);
    let labels: Vec<String> = upstream.states().into_iter().map(|it| it.url).collect();
    for number in 0..40 {
        let before = counts(&three);
        text(send(&upstream, recorded(number)).await).await;
        let got = counts(&three).iter().zip(before).position(|(after, before)| *after > before).unwrap();
        let record = *blake3::hash(&number.to_be_bytes()).as_bytes();
        let order = rendezvous(labels.iter().map(String::as_str), &record);
        assert_eq!(Some(&got), order.iter().find(|it| **it < 2), "{number}");
    }
}
