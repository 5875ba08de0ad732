//! What every source keeps, by name. Each promise is shown by real deliveries; none of them measures a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use onceward_core::Unresolved;
use onceward_queue::{ConsumerSettings, Event, Failure, Letters, Message, Order, REDRIVEN, Reason, Redriven};
use onceward_testkit::{Fault, eventually, within};
use tokio::sync::{Notify, Semaphore};

use crate::fixture::{Fixture, not_shown};
use crate::scene::{Scene, settings};

const HOLD: Unresolved = Unresolved::Hold;
const RERUN: Unresolved = Unresolved::Rerun;

pub(crate) async fn a_message_is_handled_once_and_acknowledged(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let running = scene.consume_plainly(settings(HOLD)).await;
    scene.publish(&["m-1", "m-2", "m-3"]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    let mut effects = scene.ledger.effects();
    effects.sort();
    assert_eq!(effects, ["m-1", "m-2", "m-3"]);
    assert_eq!(scene.letters().await, []);
}

pub(crate) async fn a_message_that_comes_five_times_to_two_consumers_has_its_effect_once(
    fixture: Arc<dyn Fixture>,
) {
    let scene = Scene::new(fixture);
    let first = scene.consume_plainly(settings(HOLD)).await;
    let second = scene.consume_plainly(settings(HOLD)).await;
    for _ in 0..5 {
        scene.publish(&["order-paid-1", "order-paid-2"]).await;
    }
    eventually(async || scene.is_empty().await).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(scene.ledger.count_of("order-paid-1"), 1);
    assert_eq!(scene.ledger.count_of("order-paid-2"), 1);
    let repeats = scene.events.count(|it| matches!(it, Event::DuplicateOfDone));
    assert!(repeats >= 8, "{repeats}: each repeat was known");
}

pub(crate) async fn what_a_killed_consumer_had_done_is_not_run_again(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let ids: Vec<_> = (0..20).map(|it| format!("m-{it}")).collect();
    scene.publish(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for round in 1..4 {
        let running = scene.consume_plainly(settings(HOLD)).await;
        // Whatever was done by then: some of it is acknowledged, some not yet.
        eventually(async || scene.events.count(|it| *it == Event::Done) >= round * 5).await;
        running.kill().await;
    }
    let running = scene.consume_plainly(settings(HOLD)).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    for (id, count) in scene.ledger.counts() {
        assert_eq!(count, 1, "{id}");
    }
    // A kill between the effect and its note leaves it unresolved, and nothing else does.
    let letters = scene.letters().await;
    assert!(letters.iter().all(|it| it.reason == Reason::Unresolved), "{letters:?}");
    assert_eq!(scene.events.count(|it| *it == Event::Done) + letters.len(), 20);
}

pub(crate) async fn a_repeat_of_a_running_message_is_not_acknowledged_and_takes_over_when_its_holder_dies(
    fixture: Arc<dyn Fixture>,
) {
    let scene = Scene::new(fixture);
    let begun = Arc::new(Notify::new());
    let began = Arc::clone(&begun);
    let holder = scene
        .consume(settings(RERUN), move |_| {
            began.notify_one();
            std::future::pending()
        })
        .await;
    scene.publish(&["m-1"]).await;
    within(begun.notified()).await;
    // Under another key of the broker's, which would else hold it back itself.
    let repeat = Message { key: Some(Bytes::from_static(b"other")), ..scene.message("m-1", "{}") };
    scene.fixture.publish(&[repeat]).await;
    let other = scene.consume_plainly(settings(RERUN)).await;
    eventually(async || scene.events.count(|it| *it == Event::DuplicateOfRunning) > 0).await;
    assert!(!scene.is_empty().await);
    assert_eq!(scene.ledger.effects(), [""; 0]);
    holder.kill().await;
    eventually(async || scene.is_empty().await).await;
    other.stop().await;
    assert_eq!(scene.ledger.effects(), ["m-1"]);
    // Had the repeat been acknowledged while the first ran, nobody would have come for the second time.
    assert!(scene.events.count(|it| *it == Event::DuplicateOfDone) > 0);
}

pub(crate) async fn a_handler_that_asks_for_it_runs_again_and_blocks_no_other_key(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let ledger = Arc::clone(&scene.ledger);
    let others = Arc::new(Semaphore::new(0));
    let (may_pass, tries) = (Arc::clone(&others), Arc::new(AtomicUsize::new(0)));
    let made = Arc::clone(&tries);
    let running = scene
        .consume(ConsumerSettings { order: Order::Key, ..settings(HOLD) }, move |it| {
            let (ledger, others, made) = (Arc::clone(&ledger), Arc::clone(&may_pass), Arc::clone(&made));
            async move {
                if it.key.as_str() == "slow" {
                    made.fetch_add(1, Ordering::SeqCst);
                    if it.attempt == 1 {
                        return Err(Failure::retry("not yet"));
                    }
                    // Its second attempt ends only when all others have passed it.
                    others.acquire_many(9).await.unwrap().forget();
                }
                others.add_permits(1);
                ledger.note(it.key.as_str());
                Ok(())
            }
        })
        .await;
    scene.publish(&["slow", "a", "b", "c", "d", "e", "f", "g", "h", "i"]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.effects().len(), 10);
    assert_eq!(scene.ledger.effects().last().unwrap(), "slow");
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    assert_eq!(scene.events.count(|it| matches!(it, Event::Retried(_))), 1);
}

pub(crate) async fn a_handler_that_takes_the_process_with_it_is_parked_after_as_many_attempts_as_there_may_be(
    fixture: Arc<dyn Fixture>,
) {
    let scene = Scene::new(fixture);
    scene.publish(&["bomb"]).await;
    let (exploded, begun) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let mut kills = 0;
    loop {
        let (explode, count) = (Arc::clone(&exploded), Arc::clone(&begun));
        let running = scene
            .consume(settings(RERUN), move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                explode.notify_one();
                std::future::pending()
            })
            .await;
        let parked = eventually(async || !scene.letters().await.is_empty());
        tokio::select! {
            () = exploded.notified() => running.kill().await,
            () = parked => {
                eventually(async || scene.is_empty().await).await;
                running.stop().await;
                break;
            }
        }
        kills += 1;
        assert!(kills < 8, "it is tried for ever");
    }
    let letters = scene.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, Reason::Attempts);
    assert_eq!(begun.load(Ordering::SeqCst), 3, "as often as it may");
    // Its place is free for others.
    let running = scene.consume_plainly(settings(RERUN)).await;
    scene.publish(&["bomb", "m-2"]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.effects(), ["m-2"]);
    assert_eq!(scene.letters().await.len(), 1, "parked once");
}

