//! The store is away: operations are refused, everything else goes on.

use onceward_testkit::{Fault, Op};

use super::world::*;

#[tokio::test]
async fn while_the_store_is_down_operations_are_refused_and_everything_else_passes() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("before")).await.assert_first(201);
        world.store.down(Fault::Refused);
        for key in ["new", "other"] {
            let got = world.send(pay(key)).await;
            got.assert_problem(503, "store-unavailable");
            assert_eq!(got.header("retry-after"), Some("1"));
        }
        world.send(ask("GET", "/")).await.assert_first(201);
        world.send(post("/no-key")).await.assert_first(201);
        assert_eq!(world.effects(), 3);
        world.store.up();
        world.send(pay("new")).await.assert_first(201);
        world.send(pay("before")).await.assert_replay(201);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_down_from_the_start_refuses_operations_until_it_comes() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.store.down(Fault::Refused);
        world.send(pay("k")).await.assert_problem(503, "store-unavailable");
        world.store.up();
        world.send(pay("k")).await.assert_first(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_route_may_fail_open() {
    let routes = "[[route]]\npath = \"/payments\"\nfail_open = true\n";
    each(async |pair| {
        let world = World::start(pair, routes, always(201, &[("onceward-outcome", "store")], b"paid")).await;
        world.send(pay("warm")).await.assert_first(201);
        world.store.down(Fault::Refused);
        for _ in 0..2 {
            let got = world.send(pay("k").header("onceward-fence", "7")).await;
            got.assert_first(201);
            assert_eq!(got.header("onceward-outcome"), None);
            assert_eq!(world.origin.last().header("onceward-fence"), None);
        }
        assert_eq!(world.effects(), 3);
        world.send(post("/orders").key("k")).await.assert_problem(503, "store-unavailable");
        world.send(pay("\"k")).await.assert_problem(400, "key-invalid");
    })
    .await;
}

#[tokio::test]
async fn a_claim_whose_reply_was_lost_runs_once() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("warm")).await.assert_first(201);
        world.store.cue(Op::Insert, 1, Fault::ReplyLost);
        world.send(pay("k")).await.assert_first(201);
        world.send(pay("k")).await.assert_replay(201);
        assert_eq!(world.effects(), 2);
    })
    .await;
}
