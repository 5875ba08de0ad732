//! `redis-sentinel://`: the primary is where the Sentinels say, also after a failover.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use onceward_core::store::{Insert, Replace};
use onceward_core::{ErrorKind, State, Store as _};
use onceward_store_redis::{OpenError, RedisSettings, RedisStore};
use onceward_testkit::server::RedisSentinels;
use onceward_testkit::{eventually, within};
use tokio::task::JoinSet;

use crate::sample::{claim_of, completion, id, inserted, stored};

async fn opened(url: &str) -> Result<RedisStore, OpenError> {
    RedisStore::open(RedisSettings::from_url(url).expect("the URL is right")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_stands_after_each_failover_and_callers_go_on() {
    let mut sentinels = RedisSentinels::start(None);
    let url = format!("{}?replicas=1&wait=1s&call_timeout=3s", sentinels.url());
    let store = Arc::new(opened(&url).await.unwrap());
    let (over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU16::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (store, over, next) = (Arc::clone(&store), Arc::clone(&over), Arc::clone(&next));
        callers.spawn(async move {
            let mut told = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                match store.insert(id(number), &claim_of(number.into())).await {
                    Ok(Insert::Kept(record)) => told.push((number, Ok(record))),
                    Ok(other) => panic!("the place is vacant, but: {other:?}"),
                    Err(error) => {
                        told.push((number, Err(error.kind())));
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            told
        });
    }
    for round in 0..2 {
        let before = next.load(Ordering::Relaxed);
        eventually(async || next.load(Ordering::Relaxed) > before + 200).await;
        sentinels = tokio::task::spawn_blocking(move || {
            sentinels.fail_over();
            sentinels
        })
        .await
        .unwrap();
        let other = opened(&url).await.unwrap();
        // The replica may still be on its way: until it has come, nothing is certain.
        let mut held = None;
        eventually(async || {
            if let Ok(Insert::Kept(it) | Insert::Found(it, _)) =
                other.insert(id(60_000 + round), &claim_of(1)).await
            {
                held = Some(it);
            }
            held.is_some()
        })
        .await;
        let held = held.unwrap();
        eventually(async || {
            let asked = store.replace(held.id, held.revision, &completion(&held)).await;
            matches!(asked, Ok(Replace::Kept(_) | Replace::Lost(Some(_), _)))
        })
        .await;
        eventually(async || {
            let loaded = store.load(held.id).await.ok().and_then(|it| it.record);
            loaded.is_some_and(|it| matches!(it.state, State::Done(_)))
        })
        .await;
    }
    over.store(true, Ordering::Relaxed);
    let told = within(callers.join_all()).await;
    let (mut kept, mut others) = (0, 0);
    // Without waiting: nothing fails over any more.
    let store = opened(&sentinels.url()).await.unwrap();
    for (number, told) in told.into_iter().flatten() {
        let found = stored(&store, id(number)).await;
        match told {
            Ok(record) => {
                kept += 1;
                assert_eq!(found, Some(record), "told, and lost over the failover");
            }
            Err(ErrorKind::Uncertain) => others += 1,
            Err(kind) => {
                others += 1;
                assert_eq!((kind, found), (ErrorKind::Unavailable, None), "refused, so not written");
            }
        }
    }
    assert!(kept > 400 && others > 0, "{kept} kept, {others} not: the failovers were missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_sentinel_that_is_left_will_do_and_they_may_have_a_password() {
    let mut sentinels = RedisSentinels::start(Some("hunter2"));
    sentinels.kill_sentinel(0);
    let url = sentinels.url();
    let refused = opened(&url).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Login { .. }), "{refused}");
    let store = opened(&format!("{url}?sentinel_password=hunter2")).await.unwrap();
    inserted(&store, id(1), &claim_of(1)).await;
    let refused = opened(&format!("{}?sentinel_password=wrong", url)).await.unwrap_err().to_string();
    assert!(!refused.contains("wrong") && !refused.contains("hunter2"), "{refused}");
    let other = url.replace("/orders", "/payments");
    let refused = opened(&format!("{other}?sentinel_password=hunter2")).await.unwrap_err();
    assert!(!refused.is_final() && refused.to_string().contains("no primary called `payments`"), "{refused}");
}