pub(crate) async fn an_effect_that_may_have_happened_is_held_and_parked(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let runs = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&runs);
    let running = scene
        .consume(settings(HOLD), move |it| {
            made.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(it.key.as_str() != "panics", "this is the handler's panic, and meant");
                Err(std::io::Error::other("the card network did not answer"))?
            }
        })
        .await;
    scene.publish(&["fails", "panics", "fails", "panics"]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2, "each once");
    let mut letters = scene.letters().await;
    letters.sort_by(|a, b| a.detail.cmp(&b.detail));
    let said: Vec<_> = letters.iter().map(|it| (it.reason, it.detail.as_str(), it.attempts)).collect();
    let wanted = ["the card network did not answer", "the handler panicked"];
    assert_eq!(said, wanted.map(|it| (Reason::Unresolved, it, 1)));
}

pub(crate) async fn the_same_id_with_another_payload_is_parked(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let running = scene.consume_plainly(settings(HOLD)).await;
    scene.publish(&["m-1"]).await;
    eventually(async || scene.is_empty().await).await;
    let other = scene.message("m-1", r#"{"cents":1}"#);
    scene.fixture.publish(&[other.clone(), other.clone()]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.effects(), ["m-1"]);
    let letters = scene.letters().await;
    assert_eq!(letters.len(), 1, "two deliveries of one misuse are one letter");
    assert_eq!(letters[0].reason, Reason::OtherPayload);
    assert_eq!(letters[0].message.body, other.body);
    let (letters, source) = (Letters::new(scene.engine()), scene.fixture.source().await);
    let id = letters.list(None, None, 10).await.unwrap().0[0].0;
    assert_eq!(letters.redrive(id, &source, true).await.unwrap(), Redriven::OtherPayload);
    assert!(letters.forget(id).await.unwrap());
    assert_eq!(letters.get(id).await.unwrap(), None);
    assert_eq!(letters.redrive(id, &source, true).await.unwrap(), Redriven::NotFound);
    source.close().await;
}

pub(crate) async fn a_dead_letter_that_is_sent_again_runs_once_and_its_first_message_stays_dead(
    fixture: Arc<dyn Fixture>,
) {
    let scene = Scene::new(fixture);
    let mended = Arc::new(AtomicBool::new(false));
    let (ledger, is_mended) = (Arc::clone(&scene.ledger), Arc::clone(&mended));
    let running = scene
        .consume(settings(HOLD), move |it| {
            let (ledger, is_mended) = (Arc::clone(&ledger), Arc::clone(&is_mended));
            async move {
                match it.key.as_str() {
                    "unknown" if !is_mended.load(Ordering::SeqCst) => Err(Failure::unknown("no answer")),
                    _ if !is_mended.load(Ordering::SeqCst) => Err(Failure::park("no such order")),
                    key => {
                        ledger.note(key);
                        Ok(())
                    }
                }
            }
        })
        .await;
    scene.publish(&["park", "unknown"]).await;
    eventually(async || scene.is_empty().await).await;
    mended.store(true, Ordering::SeqCst);

    let letters = Letters::new(scene.engine());
    let source = scene.fixture.source().await;
    let (found, _) = letters.list(Some(scene.fixture.topic()), None, 10).await.unwrap();
    assert_eq!(found.len(), 2);
    for (id, letter) in found {
        if letter.reason == Reason::Unresolved {
            assert_eq!(letters.redrive(id, &source, false).await.unwrap(), Redriven::Unresolved);
        }
        // Twice, as by two operators, or by one whose first answer was lost.
        let (one, two) = tokio::join!(letters.redrive(id, &source, true), letters.redrive(id, &source, true));
        assert!([one.unwrap(), two.unwrap()].contains(&Redriven::Published));
    }
    assert_eq!(letters.list(None, None, 10).await.unwrap().0, [], "they are gone at once");
    eventually(async || scene.is_empty().await).await;
    let mut effects = scene.ledger.effects();
    effects.sort();
    assert_eq!(effects, ["park", "unknown"], "once each");
    // What its producer sends again is what was dead, also if it says otherwise.
    scene.publish(&["park", "unknown"]).await;
    let mut spoofed = scene.message("park", "{}");
    spoofed
        .headers
        .push((REDRIVEN.to_owned(), Bytes::from(format!("{}.{}", "0".repeat(64), "0".repeat(32)))));
    scene.fixture.publish(&[spoofed]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    source.close().await;
    assert_eq!(scene.ledger.effects().len(), 2);
}

pub(crate) async fn a_message_without_an_id_is_parked_with_what_is_missing(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let running = scene.consume_plainly(settings(HOLD)).await;
    let headers = vec![("trace".to_owned(), Bytes::from_static(b"t-1"))];
    let nameless = Message { headers, ..scene.message("", "who am I") };
    scene.fixture.publish(std::slice::from_ref(&nameless)).await;
    scene.publish(&["m-1"]).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.effects(), ["m-1"]);
    let letters = scene.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason, letters[0].record.as_deref()), (Reason::NoIdentity, None));
    assert!(letters[0].detail.contains("no header `event-id`"), "{}", letters[0].detail);
    assert_eq!(letters[0].message.body, nameless.body);
    assert_eq!(letters[0].message.header("trace").unwrap(), Some(&Bytes::from_static(b"t-1")));
}

