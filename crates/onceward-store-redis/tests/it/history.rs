//! Histories of concurrent calls over a server that is killed and started again: they have an order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward_core::Store;
use onceward_testkit::history::{Client, Log, Plan, assert_order};
use onceward_testkit::server::RedisServer;
use onceward_testkit::{Lane, within};
use tokio::task::JoinSet;

use crate::sample::settings;
use onceward_store_redis::RedisStore;

async fn run(seed: u64) {
    let mut server = RedisServer::start();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut clients = JoinSet::new();
    for who in 0..8 {
        // Every client is a process of its own, so to speak.
        let settings = settings(&server, "?call_timeout=2s");
        let store: Arc<dyn Store> = Arc::new(RedisStore::open(settings).await.unwrap());
        let plan = Plan { clock: None, ..Plan::new(seed, who) };
        let mut client = Client::new(store, Arc::clone(&log) as Arc<dyn Log>, plan);
        clients.spawn(async move { client.calls(300).await });
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        server.kill();
        server.start_again();
    }
    within(clients.join_all()).await;
    let events = std::mem::take(&mut *log.lock().unwrap());
    println!("{} calls", assert_order(seed, &events));
}

#[test]
fn calls_over_kills_of_the_server_have_an_order() {
    Lane::from_env(3).each(|seed| onceward_testkit::conformance::run(4, run(seed)));
}
