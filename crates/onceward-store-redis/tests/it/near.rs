//! Runtimes that share a store: each carries connections of its own, and none needs another one.

use std::collections::HashMap;
use std::time::Duration;

use onceward_core::{ErrorKind, Store as _};
use onceward_store_redis::RedisStore;
use onceward_testkit::eventually;
use onceward_testkit::server::RedisServer;
use tokio::runtime::{Builder, Runtime};

use crate::sample::{claim, id, inserted, open, stored};

/// How many connections a store has before another runtime calls, and how many that one gets.
const AT_HOME: usize = 4;
const NEAR: usize = 2;

/// After so long without a call it is not known whether a runtime ran.
const REST: Duration = Duration::from_millis(1100);

/// One that runs all the time.
fn home() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// One that runs while somebody waits on it.
fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// The connections that the server has from stores: the number of each, and what it was asked last.
fn connections(server: &RedisServer) -> HashMap<String, String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]);
    let of = |line: &str, name: &str| {
        let field = line.split(' ').find_map(|it| it.strip_prefix(name));
        field.unwrap_or_default().to_owned()
    };
    let all = list.lines().map(|it| (of(it, "id="), of(it, "cmd=")));
    // One of them is that of the question.
    all.filter(|(_, asked)| !asked.starts_with("client")).collect()
}

/// Calls until this runtime has connections of its own, and its calls go there.
async fn settle(server: &RedisServer, store: &RedisStore) {
    let before = connections(server);
    eventually(async || {
        // These are in different buckets, so that every connection is used.
        for number in 0..4 {
            store.load(id(number)).await.unwrap();
        }
        let now = connections(server);
        now.iter().filter(|(it, asked)| !before.contains_key(*it) && *asked == "evalsha").count() == NEAR
    })
    .await;
}

#[test]
fn a_runtime_that_goes_on_calling_gets_connections_and_takes_them_along_when_it_ends() {
    let server = RedisServer::start();
    let (home, near, other) = (home(), one_thread(), one_thread());
    let store = home.block_on(open(&server, ""));
    near.block_on(async {
        store.check().await.unwrap();
        assert_eq!(connections(&server).len(), AT_HOME, "one call alone is not worth a connection");
        settle(&server, &store).await;
        inserted(&store, id(1), &claim()).await;
    });
    other.block_on(settle(&server, &store));
    assert_eq!(connections(&server).len(), AT_HOME + 2 * NEAR);
    drop(near);
    other.block_on(async {
        eventually(async || connections(&server).len() == AT_HOME + NEAR).await;
        assert!(stored(&store, id(1)).await.is_some());
        inserted(&store, id(2), &claim()).await;
    });
    drop(other);
    home.block_on(async {
        eventually(async || connections(&server).len() == AT_HOME).await;
        assert!(stored(&store, id(2)).await.is_some());
    });
    drop(store);
    home.block_on(eventually(async || connections(&server).is_empty()));
}

#[test]
fn a_store_goes_on_after_the_runtime_that_it_was_opened_on_has_ended() {
    let server = RedisServer::start();
    let (home, near, late) = (home(), one_thread(), one_thread());
    let store = home.block_on(open(&server, ""));
    near.block_on(settle(&server, &store));
    drop(home);
    near.block_on(async {
        for number in 0..100 {
            inserted(&store, id(number), &claim()).await;
        }
        // Even when it is not known whether this one ran: there is nobody else.
        tokio::time::sleep(REST).await;
        inserted(&store, id(100), &claim()).await;
    });
    late.block_on(eventually(async || match store.load(id(7)).await {
        Ok(told) => told.record.is_some(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "nothing was sent: {error}");
            false
        }
    }));
}

#[test]
fn an_end_that_a_resting_runtime_has_not_seen_costs_no_call() {
    let server = RedisServer::start();
    let (home, near) = (home(), one_thread());
    let store = home.block_on(open(&server, ""));
    near.block_on(settle(&server, &store));
    server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    home.block_on(async {
        tokio::time::sleep(REST).await;
        eventually(async || store.check().await.is_ok()).await;
    });
    near.block_on(inserted(&store, id(1), &claim()));
}