pub(crate) async fn while_the_store_is_away_nothing_is_lost_run_or_asked_in_a_hot_loop(
    fixture: Arc<dyn Fixture>,
) {
    let scene = Scene::new(fixture);
    let running = scene.consume_plainly(settings(HOLD)).await;
    scene.publish(&["m-0"]).await;
    eventually(async || scene.is_empty().await).await;
    scene.store.down(Fault::Refused);
    let ids: Vec<_> = (1..40).map(|it| format!("m-{it}")).collect();
    scene.publish(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    eventually(async || scene.events.count(|it| *it == Event::Paused) > 0).await;
    scene.store.forget();
    // Six more times is it asked whether it is back.
    eventually(async || scene.store.log().len() >= 6).await;
    let calls = scene.store.log();
    assert!(calls.len() < 50, "{}: at most what was begun before it was noticed", calls.len());
    assert_eq!(scene.ledger.effects(), ["m-0"]);
    scene.store.up();
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.counts().len(), 40);
    assert_eq!(scene.ledger.effects().len(), 40);
    assert_eq!(scene.letters().await, [], "it counts as nobody's failure");
    assert!(scene.events.count(|it| *it == Event::Resumed) > 0);
}

pub(crate) async fn messages_of_one_key_run_in_their_order(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let ordered = scene.fixture.source().await.capabilities().ordered;
    let ledger = Arc::clone(&scene.ledger);
    let messages: Vec<_> = (0..60)
        .map(|it| {
            let key = Bytes::from(format!("account-{}", it % 3));
            Message { key: Some(key), ..scene.message(&format!("m-{it}"), "{}") }
        })
        .collect();
    scene.fixture.publish(&messages).await;
    let order = ConsumerSettings { order: Order::Key, parallel: 8, ..settings(HOLD) };
    let running = scene
        .consume(order, move |it| {
            let ledger = Arc::clone(&ledger);
            async move {
                let number: usize = it.key.as_str()[2..].parse().unwrap();
                if number.is_multiple_of(7) && it.attempt == 1 {
                    return Err(Failure::retry("once more"));
                }
                tokio::task::yield_now().await;
                ledger.note(it.key.as_str());
                Ok(())
            }
        })
        .await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    let effects: Vec<usize> = scene.ledger.effects().iter().map(|it| it[2..].parse().unwrap()).collect();
    assert_eq!(effects.len(), 60);
    if ordered {
        for account in 0..3 {
            let of_account: Vec<_> = effects.iter().filter(|it| **it % 3 == account).collect();
            assert!(of_account.is_sorted(), "{of_account:?}");
        }
    } else {
        not_shown("messages_of_one_key_run_in_their_order", "the broker keeps no order");
    }
}

