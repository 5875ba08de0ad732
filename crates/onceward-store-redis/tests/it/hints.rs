//! Waiters of other processes are told at once; and whatever becomes of a hint, they end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use onceward_core::store::Hints;
use onceward_core::{Begin, Engine, InFlight, RecordId, Store};
use onceward_store_redis::RedisStore;
use onceward_testkit::server::RedisServer;
use onceward_testkit::{Waiting, attempt, eventually, within};

use crate::sample::{claim, completion, id, inserted, key, open, swapped};

async fn shared(server: &RedisServer, more: &str) -> Arc<RedisStore> {
    Arc::new(open(server, more).await)
}

async fn waiting(server: &RedisServer, count: usize) -> Waiting {
    Waiting::begin("k-1", shared(server, "").await, shared(server, "").await, count).await
}

/// How many clients are subscribed to the channel of a record.
fn subscribed(server: &RedisServer, id: RecordId) -> String {
    server.cli(&["PUBSUB", "NUMSUB", &key(id)]).lines().nth(1).unwrap_or_default().to_owned()
}

/// How often the server carried out a command, as far as it says.
fn calls(server: &RedisServer, command: &str) -> usize {
    let said = server.cli(&["INFO", "commandstats"]);
    let line = said.lines().find_map(|it| it.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|it| it.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn hint(hints: &mut Hints) -> Option<()> {
    hints.next().now_or_never().map(|it| it.expect("the hints go on"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_of_another_process_is_told_when_the_holder_finishes() {
    let server = RedisServer::start();
    let told = waiting(&server, 1).await;
    // Once for itself, and once when the store listens.
    told.looked(2).await;
    told.told().await;
    let released = Waiting::begin("k-2", shared(&server, "").await, shared(&server, "").await, 1).await;
    released.looked(2).await;
    released.released().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_listens_no_more_and_the_connection_goes_when_nobody_waits() {
    let server = RedisServer::start();
    let other = shared(&server, "?call_timeout=300ms&wait=100ms").await;
    let mut left = Waiting::begin("k-1", shared(&server, "").await, other, 3).await;
    left.looked(6).await;
    assert_eq!(subscribed(&server, left.id()), "1");
    assert!(server.cli(&["CLIENT", "LIST"]).contains("resp=3"));
    left.leave().await;
    eventually(async || subscribed(&server, left.id()) == "0").await;
    // Calls do not go over connections of this kind.
    eventually(async || !server.cli(&["CLIENT", "LIST"]).contains("resp=3")).await;
    left.told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_who_wait_for_one_record_are_one_subscription() {
    let server = RedisServer::start();
    let other = shared(&server, "").await;
    let told = Waiting::begin("k-1", shared(&server, "").await, Arc::<RedisStore>::clone(&other), 1000).await;
    told.looked(2000).await;
    assert_eq!(subscribed(&server, told.id()), "1");
    assert_eq!((calls(&server, "subscribe"), calls(&server, "publish")), (1, 0));
    let id = told.id();
    told.told().await;
    assert_eq!(calls(&server, "publish"), 1);
    eventually(async || calls(&server, "unsubscribe") == 1).await;
    assert_eq!(subscribed(&server, id), "0");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_as_the_last_one_leaves_is_heard_too() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    let mut hints = store.hints(id(1)).unwrap();
    for _ in 0..200 {
        within(hints.next()).await.unwrap();
        drop(hints);
        hints = store.hints(id(1)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_waits_nothing_is_sent_and_nobody_listens() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    for number in 0..10 {
        let record = inserted(&store, id(number), &claim()).await;
        swapped(&store, &record, &completion(&record)).await;
    }
    assert_eq!((calls(&server, "publish"), calls(&server, "subscribe")), (0, 0));
    assert_eq!(calls(&server, "pubsub|numsub"), 10, "each run that ends asks once whether somebody listens");
    assert_eq!(server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_a_run_is_no_hint() {
    let server = RedisServer::start();
    let store = open(&server, "").await;
    let mut hints = store.hints(id(1)).unwrap();
    within(hints.next()).await.unwrap();
    let record = inserted(&store, id(1), &claim()).await;
    // It is renewed.
    let keep = onceward_core::store::Put::keep(&record, onceward_core::Timestamp::MAX);
    let record = swapped(&store, &record, &keep).await;
    inserted(&store, id(2), &claim()).await;
    assert_eq!((hint(&mut hints), calls(&server, "publish")), (None, 0));
    swapped(&store, &record, &completion(&record)).await;
    within(hints.next()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_comes_back_and_with_it_a_look() {
    let server = RedisServer::start();
    let told = waiting(&server, 1).await;
    told.looked(2).await;
    assert_eq!(server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]), "1");
    told.looked(3).await;
    eventually(async || subscribed(&server, told.id()) == "1").await;
    told.told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_started_again_hints_again() {
    let mut server = RedisServer::start();
    let (store, other) = (open(&server, "").await, open(&server, "").await);
    let record = inserted(&store, id(1), &claim()).await;
    let mut hints = other.hints(id(1)).unwrap();
    within(hints.next()).await.unwrap();
    server.kill();
    server.start_again();
    // The look that makes good for what was missed.
    within(hints.next()).await.unwrap();
    eventually(async || store.check().await.is_ok()).await;
    swapped(&store, &record, &completion(&record)).await;
    within(hints.next()).await.unwrap();
}

/// A server with a user who may do what the store needs, without channels.
fn without_channels() -> RedisServer {
    let server = RedisServer::start();
    let user = ["ACL", "SETUSER", "me", "on", ">pw", "~*", "+@all", "resetchannels"];
    assert_eq!(server.cli(&user), "OK");
    server
}

async fn as_me(server: &RedisServer) -> Arc<RedisStore> {
    let url = server.url().replace("//", "//me:pw@");
    let settings = onceward_store_redis::RedisSettings::from_url(&url).unwrap();
    Arc::new(RedisStore::open(settings).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_channels_finishes_and_waits_by_looking() {
    let server = without_channels();
    let (holder, other) = (as_me(&server).await, as_me(&server).await);
    let (holder, other): (Engine, Engine) = (Engine::new(holder), Engine::new(other));
    let asks = attempt("k-1", holder.hasher().await.unwrap().fingerprint([]));
    let Begin::Run(permit) = holder.begin(&asks).await.unwrap() else { panic!("it is new") };
    let waits = onceward_core::Attempt { in_flight: InFlight::Wait(Duration::from_secs(600)), ..asks };
    let mut waiters = tokio::task::JoinSet::new();
    waiters.spawn(async move { other.begin(&waits).await.unwrap() });
    // It tries to listen, and is refused.
    eventually(async || server.cli(&["ACL", "LOG"]).contains("onceward:{")).await;
    assert_eq!(server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]), "");
    permit.complete(onceward_core::Answer::new("text", "done")).await.unwrap();
    assert!(matches!(within(waiters.join_next()).await.unwrap().unwrap(), Begin::Replay(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_who_may_not_publish_finishes_beside_one_who_listens() {
    let server = without_channels();
    let (store, other) = (as_me(&server).await, open(&server, "").await);
    let record = inserted(&*store, id(1), &claim()).await;
    let mut hints = other.hints(id(1)).unwrap();
    within(hints.next()).await.unwrap();
    swapped(&*store, &record, &completion(&record)).await;
    assert!(server.cli(&["ACL", "LOG"]).contains("onceward:{"), "it was refused to publish");
    assert_eq!(hint(&mut hints), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_that_the_guide_names_are_enough() {
    let server = RedisServer::start();
    let guide = include_str!("../../../../docs/guide/store-redis.md");
    let (_, rights) = guide.split_once("An ACL user needs").unwrap();
    let (rights, _) = rights.split_once("in a Cluster").unwrap();
    let rights = rights.replace(['`', '\n'], " ").replace("PREFIX", "onceward");
    // Servers before 7.2 do not know it.
    let rights = rights.replace("+waitaof", "");
    let rights = rights.split_whitespace().filter(|it| it.starts_with(['~', '+', '&']));
    let (_, of_hints) = guide.split_once("For hints").unwrap();
    let (of_hints, _) = of_hints.split_once("in a Cluster").unwrap();
    let of_hints = of_hints.replace(['`', ';', '\n'], " ").replace("PREFIX", "onceward");
    let of_hints = of_hints.split_whitespace().filter(|it| it.starts_with(['~', '+', '&']));
    let mut user = vec!["ACL", "SETUSER", "me", "on", ">pw", "resetkeys", "resetchannels", "-@all"];
    user.extend(rights.chain(of_hints));
    assert_eq!(server.cli(&user), "OK");
    let (holder, other) = (as_me(&server).await, as_me(&server).await);
    let told = Waiting::begin("k-1", holder, Arc::<RedisStore>::clone(&other), 1).await;
    told.looked(2).await;
    told.told().await;
    drop(other);
    let log = server.cli(&["ACL", "LOG"]);
    assert!(!log.contains("onceward:{") && !log.contains("pubsub") && !log.contains("sub"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hints_can_be_turned_off() {
    let server = RedisServer::start();
    let store = open(&server, "?hints=off").await;
    assert!(store.hints(id(1)).is_none());
    let record = inserted(&store, id(1), &claim()).await;
    swapped(&store, &record, &completion(&record)).await;
    assert_eq!(calls(&server, "pubsub|numsub"), 0);
}
