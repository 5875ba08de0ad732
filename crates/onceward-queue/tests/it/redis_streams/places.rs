//! Where the server is, and what it may be: over TLS, behind Sentinels, in a Cluster, and not one that forgets.

use std::time::Duration;

use bytes::Bytes;
use onceward_core::ErrorKind;
use onceward_queue::source::Arrival;
use onceward_queue::source::redis_streams::{RedisStreams, RedisStreamsSettings};
use onceward_queue::{Message, Source as _};
use onceward_testkit::server::{RedisCluster, RedisSentinels, RedisServer};
use onceward_testkit::within;

fn source(url: &str) -> RedisStreams {
    RedisStreams::new(RedisStreamsSettings::from_url(url, "billing").unwrap()).unwrap()
}

fn message(topic: &str, id: &'static str) -> Message {
    Message { topic: topic.into(), key: None, headers: Vec::new(), body: Bytes::from_static(id.as_bytes()) }
}

/// Takes the next message, and acknowledges it.
async fn next(source: &RedisStreams) -> Bytes {
    let mut arrivals = within(async {
        loop {
            match source.receive(1).await {
                Ok(arrivals) => break arrivals,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let Some(Arrival::Delivered(delivery)) = arrivals.pop() else { panic!("{arrivals:?}") };
    within(async {
        // The first may go to where the primary was.
        while source.acknowledge(std::slice::from_ref(&delivery.receipt)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    delivery.message.body.clone()
}

#[tokio::test]
async fn a_user_logs_in_over_tls_where_the_server_is_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (ca, key) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (ca, key) = (ca.display().to_string(), key.display().to_string());
    let port = onceward_testkit::server::free_port();
    let server = RedisServer::start_with(&[
        ("tls-port", &port.to_string()),
        ("tls-cert-file", &ca),
        ("tls-key-file", &key),
        ("tls-ca-cert-file", &ca),
        ("tls-auth-clients", "no"),
    ]);
    server.cli(&["ACL", "SETUSER", "app", "on", ">ge@heim", "~orders", "+@all"]);
    server.cli(&["ACL", "SETUSER", "default", "off"]);
    let good = source(&format!("rediss-streams://app:ge%40heim@localhost:{port}/orders?ca={ca}"));
    within(good.publish(&message("orders", "m-1"))).await.unwrap();
    assert_eq!(next(&good).await, "m-1");
    good.close().await;
    for (url, kind) in [
        (format!("rediss-streams://app:wrong@localhost:{port}/orders?ca={ca}"), ErrorKind::Invalid),
        (format!("rediss-streams://app:ge%40heim@localhost:{port}/others?ca={ca}"), ErrorKind::Invalid),
        (format!("rediss-streams://app:ge%40heim@127.0.0.1:{port}/orders?ca={ca}"), ErrorKind::Unavailable),
        (format!("rediss-streams://app:ge%40heim@localhost:{port}/orders"), ErrorKind::Unavailable),
    ] {
        let error = within(source(&url).receive(1)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_that_sentinels_name_is_followed() {
    let mut servers = RedisSentinels::start(None);
    let url = servers.url();
    let (hosts, name) = url.strip_prefix("redis-sentinel://").unwrap().split_once('/').unwrap();
    let url = format!("redis-streams://{hosts}/orders?sentinel={name}");
    let source = source(&url);
    within(source.publish(&message("orders", "m-1"))).await.unwrap();
    assert_eq!(next(&source).await, "m-1");
    tokio::task::block_in_place(|| servers.fail_over());
    within(async {
        while source.publish(&message("orders", "m-2")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(next(&source).await, "m-2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_of_a_cluster_that_has_the_stream_is_found() {
    let cluster = tokio::task::block_in_place(|| RedisCluster::start(false));
    let url = cluster.url();
    let hosts = url.strip_prefix("redis-cluster://").unwrap().split(['/', '?']).next().unwrap();
    // Whichever node is asked first, at most one of these is its own.
    for stream in ["a", "b", "c", "d"] {
        let source = source(&format!("redis-streams://{hosts}/{stream}?delete=true"));
        within(source.publish(&message(stream, "m-1"))).await.unwrap();
        assert_eq!(next(&source).await, "m-1", "{stream}");
        for other in ["e", "f", "g", "h"] {
            within(source.publish(&message(other, "m-2"))).await.unwrap();
        }
        within(source.publish(&message(stream, "m-3"))).await.unwrap();
        assert_eq!(next(&source).await, "m-3", "{stream}");
        source.close().await;
    }
}

#[tokio::test]
async fn a_server_that_may_drop_the_stream_is_refused() {
    let server = RedisServer::start_with(&[("maxmemory-policy", "allkeys-lru")]);
    let port = server.port();
    let error =
        within(source(&format!("redis-streams://127.0.0.1:{port}/orders")).receive(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("noeviction"), "{error}");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]);
    let source = source(&format!("redis-streams://127.0.0.1:{port}/orders"));
    within(source.publish(&message("orders", "m-1"))).await.unwrap();
}