pub(crate) async fn a_consumer_that_stops_ends_what_runs_and_gives_the_rest_back(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let (begun, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (count, gate, ledger) = (Arc::clone(&begun), Arc::clone(&go_on), Arc::clone(&scene.ledger));
    let running = scene
        .consume(ConsumerSettings { parallel: 2, ..settings(HOLD) }, move |it| {
            let (gate, ledger) = (Arc::clone(&gate), Arc::clone(&ledger));
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                gate.acquire().await.unwrap().forget();
                ledger.note(it.key.as_str());
                Ok(())
            }
        })
        .await;
    scene.publish(&["m-1", "m-2", "m-3", "m-4", "m-5", "m-6"]).await;
    eventually(async || begun.load(Ordering::SeqCst) == 2).await;
    tokio::join!(biased; running.stop(), async { go_on.add_permits(6) });
    assert_eq!(scene.ledger.effects().len(), 2, "what ran has ended");
    assert_eq!(begun.load(Ordering::SeqCst), 2, "nothing more was begun");
    let running = scene.consume_plainly(settings(HOLD)).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    assert_eq!(scene.ledger.counts().len(), 6);
    assert_eq!(scene.ledger.effects().len(), 6);
    assert_eq!(scene.letters().await, []);
}

pub(crate) async fn a_handler_may_take_longer_than_a_delivery_lasts(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let Some(visible_for) = scene.fixture.source().await.capabilities().visible_for else {
        let reason = "a delivery lasts as long as its connection or session";
        return not_shown("a_handler_may_take_longer_than_a_delivery_lasts", reason);
    };
    let (ledger, ended) = (Arc::clone(&scene.ledger), Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&ended);
    // One at a time, so that the others wait in hand for as long.
    let running = scene
        .consume(ConsumerSettings { parallel: 1, ..settings(HOLD) }, move |it| {
            let (ledger, over) = (Arc::clone(&ledger), Arc::clone(&over));
            async move {
                if it.key.as_str() == "m-1" {
                    tokio::time::sleep(visible_for * 5 / 2).await;
                    over.store(true, Ordering::SeqCst);
                }
                ledger.note(it.key.as_str());
                Ok(())
            }
        })
        .await;
    scene.publish(&["m-1"]).await;
    eventually(async || scene.events.count(|it| matches!(it, Event::Begun { .. })) == 1).await;
    scene.publish(&["m-2", "m-3"]).await;
    let other = scene.consume_plainly(settings(HOLD)).await;
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    other.stop().await;
    assert!(ended.load(Ordering::SeqCst));
    assert_eq!(scene.ledger.effects().len(), 3);
    assert_eq!(scene.events.count(|it| matches!(it, Event::Received { redelivered: true })), 0);
    assert_eq!(scene.events.count(|it| *it == Event::DuplicateOfRunning), 0);
}

