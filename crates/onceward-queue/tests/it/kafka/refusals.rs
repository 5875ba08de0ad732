//! What Kafka refuses, and what it does not do at once.

use std::sync::Arc;

use onceward_core::{ErrorKind, Unresolved};
use onceward_queue::Source as _;
use onceward_queue::source::kafka::{Kafka, KafkaSettings};
use onceward_testkit::{eventually, within};
use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{Cluster, Fixture as _, GROUP, receipts, take};
use crate::scene::{Scene, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_refused_is_told_and_made_again() {
    let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
    let source = cluster.consumer();
    cluster.publish_ids(&["m-0", "m-1"]).await;
    let had = take(&source, 2).await;
    let refusal = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3];
    cluster.mock_cluster().request_errors(RDKafkaApiKey::OffsetCommit, &refusal);
    source.acknowledge(&receipts(&had[..1])).await.unwrap();
    eventually(async || source.acknowledge(&receipts(&had[1..])).await.is_err()).await;
    eventually(async || cluster.is_empty().await).await;
    source.acknowledge(&[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_refused_or_missing_ends_the_consumer_with_what_to_do() {
    for (refusal, advice) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "check credentials and ACLs"),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, "create it"),
    ] {
        let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
        cluster.mock_cluster().topic_error("orders", refusal).unwrap();
        let source = cluster.consumer();
        let error = within(source.receive(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        assert!(error.to_string().contains(advice), "{error}");
        let published = within(source.publish(&cluster.message("m-0"))).await.unwrap_err();
        assert_eq!(published.kind(), ErrorKind::Invalid, "{published:?}");
        assert!(published.to_string().contains(advice), "{published}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_setting_that_librdkafka_does_not_know_ends_the_consumer() {
    let settings = KafkaSettings::new("127.0.0.1:1", "orders", GROUP).with("no.such.thing", "1");
    let source = Kafka::new(settings).unwrap();
    assert_eq!(within(source.receive(1)).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_away_is_told_and_waited_for() {
    let cluster = Cluster::mock_of(1, 1, "cooperative-sticky");
    cluster.publish_ids(&["m-0"]).await;
    cluster.mock_cluster().broker_down(-1).unwrap();
    let source = cluster.consumer();
    let error = within(source.receive(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    cluster.mock_cluster().broker_up(-1).unwrap();
    assert_eq!(take(&source, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_moves_loses_and_doubles_nothing() {
    let cluster = Arc::new(Cluster::mock_of(3, 4, "cooperative-sticky"));
    let scene = Scene::new(Arc::<Cluster>::clone(&cluster));
    let running = scene.consume_plainly(settings(Unresolved::Hold)).await;
    let ids: Vec<_> = (0..200).map(|it| format!("m-{it}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    for (round, some) in ids.chunks(50).enumerate() {
        let broker = i32::try_from(round % 3).unwrap() + 1;
        cluster.mock_cluster().coordinator(MockCoordinator::Group(GROUP.into()), broker).unwrap();
        scene.publish(some).await;
        eventually(async || scene.ledger.effects().len() > round * 50 + 10).await;
    }
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.counts().len(), 200);
    assert_eq!(scene.ledger.effects().len(), 200);
    assert_eq!(scene.letters().await, []);
}
