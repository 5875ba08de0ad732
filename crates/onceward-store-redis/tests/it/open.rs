//! Opening: what is refused, what is only said, and what every process must agree on.

use onceward_core::{ErrorKind, Store as _};
use onceward_store_redis::{OpenError, RedisSettings, RedisStore};
use onceward_testkit::server::{RedisServer, free_port};
use onceward_testkit::{eventually, within};

use crate::sample::{claim, id, inserted, open, settings};

async fn refused(url: &str) -> String {
    let settings = RedisSettings::from_url(url).unwrap();
    let error = within(RedisStore::open(settings)).await.expect_err("it is refused");
    let said = format!("{error} {error:?}");
    assert!(!said.contains("hunter2"), "{said}");
    said
}

#[tokio::test]
async fn a_server_that_may_drop_records_is_refused_with_the_remedy() {
    let server = RedisServer::start();
    for policy in ["allkeys-lru", "volatile-ttl", "allkeys-random"] {
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let said = refused(&server.url()).await;
        assert!(said.contains(policy) && said.contains("`maxmemory-policy noeviction`"), "{said}");
    }
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    open(&server, "").await;
}

#[tokio::test]
async fn a_server_that_is_not_durable_says_so_in_its_traits_and_is_refused_where_it_must_be() {
    let server = RedisServer::start();
    assert!(open(&server, "?durability=durable").await.traits().durable);
    assert!(!open(&server, "?durability=relaxed").await.traits().durable);
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    assert!(!open(&server, "").await.traits().durable);
    let said = refused(&format!("{}?durability=durable", server.url())).await;
    assert!(said.contains("last second") && said.contains("`appendfsync always`"), "{said}");
    server.cli(&["CONFIG", "SET", "appendonly", "no"]);
    assert!(!open(&server, "").await.traits().durable);
    let said = refused(&format!("{}?durability=durable", server.url())).await;
    assert!(said.contains("appendonly is no"), "{said}");
}