pub(crate) async fn what_is_published_arrives_as_it_was(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let source = scene.fixture.source().await;
    let sent = Message {
        topic: scene.fixture.topic().into(),
        key: Some(Bytes::from_static(b"account-7")),
        headers: vec![
            ("event-id".into(), Bytes::from_static(b"m-1")),
            ("trace".into(), Bytes::from_static("é".as_bytes())),
        ],
        body: Bytes::from_static(b"{\"text\":\"\xc3\xa9 \\u0000\"}"),
    };
    within(source.publish(&sent)).await.unwrap();
    let mut arrivals = within(source.receive(10)).await.unwrap();
    let Some(onceward_queue::source::Arrival::Delivered(delivery)) = arrivals.pop() else {
        panic!("{arrivals:?}")
    };
    let mut got = (*delivery.message).clone();
    got.headers.retain(|it| sent.headers.iter().any(|sent| sent.0.eq_ignore_ascii_case(&it.0)));
    assert_eq!((&got.topic, &got.body, got.headers), (&sent.topic, &sent.body, sent.headers));
    if source.capabilities().ordered {
        assert_eq!(got.key, sent.key, "what is ordered by is not lost");
    }
    within(source.acknowledge(&[delivery.receipt])).await.unwrap();
    eventually(async || scene.is_empty().await).await;
    source.close().await;
}

pub(crate) async fn a_consumer_that_joins_or_leaves_loses_and_doubles_nothing(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let ids: Vec<_> = (0..300).map(|it| format!("m-{it}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let first = scene.consume_plainly(settings(HOLD)).await;
    scene.publish(&ids[..100]).await;
    eventually(async || scene.ledger.effects().len() >= 20).await;
    let second = scene.consume_plainly(settings(HOLD)).await;
    scene.publish(&ids[100..200]).await;
    eventually(async || scene.ledger.effects().len() >= 120).await;
    first.stop().await;
    scene.publish(&ids[200..]).await;
    let third = scene.consume_plainly(settings(HOLD)).await;
    eventually(async || scene.is_empty().await).await;
    second.stop().await;
    third.stop().await;
    assert_eq!(scene.ledger.counts().len(), 300);
    assert_eq!(scene.ledger.effects().len(), 300);
    assert_eq!(scene.letters().await, []);
}

pub(crate) async fn a_broker_that_is_killed_loses_and_doubles_nothing(fixture: Arc<dyn Fixture>) {
    let scene = Scene::new(fixture);
    let running = scene.consume_plainly(settings(HOLD)).await;
    let ids: Vec<_> = (0..100).map(|it| format!("m-{it}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    scene.publish(&ids).await;
    eventually(async || scene.ledger.effects().len() >= 10).await;
    match scene.fixture.crash().await {
        Ok(()) => {
            scene.publish(&["after-the-crash"]).await;
            eventually(async || scene.ledger.count_of("after-the-crash") == 1).await;
        }
        Err(reason) => not_shown("a_broker_that_is_killed_loses_and_doubles_nothing", reason),
    }
    eventually(async || scene.is_empty().await).await;
    running.stop().await;
    for id in ids {
        assert_eq!(scene.ledger.count_of(id), 1, "{id}");
    }
}
