//! What must stand in no log line.

use onceward_core::store::{Filter, Put};
use onceward_core::{EngineSettings, Run, Timestamp};

use crate::world::{World, ask, begin, granted};
use onceward_core::Answer;

const KEY: &str = "sesame-open-7251";
const BODY: &str = "card-4111-1111";
const SAVED: &str = "token-of-the-bank";

fn assert_silent(what: &str, shown: &str) {
    for secret in [KEY, BODY, SAVED] {
        assert!(!shown.contains(secret), "{what} shows {secret:?}: {shown}");
    }
}

#[tokio::test]
async fn keys_stand_in_no_debug_output() {
    let world = World::new().await;
    let attempt = ask(&world.engine, KEY, BODY).await;
    assert_silent("an attempt", &format!("{attempt:?} {attempt:#?}"));
    let permit = granted(&world.engine, &attempt).await;
    assert_silent("a permit", &format!("{permit:?}"));
    let record = world.record(attempt.record_id()).await.unwrap();
    assert_silent("a record", &format!("{record:?}"));
    assert_silent("a put", &format!("{:?}", Put::keep(&record, Timestamp::MAX)));
    permit.complete(Answer::new("text", BODY)).await.unwrap();
    assert_silent("a replay", &format!("{:?}", begin(&world.engine, &attempt).await));
    // The engine shows its store, and the store in memory every record.
    assert_silent("an engine", &format!("{:?}", world.engine));
    let stored = world.record(attempt.record_id()).await;
    assert_silent("a done record", &format!("{stored:?}"));
}

#[tokio::test]
async fn what_the_work_saved_stands_in_no_debug_output() {
    let world = World::new().await;
    let attempt = ask(&world.engine, KEY, BODY).await;
    let mut permit = granted(&world.engine, &attempt).await;
    permit.save(SAVED.into()).await.unwrap();
    let checkpoint = permit.checkpoint().cloned();
    let run = Run { fence: permit.fence(), attempt: 1, checkpoint };
    assert_silent("a run", &format!("{run:?}"));
    let record = world.record(attempt.record_id()).await;
    assert_silent("a record", &format!("{record:?}"));
    assert_silent("a permit", &format!("{permit:?}"));
}

#[tokio::test]
async fn a_hidden_key_is_stored_nowhere_and_lists_by_its_hash() {
    let world = World::new().await;
    let settings = EngineSettings { hide_keys: true, ..EngineSettings::default() };
    let engine = world.another_with(2, settings).await;
    let attempt = ask(&engine, KEY, BODY).await;
    granted(&engine, &attempt).await.release().await.unwrap();
    let listed = world.record(attempt.record_id()).await.unwrap().listing.key.clone();
    assert_ne!(listed, KEY);
    assert_eq!(listed.len(), 32);
    for (key, found) in [(KEY, 1), ("another", 0), (listed.as_str(), 0)] {
        let filter = Filter { key: Some(key.to_owned()), ..Filter::default() };
        let page = engine.list(&filter, None, 10).await.unwrap();
        assert_eq!(page.records.len(), found, "an operator names the key as its caller sent it: {key}");
    }
}
