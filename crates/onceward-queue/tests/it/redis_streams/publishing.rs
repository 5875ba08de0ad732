//! What publishing leaves behind: messages, and nothing else.

use bytes::Bytes;
use onceward_queue::source::Arrival;
use onceward_queue::source::redis_streams::{RedisStreams, RedisStreamsSettings};
use onceward_queue::{Message, Source as _};
use onceward_testkit::server::{RedisCluster, RedisServer};
use onceward_testkit::within;

fn source(url: &str) -> RedisStreams {
    RedisStreams::new(RedisStreamsSettings::from_url(url, "receive").unwrap()).unwrap()
}

fn message(topic: &str) -> Message {
    Message { topic: topic.into(), key: None, headers: Vec::new(), body: Bytes::from_static(b"{}") }
}

#[tokio::test]
async fn publishing_makes_no_group() {
    let server = RedisServer::start();
    let publisher = source(&format!("redis-streams://127.0.0.1:{}/orders", server.port()));
    within(publisher.publish(&message("orders"))).await.unwrap();
    publisher.close().await;
    assert_eq!(server.cli(&["XLEN", "orders"]).trim(), "1");
    assert_eq!(server.cli(&["XINFO", "GROUPS", "orders"]).trim(), "", "whoever only publishes reads nothing");
    let consumer = source(&format!("redis-streams://127.0.0.1:{}/orders?group=billing", server.port()));
    let arrivals = within(consumer.receive(1)).await.unwrap();
    assert!(matches!(&arrivals[..], [Arrival::Delivered(_)]), "{arrivals:?}");
    assert!(server.cli(&["XINFO", "GROUPS", "orders"]).contains("billing"));
}

#[tokio::test]
async fn a_publisher_goes_on_after_the_server_was_away() {
    let mut server = RedisServer::start();
    let publisher = source(&format!("redis-streams://127.0.0.1:{}/orders", server.port()));
    within(publisher.publish(&message("orders"))).await.unwrap();
    server.kill();
    assert!(within(publisher.publish(&message("orders"))).await.is_err());
    server.start_again();
    within(publisher.publish(&message("orders"))).await.unwrap();
    assert_eq!(server.cli(&["XLEN", "orders"]).trim(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_to_each_node_of_a_cluster_is_enough() {
    let cluster = tokio::task::block_in_place(|| RedisCluster::start(false));
    let url = cluster.url();
    let hosts = url.strip_prefix("redis-cluster://").unwrap().split(['/', '?']).next().unwrap();
    let publisher = source(&format!("redis-streams://{hosts}/a"));
    let connections = || -> u64 {
        let made = |host: &str| -> u64 {
            let client = redis::Client::open(format!("redis://{host}/")).unwrap();
            let mut connection = client.get_connection().unwrap();
            let stats: String = redis::cmd("INFO").arg("stats").query(&mut connection).unwrap();
            let line = stats.lines().find_map(|it| it.strip_prefix("total_connections_received:"));
            line.unwrap().trim().parse().unwrap()
        };
        tokio::task::block_in_place(|| hosts.split(',').map(made).sum())
    };
    let streams = ["a", "b", "c", "d", "e", "f"];
    for stream in streams {
        within(publisher.publish(&message(stream))).await.unwrap();
    }
    let (before, nodes) = (connections(), hosts.split(',').count() as u64);
    for stream in streams.repeat(10) {
        within(publisher.publish(&message(stream))).await.unwrap();
    }
    // The test itself makes one to each, and nodes may make a few among themselves.
    let made = connections() - before;
    assert!(made < nodes + 10, "{made} connections for 60 messages");
}
