//! Relays: what is tried again, what blocks what, and what becomes of work that is dropped.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::{ErrorKind, SystemClock};
use onceward_queue::outbox::{Relay, RelayEvent, RelaySettings, SendFailure};
use onceward_testkit::{HandClock, eventually, within};
use tokio::sync::{Notify, Semaphore};

use super::place::{Log, Place, Running, Scripted, effect};

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_under_its_id_and_nothing_of_its_key_goes_before() {
    let place = Place::new().await;
    place.add(&[effect(Some("a"), "1"), effect(Some("a"), "2"), effect(Some("b"), "other")]).await;
    let log = Log::default();
    let relay = place.relay(Scripted(log.clone(), |it: onceward_queue::outbox::Outgoing| async move {
        if &*it.body == b"1" && it.attempt < 3 { Err(SendFailure::retry("busy")) } else { Ok(()) }
    }));
    place.until_all_is_sent().await;
    relay.stop().await;
    let of_a: Vec<_> = log.all().into_iter().filter(|it| &*it.body != b"other").collect();
    let told: Vec<_> = of_a.iter().map(|it| (&*it.body, it.attempt)).collect();
    assert_eq!(told, [(&b"1"[..], 1), (b"1", 2), (b"1", 3), (b"2", 1)]);
    assert!(of_a[..3].iter().all(|it| it.id == of_a[0].id));
    assert!(of_a[0].fence < of_a[1].fence && of_a[1].fence < of_a[2].fence);
    assert_eq!(log.bodies().iter().filter(|it| *it == "other").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_effect_is_parked_and_blocks_its_key_and_nothing_else() {
    let place = Place::new().await;
    let ids = place.add(&["poison", "behind"].map(|it| effect(Some("a"), it))).await;
    let also = place.add(&["refused", "after"].map(|it| effect(Some("b"), it))).await;
    place.add(&[effect(Some("c"), "c"), effect(None, "free")]).await;
    let log = Log::default();
    let relay = place.relay(Scripted(log.clone(), |it: onceward_queue::outbox::Outgoing| async move {
        match &*it.body {
            b"poison" => panic!("this is the sender's panic, and meant"),
            b"refused" => Err(SendFailure::park("no such topic")),
            _ => Ok(()),
        }
    }));
    place.until_parked(2).await;
    eventually(async || place.stats().await.unsent == 4).await;
    let parked = place.outbox.parked(&place.pool, 0, 10).await.unwrap();
    let told: Vec<_> =
        parked.iter().map(|it| (it.effect.id, it.effect.attempt, it.reason.as_str())).collect();
    let mut wanted = [(ids[0], 3, "failed 3 times: its sender panicked"), (also[0], 1, "no such topic")];
    wanted.sort_by_key(|it| parked.iter().position(|parked| parked.effect.id == it.0));
    assert_eq!(told, wanted);
    assert_eq!(place.outbox.parked(&place.pool, parked[0].number, 10).await.unwrap().len(), 1);
    assert_eq!(log.bodies().iter().filter(|it| *it == "poison").count(), 3);
    relay.stop().await;

    let log = Log::default();
    let relay = place.relay(log.clone());
    assert_eq!(place.outbox.redrive(&place.pool, &[ids[0], ids[1]]).await.unwrap(), [ids[0]]);
    assert_eq!(place.outbox.drop_parked(&place.pool, &[also[0]]).await.unwrap(), [also[0]]);
    place.until_all_is_sent().await;
    relay.stop().await;
    let mut bodies = log.bodies();
    assert!(bodies.iter().position(|it| it == "poison") < bodies.iter().position(|it| it == "behind"));
    bodies.sort();
    assert_eq!(bodies, ["after", "behind", "poison"]);
    assert!(log.all().iter().all(|it| [ids[0], ids[1], also[1]].contains(&it.id)), "under their ids");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_had_goes_out_through_another() {
    let place = Place::new().await;
    place.add(&["1", "2"].map(|it| effect(Some("a"), it))).await;
    let (log, begun) = (Log::default(), Arc::new(Notify::new()));
    let began = Arc::clone(&begun);
    let killed = place.relay(Scripted(log.clone(), move |_| {
        began.notify_one();
        pending()
    }));
    within(begun.notified()).await;
    killed.kill().await;
    let relay = place.relay(log.clone());
    place.until_all_is_sent().await;
    relay.stop().await;
    assert_eq!(log.bodies(), ["1", "1", "2"]);
    assert_eq!(log.all()[1].attempt, 2, "it may have arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_may_take_longer_than_a_lease() {
    let place = Place::new().await;
    place.add(&[effect(Some("a"), "1"), effect(Some("a"), "2")]).await;
    let log = Log::default();
    let (one, two) = [(); 2]
        .map(|()| {
            place.relay(Scripted(log.clone(), |_| async {
                tokio::time::sleep(Duration::from_millis(2500)).await;
                Ok(())
            }))
        })
        .into();
    place.until_all_is_sent().await;
    one.stop().await;
    two.stop().await;
    assert_eq!(log.bodies(), ["1", "2"], "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_ends_what_is_on_its_way_and_gives_the_rest_back() {
    let mut place = Place::new().await;
    place.settings.parallel = 2;
    place.settings.lease = Duration::from_secs(3600);
    let effects: Vec<_> = (0..6).map(|it| effect(Some(["a", "b", "c"][it % 3]), &it.to_string())).collect();
    place.add(&effects).await;
    let (log, go_on) = (Log::default(), Arc::new(Semaphore::new(0)));
    let gate = Arc::clone(&go_on);
    let relay = place.relay(Scripted(log.clone(), move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    }));
    log.until(2).await;
    let (_, ()) = tokio::join!(relay.stop(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        go_on.add_permits(2);
    });
    assert_eq!(log.all().len(), 2, "nothing more was begun");
    let stats = place.stats().await;
    assert_eq!((stats.unsent, stats.owned, stats.attempts), (4, 0, 0));
    // What does not end in time is dropped and given back, too.
    place.settings.drain = Duration::from_millis(100);
    let relay = place.relay(Scripted(log.clone(), |_| pending()));
    log.until(4).await;
    relay.stop().await;
    let stats = place.stats().await;
    assert_eq!((stats.unsent, stats.owned), (4, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hangs_is_not_waited_for() {
    let mut place = Place::new().await;
    place.settings.send_max = Duration::from_millis(50);
    place.add(&[effect(None, "1")]).await;
    let relay = place.relay(Scripted(Log::default(), |_| pending()));
    place.until_parked(1).await;
    relay.stop().await;
    let parked = place.outbox.parked(&place.pool, 0, 10).await.unwrap();
    assert_eq!(parked[0].reason, "failed 3 times: it took longer than send_max");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_listens_is_woken_by_a_commit() {
    let mut place = Place::new().await;
    place.settings.poll = Duration::from_secs(3600);
    place.settings.listen = true;
    place.outbox = Place::notifying();
    let log = Log::default();
    let relay = place.relay(log.clone());
    place.add(&[effect(None, "1")]).await;
    log.until(1).await;
    place.add(&[effect(None, "2")]).await;
    log.until(2).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_effects_are_removed_after_a_while() {
    let mut place = Place::new().await;
    place.settings.keep = Some(Duration::ZERO);
    place.add(&["1", "2"].map(|it| effect(None, it))).await;
    let first = place.relay(Log::default());
    place.until_all_is_sent().await;
    first.stop().await;
    let second = place.relay(Log::default());
    eventually(async || {
        let sql = "SELECT count(*) FROM onceward_outbox";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&place.pool).await.unwrap() == 0
    })
    .await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_of_other_kinds_are_left_to_other_relays() {
    let place = Place::new().await;
    place.add(&[effect(None, "log")]).await;
    let mut mail = effect(None, "mail");
    mail.kind = "mail".into();
    place.add(&[mail]).await;
    let log = Log::default();
    let relay = place.relay(log.clone());
    eventually(async || place.stats().await.unsent == 1).await;
    relay.stop().await;
    assert_eq!(log.bodies(), ["log"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused() {
    let place = Place::new().await;
    let of = |settings: RelaySettings| {
        Relay::new(place.pool.clone(), place.outbox.clone())
            .sender("log", Log::default())
            .clock(Arc::new(SystemClock))
            .settings(settings)
            .run(pending())
    };
    let good = RelaySettings::default();
    for wrong in [
        RelaySettings { lease: Duration::from_millis(999), ..good.clone() },
        RelaySettings { parallel: 0, ..good.clone() },
        RelaySettings { line_max: 0, ..good.clone() },
        RelaySettings { poll: Duration::ZERO, ..good.clone() },
    ] {
        assert_eq!(of(wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let none = Relay::new(place.pool.clone(), place.outbox.clone()).run(pending());
    assert_eq!(none.await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_nothing_is_lost_or_asked_in_a_hot_loop() {
    let place = Place::new().await;
    let server = onceward_testkit::server::Postgres::start(&[]);
    let url = server.url("onceward");
    onceward_store_postgres::migrate(&onceward_store_postgres::PostgresSettings::from_url(&url).unwrap())
        .await
        .unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(Duration::from_secs(1))
        .connect(&url)
        .await
        .unwrap();
    let place = Place { url, pool, ..place };
    let ids = place.add(&["1", "2", "3"].map(|it| effect(Some("a"), it))).await;
    let (log, go_on) = (Log::default(), Arc::new(Semaphore::new(0)));
    let gate = Arc::clone(&go_on);
    let relay = Running::new(
        Relay::new(place.pool.clone(), place.outbox.clone())
            .sender(
                "log",
                Scripted(log.clone(), move |_| {
                    let gate = Arc::clone(&gate);
                    async move {
                        gate.acquire().await.unwrap().forget();
                        Ok(())
                    }
                }),
            )
            .settings(place.settings.clone())
            .observer(Arc::<super::place::Events>::clone(&place.events)),
    );
    log.until(1).await;
    server.kill();
    go_on.add_permits(100);
    // Its lease runs out meanwhile, so it stops to send.
    eventually(async || place.events.count(|it| *it == RelayEvent::DatabaseFailed) > 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(place.events.count(|it| *it == RelayEvent::DatabaseFailed) < 200, "not in a hot loop");
    server.restart();
    eventually(async || place.outbox.stats(&place.pool).await.is_ok_and(|it| it.unsent == 0)).await;
    relay.stop().await;
    let mut first: Vec<_> = log.all().iter().map(|it| it.id).collect();
    let mut seen = std::collections::HashSet::new();
    first.retain(|it| seen.insert(*it));
    assert_eq!(first, ids, "in order, whatever went out twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_lease_is_over_sends_nothing_more_of_it() {
    let place = Place::new().await;
    place.add(&["1", "2", "3"].map(|it| effect(Some("a"), it))).await;
    let (log, go_on, clock) = (Log::default(), Arc::new(Semaphore::new(0)), Arc::new(HandClock::default()));
    let gate = Arc::clone(&go_on);
    let sender = Scripted(log.clone(), move |_| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let relay = Relay::new(place.pool.clone(), place.outbox.clone()).sender("log", sender);
    let relay = relay.settings(place.settings.clone()).clock(Arc::<HandClock>::clone(&clock));
    let relay = Running::new(relay.observer(Arc::<super::place::Events>::clone(&place.events)));
    log.until(1).await;
    // As another relay does, once the lease is over by the server's clock.
    let sql = "UPDATE onceward_outbox SET fence = fence + 1, owner = decode(repeat('07', 16), 'hex')";
    sqlx::query(sql).execute(&place.pool).await.unwrap();
    clock.advance(place.settings.lease);
    eventually(async || place.events.count(|it| *it == RelayEvent::LeaseLost) == 1).await;
    go_on.add_permits(100);
    relay.stop().await;
    assert_eq!(log.bodies(), ["1"]);
    assert_eq!(place.stats().await.unsent, 3, "it could not say anything about them");
}
