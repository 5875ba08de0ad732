//! What adding promises: commits decide, and order within a key.

use onceward_queue::outbox::AddError;
use onceward_store_postgres::operations::is_conflict;
use onceward_testkit::{eventually, within};
use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::place::{Log, Place, effect};

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_goes_out_once_its_transaction_has_committed_and_only_then() {
    let place = Place::new().await;
    let log = Log::default();
    let relay = place.relay(log.clone());
    let mut committed = place.pool.begin().await.unwrap();
    let id = place.outbox.add(&mut committed, &effect(None, "committed")).await.unwrap();
    let mut inner = committed.begin().await.unwrap();
    place.outbox.add(&mut inner, &effect(Some("k"), "back to a savepoint")).await.unwrap();
    inner.rollback().await.unwrap();
    let mut undone = place.pool.begin().await.unwrap();
    place.outbox.add(&mut undone, &effect(None, "rolled back")).await.unwrap();
    place.add(&[effect(None, "others")]).await;
    place.until_all_is_sent().await;
    assert_eq!(log.bodies(), ["others"]);
    undone.rollback().await.unwrap();
    committed.commit().await.unwrap();
    log.until(2).await;
    place.until_all_is_sent().await;
    relay.stop().await;
    assert_eq!(log.bodies(), ["others", "committed"]);
    let sent = &log.all()[1];
    assert_eq!((sent.id, sent.attempt, sent.destination.as_str()), (id, 1, "here"));
    assert_eq!(sent.headers, effect(None, "").headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_adds_to_a_key_waits_for_others_that_did_and_nobody_else_waits() {
    let place = Place::new().await;
    let mut first = place.pool.begin().await.unwrap();
    place.outbox.add(&mut first, &effect(Some("a"), "first")).await.unwrap();
    let (pool, outbox) = (place.pool.clone(), place.outbox.clone());
    let mut second = JoinSet::new();
    second.spawn(async move {
        let mut transaction = pool.begin().await.unwrap();
        outbox.add(&mut transaction, &effect(Some("a"), "second")).await.unwrap();
        transaction.commit().await.unwrap();
    });
    eventually(async || place.waiting().await == 1).await;
    place.add(&[effect(Some("b"), "b"), effect(None, "none")]).await;
    let log = Log::default();
    let relay = place.relay(log.clone());
    place.until_all_is_sent().await;
    assert_eq!(place.waiting().await, 1, "it still does");
    first.commit().await.unwrap();
    within(second.join_next()).await.unwrap().unwrap();
    place.until_all_is_sent().await;
    relay.stop().await;
    assert_eq!(log.bodies()[2..], ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_add_several_keys_meet_once_or_never_in_one_order() {
    let place = Place::new().await;
    let both = [effect(Some("a"), "a"), effect(Some("b"), "b")];
    let [mut one, mut two] = [place.pool.begin().await.unwrap(), place.pool.begin().await.unwrap()];
    place.outbox.add(&mut one, &both[0]).await.unwrap();
    place.outbox.add(&mut two, &both[1]).await.unwrap();
    let (first, second) = within(async {
        tokio::join!(place.outbox.add(&mut one, &both[1]), async {
            let told = place.outbox.add(&mut two, &both[0]).await;
            two.rollback().await.unwrap();
            told
        })
    })
    .await;
    let failed: Vec<AddError> = [first.err(), second.err()].into_iter().flatten().collect();
    assert_eq!(failed.len(), 1);
    assert!(is_conflict(&failed[0]), "it is begun again");
    drop(one);
    let mut adding = JoinSet::new();
    for number in 0..40 {
        let (pool, outbox, mut both) = (place.pool.clone(), place.outbox.clone(), both.clone());
        both.rotate_left(number % 2);
        adding.spawn(async move {
            let mut transaction = pool.begin().await.unwrap();
            let ids = outbox.add_all(&mut transaction, &both).await.unwrap();
            transaction.commit().await.unwrap();
            both.into_iter().zip(ids).map(|(it, id)| (it.body, id)).collect::<Vec<_>>()
        });
    }
    let added: std::collections::HashSet<_> = within(adding.join_all()).await.into_iter().flatten().collect();
    let log = Log::default();
    let relay = place.relay(log.clone());
    place.until_all_is_sent().await;
    relay.stop().await;
    let sent = log.all().into_iter().map(|it| (it.body, it.id)).collect();
    assert_eq!(added, sent, "each id belongs to its effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_breaks_a_rule_is_refused_before_it_is_sent_to_the_server() {
    let place = Place::new().await;
    let mut transaction = place.pool.begin().await.unwrap();
    let good = effect(None, "");
    for bad in [
        onceward_queue::outbox::Effect { kind: String::new(), ..good.clone() },
        onceward_queue::outbox::Effect { kind: "k".repeat(65), ..good.clone() },
        onceward_queue::outbox::Effect { destination: "\0".into(), ..good.clone() },
    ] {
        let told = place.outbox.add(&mut transaction, &bad).await;
        assert!(matches!(told, Err(AddError::Invalid(_))), "{told:?}");
    }
    place.outbox.add(&mut transaction, &good).await.unwrap();
}
