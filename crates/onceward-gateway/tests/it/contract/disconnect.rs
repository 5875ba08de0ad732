//! A client that leaves does not cancel the work.

use bytes::Bytes;

use super::origin::{Cut, fed};
use super::world::*;

#[tokio::test]
async fn a_connection_that_closes_mid_operation_leaves_one_effect_and_its_answer() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::start(pair, "", paid_after(&gate)).await;
        let mut line = world.caller.connect().await;
        let answer = line.send(pay("k"));
        world.origin.until_effects(1).await;
        drop((answer, line));
        // The first still runs, so a retry is told to come back.
        let busy = world.send(pay("k")).await;
        busy.assert_problem(409, "in-progress");
        assert_eq!(busy.header("retry-after"), Some("1"));
        gate.add_permits(1);
        world.pay_until("k", Got::is_replay).await.assert_replay(201);
        assert_eq!(world.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_mid_operation_leaves_one_effect_and_its_answer() {
    for back in [Wire::H1, Wire::H2c] {
        let gate = turnstile();
        let world = World::start(Pair { front: Wire::H2c, back }, "", paid_after(&gate)).await;
        let mut line = world.caller.connect().await;
        let answer = line.send(pay("k"));
        world.origin.until_effects(1).await;
        drop(answer);
        // On the same connection, so that the reset has come when this is answered.
        let busy = Got::read(within(line.send(pay("k"))).await.unwrap()).await;
        busy.assert_problem(409, "in-progress");
        gate.add_permits(1);
        world.pay_until("k", Got::is_replay).await.assert_replay(201);
        assert_eq!((world.effects(), line.is_closed()), (1, false));
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_its_upload_claims_nothing() {
    each(async |pair| {
        let world = World::start(pair, "", paid).await;
        world.send(pay("warm")).await.assert_first(201);
        world.store.forget();
        let (mut sender, body) = fed();
        let mut line = world.caller.connect().await;
        let answer = line.send(post("/payments").key("k").body(body));
        sender.send_data(Bytes::from_static(b"{\"amount\"")).await.unwrap();
        sender.abort(Cut);
        drop(within(answer).await);
        drop(line);
        world.send(pay("k")).await.assert_first(201);
        assert_eq!((world.effects(), world.claims()), (2, 1));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_a_request_that_passes_through_ends_it() {
    each(async |pair| {
        let (gone, mut left) = tokio::sync::mpsc::unbounded_channel();
        let handler = move |_| {
            let gone = gone.clone();
            async move {
                let (mut sender, body) = fed();
                tokio_util::task::TaskTracker::new().spawn(async move {
                    while sender.send_data(Bytes::from_static(b"tick")).await.is_ok() {
                        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                    }
                    gone.send(()).unwrap();
                });
                reply(200, &[], body)
            }
        };
        let world = World::start(pair, "", handler).await;
        let mut line = world.caller.connect().await;
        let answer = within(line.send(ask("GET", "/"))).await.unwrap();
        drop((answer, line));
        within(left.recv()).await.unwrap();
    })
    .await;
}