#[tokio::test]
async fn a_replica_is_refused() {
    let primary = RedisServer::start();
    let port = primary.port().to_string();
    let replica = RedisServer::start_with(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    let said = refused(&replica.url()).await;
    assert!(said.contains("name its primary"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_and_its_password_is_not() {
    let port = free_port();
    let said = refused(&format!("redis://me:hunter2@127.0.0.1:{port}")).await;
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
}

#[tokio::test]
async fn an_acl_user_with_few_rights_is_enough_and_a_wrong_password_is_told() {
    let server = RedisServer::start_with(&[("requirepass", "root")]);
    let rights = "+info +script|load +evalsha +eval +time +get +getrange +set +zadd +zrem +zrangebyscore \
                  +zrangebylex +del +exists +select +ping";
    let mut arguments = vec!["-a", "root", "--no-auth-warning", "ACL", "SETUSER", "me", "on", ">hunter2"];
    arguments.extend(["resetkeys", "~onceward:*", "~{onceward}:*", "-@all"]);
    arguments.extend(rights.split_whitespace());
    assert_eq!(server.cli(&arguments), "OK");

    let url = format!("redis://me:hunter2@127.0.0.1:{}", server.port());
    let store = RedisStore::open(RedisSettings::from_url(&url).unwrap()).await.unwrap();
    let record = inserted(&store, id(1), &claim()).await;
    assert_eq!(crate::sample::stored(&store, id(1)).await, Some(record));
    assert!(store.list(&Default::default(), None, 10).await.unwrap().records.len() == 1);
    store.sweep(10).await.unwrap();
    // CONFIG is forbidden to it, so nobody knows whether the file is synced.
    assert!(!store.traits().durable);

    let said = refused(&url.replace("me:", "you:")).await;
    assert!(said.contains("refuses the user or the password"), "{said}");
}

/// What the whole chain of an error says.
fn whole(error: &onceward_core::Error) -> String {
    format!("{error}: {}", std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
}

#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let server = RedisServer::start_with(&[("requirepass", "root")]);
    let allow = |rights: &str| {
        let user =
            ["-a", "root", "--no-auth-warning", "ACL", "SETUSER", "me", "reset", "on", ">hunter2", "~*"];
        let user: Vec<_> = user.into_iter().chain(rights.split_whitespace()).collect();
        assert_eq!(server.cli(&user), "OK");
    };
    let url = format!("redis://me:hunter2@127.0.0.1:{}?hints=off", server.port());
    allow("+@all -info");
    let said = refused(&url).await;
    assert!(said.contains("with `+info`"), "{said}");
    allow("+@all -evalsha");
    let store = RedisStore::open(RedisSettings::from_url(&url).unwrap()).await.unwrap();
    let said = whole(&store.insert(id(1), &claim()).await.unwrap_err());
    assert!(said.contains("with `+evalsha`"), "{said}");
}

#[tokio::test]
async fn a_prefix_under_which_something_else_lies_is_named_as_such() {
    let server = RedisServer::start();
    server.cli(&["LPUSH", "{onceward}:meta", "of somebody else"]);
    let said = refused(&server.url()).await;
    assert!(said.contains("under the prefix of this store") && said.contains("`prefix=`"), "{said}");
}

#[tokio::test]
async fn every_process_has_the_same_buckets() {
    let server = RedisServer::start();
    let store = open(&server, "?buckets=7").await;
    let record = inserted(&store, id(1000), &claim()).await;
    let other = open(&server, "").await;
    assert_eq!(crate::sample::stored(&other, id(1000)).await, Some(record));
    let said = refused(&format!("{}?buckets=8", server.url())).await;
    assert!(said.contains("made with 7 buckets, not 8"), "{said}");

    server.cli(&["SET", "{onceward}:meta", "onceward 2 shelves 7"]);
    let told = RedisStore::open(settings(&server, "")).await.unwrap_err();
    assert_eq!(told, OpenError::Layout { found: "onceward 2 shelves 7".into() });
}

#[tokio::test]
async fn prefixes_and_databases_keep_stores_apart() {
    let server = RedisServer::start();
    inserted(&open(&server, "").await, id(1), &claim()).await;
    inserted(&open(&server, "?prefix=shop").await, id(1), &claim()).await;
    inserted(&open(&server, "/1").await, id(1), &claim()).await;
}

#[tokio::test]
async fn a_file_that_is_not_synced_while_it_is_rewritten_is_not_durable() {
    let server = RedisServer::start_with(&[("no-appendfsync-on-rewrite", "yes")]);
    assert!(!open(&server, "").await.traits().durable);
    let said = refused(&format!("{}?durability=durable", server.url())).await;
    assert!(said.contains("`no-appendfsync-on-rewrite no`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_to_drop_records_or_to_be_less_durable_is_given_up_until_it_is_set_right() {
    let server = RedisServer::start();
    let store = open(&server, "?durability=durable&call_timeout=400ms&wait=100ms").await;
    for (name, bad, good, says) in [
        ("maxmemory-policy", "allkeys-lru", "noeviction", "maxmemory-policy noeviction"),
        ("appendfsync", "everysec", "always", "appendfsync always"),
    ] {
        server.cli(&["CONFIG", "SET", name, bad]);
        eventually(async || {
            store.insert(id(1), &claim()).await.is_err_and(|it| {
                it.kind() == ErrorKind::Unavailable && crate::sample::said(&it).contains(says)
            })
        })
        .await;
        server.cli(&["CONFIG", "SET", name, good]);
        eventually(async || store.check().await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_store_that_was_emptied_keeps_its_buckets_or_is_left_by_whoever_had_others() {
    let server = RedisServer::start();
    let before = open(&server, "?buckets=16").await;
    server.cli(&["FLUSHALL"]);
    before.sweep(1).await.unwrap();
    // Whoever comes after a sweep divides records as those who are there.
    let after = open(&server, "").await;
    let kept = inserted(&before, id(77), &claim()).await;
    assert_eq!(after.load(id(77)).await.unwrap().record, Some(kept));

    server.cli(&["FLUSHALL"]);
    let others = open(&server, "?buckets=64").await;
    assert_eq!(before.sweep(1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = before.insert(id(77), &claim()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(crate::sample::said(&error).contains("64 buckets, not 16"), "{}", crate::sample::said(&error));
    inserted(&others, id(77), &claim()).await;
}
