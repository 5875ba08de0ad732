//! Redis Streams, on a server of the test's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::ErrorKind;
use onceward_queue::source::Arrival;
use onceward_queue::source::redis_streams::{RedisStreams, RedisStreamsSettings};
use onceward_queue::{Kept, Message, Source};
use onceward_testkit::server::RedisServer;

use crate::fixture::Fixture;

mod places;
mod publishing;

#[derive(Debug)]
struct Streams {
    server: Mutex<RedisServer>,
    url: String,
    delete: bool,
}

impl Streams {
    fn start(delete: bool) -> Self {
        let server = RedisServer::start();
        Self { url: server.url(), server: Mutex::new(server), delete }
    }

    fn consumer(&self) -> RedisStreams {
        let visible_for = Duration::from_millis(900);
        let settings = RedisStreamsSettings::new(&self.url, "orders", "billing");
        RedisStreams::new(RedisStreamsSettings { visible_for, delete: self.delete, ..settings }).unwrap()
    }

    /// What the server says.
    fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let mut connection = redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap();
        let mut asked = redis::cmd(command[0]);
        asked.arg(&command[1..]);
        asked.query(&mut connection).unwrap()
    }
}

#[async_trait]
impl Fixture for Streams {
    async fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.consumer())
    }

    async fn is_empty(&self) -> bool {
        if self.delete {
            return self.ask::<u64>(&["XLEN", "orders"]) == 0;
        }
        let groups: Vec<HashMap<String, redis::Value>> = self.ask(&["XINFO", "GROUPS", "orders"]);
        // Before anybody has read there is none.
        let Some(group) = groups.first() else { return false };
        let none = |name| group[name] == redis::Value::Int(0);
        none("pending") && none("lag")
    }

    async fn crash(&self) -> Result<(), &'static str> {
        let mut server = self.server.lock().unwrap();
        server.kill();
        server.start_again();
        Ok(())
    }
}

mod kept {
    crate::fixture::promises!(async { super::Streams::start(false) });
}

mod deleted {
    crate::fixture::promises!(async { super::Streams::start(true) });
}

#[tokio::test]
async fn what_waits_and_what_is_in_hand_is_counted() {
    let streams = Streams::start(false);
    let source = streams.consumer();
    let message = |id: &str| Message {
        topic: "orders".into(),
        key: None,
        headers: vec![("event-id".into(), Bytes::copy_from_slice(id.as_bytes()))],
        body: Bytes::new(),
    };
    for id in ["1", "2", "3"] {
        source.publish(&message(id)).await.unwrap();
    }
    let taken = source.receive(1).await.unwrap();
    assert_eq!(source.lag().await.unwrap(), Some(3));
    let [Arrival::Delivered(first)] = &taken[..] else { panic!("{taken:?}") };
    source.acknowledge(std::slice::from_ref(&first.receipt)).await.unwrap();
    assert_eq!(source.lag().await.unwrap(), Some(2));
    assert_eq!(source.windows().await.unwrap().kept, Some(Kept::WithoutEnd));
    let deleting = Streams { delete: true, ..streams };
    assert_eq!(deleting.consumer().windows().await.unwrap().kept, None);
    let asked = deleting.consumer();
    drop(deleting);
    assert_eq!(asked.windows().await.unwrap_err().kind(), ErrorKind::Unavailable, "it is away");
}
