//! What happens to messages while partitions move.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::DirEntry;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::Unresolved;
use onceward_queue::source::kafka::{Kafka, KafkaSettings};
use onceward_queue::{Event, Seen, Source};
use onceward_testkit::{Fault, eventually, within};
use tokio::task::JoinSet;

use super::{Cluster, Fixture as _, id, receipts, sorted, take};
use crate::scene::{Scene, settings};

// Not with an eager strategy: unlike Kafka, the mock cluster refuses every commit while members join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_let_go_once_what_runs_has_ended() {
    let cluster = Cluster::mock_of(1, 8, "cooperative-sticky");
    let first = cluster.consumer();
    let ids: Vec<_> = (0..16).map(|it| format!("m-{it}")).collect();
    cluster.publish_ids(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let had = take(&first, 16).await;
    let second = Arc::new(cluster.consumer());
    let mut its = JoinSet::new();
    let receiving = Arc::clone(&second);
    its.spawn(async move { take(&receiving, 1).await });
    let (deliveries, lanes) = sorted(within(first.receive(100)).await.unwrap());
    assert!(deliveries.is_empty() && !lanes.is_empty(), "{deliveries:?} {lanes:?}");
    assert!(lanes.iter().all(|it| !it.1), "they are not lost yet: {lanes:?}");
    // The second has joined, and has nothing: what runs at the first can end, and counts.
    assert!(its.try_join_next().is_none());
    first.acknowledge(&receipts(&had)).await.unwrap();
    for (lane, _) in &lanes {
        first.drained(lane).await;
    }
    cluster
        .publish_ids(&["more-1", "more-2", "more-3", "more-4", "more-5", "more-6", "more-7", "more-8"])
        .await;
    // Whoever has a partition by now, it begins behind what was done. But the mock cluster may refuse the commit: a member whose
    // SyncGroup comes late has to join once more there, and meanwhile the group takes no commits, as that of Kafka does.
    let wanted: BTreeSet<_> = (1..9).map(|it| format!("more-{it}")).collect();
    let (mut got, mut of_second, mut was_refused) = (Vec::new(), 0, false);
    within(async {
        while !wanted.iter().all(|it| got.contains(it)) {
            tokio::select! {
                ended = its.join_next(), if !its.is_empty() => {
                    got.extend(ended.unwrap().unwrap().iter().map(id));
                    of_second += 1;
                    let receiving = Arc::clone(&second);
                    its.spawn(async move { take(&receiving, 1).await });
                }
                arrivals = first.receive(1) => got.extend(sorted(arrivals.unwrap()).0.iter().map(id)),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
            was_refused |= first.acknowledge(&[]).await.is_err();
        }
    })
    .await;
    assert!(of_second > 0, "it has partitions, too");
    assert!(was_refused || got.len() == wanted.len(), "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_store_is_away_lets_partitions_go() {
    let cluster = Arc::new(Cluster::mock_of(1, 8, "cooperative-sticky"));
    let scene = Scene::new(Arc::<Cluster>::clone(&cluster));
    let running = scene.consume_plainly(settings(Unresolved::Hold)).await;
    scene.publish(&["before"]).await;
    eventually(async || scene.is_empty().await).await;
    scene.store.down(Fault::Refused);
    let ids: Vec<_> = (0..32).map(|it| format!("m-{it}")).collect();
    scene.publish(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    eventually(async || scene.events.count(|it| *it == Event::Paused) > 0).await;
    // It takes nothing up that long, and hears all the same that somebody else has joined.
    let second = cluster.consumer();
    assert_eq!(take(&second, 1).await[0].seen, Seen::Perhaps);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_its_time_is_another_s_and_an_acknowledgement_of_it_changes_nothing() {
    let cluster = Cluster::mock_of(1, 1, "range");
    let settings = KafkaSettings { revoke_max: Duration::from_millis(200), ..cluster.settings() };
    let first = Kafka::new(settings).unwrap();
    cluster.publish_ids(&["m-0"]).await;
    let had = take(&first, 1).await;
    // Every member of an eager group is given its partitions anew when another one joins.
    let second = cluster.consumer();
    let again = tokio::select! {
        again = take(&second, 1) => again,
        again = async {
            loop {
                let again = take(&first, 1).await;
                if !again.is_empty() { break again }
            }
        } => again,
    };
    assert_eq!(id(&again[0]), "m-0");
    assert_eq!(again[0].seen, Seen::Perhaps, "another may have had it");
    assert_eq!(again[0].position, had[0].position);
    assert_eq!(first.extend(&receipts(&had)).await.unwrap(), receipts(&had), "its session is over");
    first.acknowledge(&receipts(&had)).await.unwrap();
    first.close().await;
    assert_eq!(cluster.committed(), [(0, 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_done_stops_its_partition_after_a_window() {
    let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
    let source = Kafka::new(KafkaSettings { window: 3, ..cluster.settings() }).unwrap();
    cluster.publish_ids(&["m-0", "m-1", "m-2", "m-3", "m-4"]).await;
    let had = take(&source, 3).await;
    assert!(had.iter().all(|it| it.seen == Seen::Perhaps), "another may have had them");
    source.acknowledge(&receipts(&had[1..])).await.unwrap();
    let more = tokio::time::timeout(Duration::from_millis(700), source.receive(10)).await;
    assert!(more.is_err(), "{more:?}");
    source.acknowledge(&receipts(&had[..1])).await.unwrap();
    let more = take(&source, 2).await;
    assert_eq!(more.iter().map(id).collect::<Vec<_>>(), ["m-3", "m-4"]);
    assert!(more.iter().all(|it| it.seen == Seen::First));
    source.close().await;
    assert_eq!(cluster.committed(), [(3, 5)], "no further than what is done");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_comes_again_before_what_is_behind_it() {
    let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
    let source = cluster.consumer();
    cluster.publish_ids(&["m-0", "m-1", "m-2"]).await;
    let had = take(&source, 2).await;
    source.give_back(&receipts(&had), Duration::ZERO).await.unwrap();
    let again = take(&source, 3).await;
    assert_eq!(again.iter().map(id).collect::<Vec<_>>(), ["m-0", "m-1", "m-2"]);
    assert_eq!(again[0].seen, Seen::Before(None));
    source.acknowledge(&receipts(&again)).await.unwrap();
    eventually(async || cluster.is_empty().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_that_begins_with_what_comes_does_not_lose_it_when_its_first_consumer_dies() {
    let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
    cluster.publish_ids(&["before"]).await;
    let settings = KafkaSettings { from_first: false, ..cluster.settings() };
    let first = Kafka::new(settings.clone()).unwrap();
    // It is given its partition, and dies before it has done anything.
    let joined = async { eventually(async || cluster.committed() == [(1, 1)]).await };
    tokio::select! { it = first.receive(1) => panic!("{it:?}"), () = joined => {} }
    drop(first);
    cluster.publish_ids(&["after"]).await;
    let second = Kafka::new(settings).unwrap();
    assert_eq!(id(&take(&second, 1).await[0]), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_is_counted() {
    let cluster = Cluster::mock("cooperative-sticky");
    cluster.publish_ids(&["1", "2", "3"]).await;
    let source = Kafka::new(cluster.settings()).unwrap();
    assert_eq!(within(source.lag()).await.unwrap(), Some(3));
}

/// The threads that librdkafka has, one main thread for each client.
fn clients() -> BTreeSet<OsString> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|it| it.unwrap());
    let is_client = |it: &DirEntry| {
        let name = std::fs::read_to_string(it.path().join("comm"));
        name.is_ok_and(|it| it.trim() == "rdk:main")
    };
    tasks.filter(is_client).map(|it| it.file_name()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_counts_as_long_as_the_source_lives() {
    let cluster = Cluster::mock("cooperative-sticky");
    cluster.publish_ids(&["1", "2"]).await;
    let others = clients();
    let source = Kafka::new(cluster.settings()).unwrap();
    assert_eq!(within(source.lag()).await.unwrap(), Some(2));
    let first = clients();
    assert_eq!(first.len(), others.len() + 1);
    cluster.publish_ids(&["3"]).await;
    assert_eq!(within(source.lag()).await.unwrap(), Some(3), "it is asked again");
    assert_eq!(clients(), first, "by the same client");
    within(source.close()).await;
    assert_eq!(clients(), others);
}
