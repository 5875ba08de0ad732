//! What lies under a record's key and is none: it is refused for its own id, and stops nobody else.

use onceward_core::store::{Due, Put};
use onceward_core::{ErrorKind, Policy, State, Store as _};
use onceward_testkit::HandClock;
use onceward_testkit::server::RedisServer;

use crate::sample::{HOUR, claim, completion, id, inserted, key, open_at, swapped};

#[tokio::test]
async fn an_unreadable_record_is_refused_alone() {
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    for number in 0..6 {
        let put = Put { wake_after: Some(HOUR), ..claim() };
        let running = inserted(&store, id(number), &put).await;
        if number > 3 {
            swapped(&store, &running, &completion(&running)).await;
        }
    }
    let (line, bytes, kind) = (key(id(0)), key(id(1)), key(id(4)));
    server.cli(&["SET", &line, "no line"]);
    server.cli(&["SETRANGE", &bytes, "250", "damage"]);
    server.cli(&["DEL", &kind]);
    server.cli(&["RPUSH", &kind, "a list"]);
    clock.advance(HOUR + HOUR / 2);

    for number in [0, 1, 4] {
        let loaded = store.load(id(number)).await.unwrap_err();
        assert_eq!(loaded.kind(), ErrorKind::Corrupt, "{number}");
        let inserted = store.insert(id(number), &claim()).await.unwrap_err();
        assert_eq!(inserted.kind(), ErrorKind::Corrupt, "{number}");
        let replaced = store.replace(id(number), onceward_core::Revision(1), &claim()).await.unwrap_err();
        assert_eq!(replaced.kind(), ErrorKind::Corrupt, "{number}");
    }
    let page = store.list(&Default::default(), None, 100).await.unwrap();
    assert_eq!(page.unreadable, [id(0), id(1), id(4)]);
    assert_eq!(page.records.iter().map(|it| it.id).collect::<Vec<_>>(), [id(2), id(3), id(5)]);
    // They stand first in every index, and the limit is as small as can be.
    let due = store.due(Due::Lease.start(), 1).await.unwrap().records;
    assert_eq!(due.iter().map(|it| it.id).collect::<Vec<_>>(), [id(2)]);
    assert_eq!(store.due(Due::Wake.start(), 9).await.unwrap().records.len(), 2);
    let mut tombstones = 0;
    for _ in 0..10 {
        tombstones += store.sweep(1).await.unwrap().tombstones;
    }
    assert_eq!(tombstones, 1, "the one answer that can be read");
    // They were left as they are.
    assert_eq!(server.cli(&["GET", &line]), "no line");
    assert_eq!(server.cli(&["LRANGE", &kind, "0", "9"]), "a list");
    let page = store.list(&Default::default(), None, 100).await.unwrap();
    assert_eq!(page.unreadable, [id(0), id(1), id(4)]);
}

#[tokio::test]
async fn unfinished_records_have_no_time_to_live_and_finished_ones_outlive_their_sweep() {
    const DAY_S: i64 = 24 * 3600;
    let server = RedisServer::start();
    let clock = HandClock::new();
    let store = open_at(&server, &clock).await;
    let left = |number| server.cli(&["TTL", &key(id(number))]).parse::<i64>().unwrap();
    let running = inserted(&store, id(1), &claim()).await;
    assert_eq!(left(1), -1);
    let done = swapped(&store, &running, &completion(&running)).await;
    // Retention, tombstone, the time to settle, and a day.
    let expected = 2 * 3600 + 600 + DAY_S;
    assert!((expected - 60..=expected).contains(&left(1)), "{}", left(1));
    let again = swapped(&store, &done, &Put { grant: claim().grant, ..claim() }).await;
    assert_eq!(left(1), -1, "running again");
    let reason = State::Abandoned { reason: "x".into() };
    let abandoned = swapped(&store, &again, &Put { state: reason, ..claim() }).await;
    assert_eq!(left(1), -1);
    swapped(&store, &abandoned, &Put { state: State::Released, ..completion(&abandoned) }).await;
    let expected = 600 + DAY_S;
    assert!((expected - 60..=expected).contains(&left(1)), "{}", left(1));

    let for_ever = Policy { retention: std::time::Duration::MAX, ..claim().policy };
    let kept = inserted(&store, id(2), &Put { policy: for_ever, ..claim() }).await;
    let kept = swapped(&store, &kept, &completion(&kept)).await;
    assert_eq!((left(2), kept.gone_until), (-1, onceward_core::Timestamp::MAX));

    let brief = inserted(&store, id(3), &claim()).await;
    swapped(&store, &brief, &completion(&brief)).await;
    clock.advance(HOUR);
    assert_eq!(store.sweep(9).await.unwrap().tombstones, 1);
    let expected = 3600 + 600 + DAY_S;
    assert!((expected - 60..=expected).contains(&left(3)), "{}", left(3));
}
