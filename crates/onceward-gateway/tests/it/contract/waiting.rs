//! Duplicates that meet a running first attempt.

use super::world::*;

#[tokio::test]
async fn of_twenty_at_once_one_runs_and_nineteen_are_told_to_come_back() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, "", paid_after(&gate)).await;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            callers.spawn(world.send(pay("k")));
        }
        for _ in 0..19 {
            let got = within(callers.join_next()).await.unwrap().unwrap();
            got.assert_problem(409, "in-progress");
            assert_eq!(got.header("retry-after"), Some("1"));
        }
        gate.add_permits(1);
        within(callers.join_next()).await.unwrap().unwrap().assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn of_twenty_that_wait_one_runs_and_nineteen_get_its_answer() {
    let wait = "[policy]\nin_flight = \"wait 20s\"\n";
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, wait, paid_after(&gate)).await;
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..20 {
            callers.spawn(world.send(pay("k")));
        }
        world.origin.until_effects(1).await;
        // Another request does not wait, it is refused at once.
        world.send(pay_other("k")).await.assert_problem(422, "key-reused");
        gate.add_permits(1);
        let all = within(callers.join_all()).await;
        assert_eq!(all.iter().filter(|it| it.is_replay()).count(), 19);
        assert!(all.iter().all(|it| it.status == 201 && it.body == "paid"));
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_that_wait_at_two_gateways_get_the_answer_of_the_first() {
    let wait = "[policy]\nin_flight = \"wait 20s\"\n";
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, wait, paid_after(&gate)).await;
        let other = World::over(world.store.clone(), world.origin.clone(), pair, wait, |_| {}).await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        let waiting = [world.send_aside(pay("k")), other.send_aside(pay("k"))];
        gate.add_permits(1);
        first.got().await.assert_first(201);
        for it in waiting {
            it.got().await.assert_replay(201);
        }
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_waiter_whose_patience_ends_is_told_to_come_back_and_the_first_goes_on() {
    let wait = "[policy]\nin_flight = \"wait 100ms\"\n";
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, wait, paid_after(&gate)).await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        world.send(pay("k")).await.assert_problem(409, "in-progress");
        gate.add_permits(1);
        first.got().await.assert_first(201);
    })
    .await;
}
