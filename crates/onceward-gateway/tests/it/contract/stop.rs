//! Told to stop, the gateway lets everything finish that finishes in time.

use std::time::Duration;

use onceward_gateway::Ended;
use onceward_gateway::settings::Settings;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::origin::fed;
use super::world::*;

/// Long enough that no step ends by its time.
fn patient(settings: &mut Settings) {
    (settings.drain_delay, settings.drain) = (Duration::from_millis(100), Duration::from_secs(20));
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_and_cleanly() {
    each(async |pair| {
        // The delays are the defaults: nothing is open, so nothing is waited for.
        let world = World::start(pair, "", paid).await;
        world.send(pay("k")).await.assert_first(201);
        let started = tokio::time::Instant::now();
        assert_eq!(within(world.gateway.stop()).await, Ended::Clean);
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(TcpStream::connect(world.caller.addr).await.is_err());
        assert!(TcpStream::connect(world.admin.addr).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn during_the_delay_it_still_accepts_and_says_that_it_is_not_ready() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::before(Origin::start(paid_after(&gate)).await, pair, "", |it| {
            it.drain_delay = Duration::from_secs(20);
        })
        .await;
        let first = world.send_aside(pay("k"));
        world.origin.until_effects(1).await;
        let mut stopping = JoinSet::new();
        stopping.spawn(world.gateway.stop());
        within(async {
            while world.admin.send(ask("GET", "/readyz")).await.status != 503 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        gate.add_permits(10);
        let mut line = world.caller.connect().await;
        Got::read(within(line.send(post("/late").key("k"))).await.unwrap()).await.assert_first(201);
        first.got().await.assert_first(201);
        // The last connection is gone, and with it the reason to wait.
        drop(line);
        assert_eq!(within(stopping.join_next()).await.unwrap().unwrap(), Ended::Clean);
    })
    .await;
}

#[tokio::test]
async fn what_runs_is_answered_and_its_connection_told_to_close() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::before(Origin::start(paid_after(&gate)).await, pair, "", patient).await;
        let mut line = world.caller.connect().await;
        let answer = line.send(pay("k"));
        world.origin.until_effects(1).await;
        let mut stopping = JoinSet::new();
        stopping.spawn(world.gateway.stop());
        within(async {
            while TcpStream::connect(world.caller.addr).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        gate.add_permits(1);
        let got = Got::read(within(answer).await.unwrap()).await;
        got.assert_first(201);
        if pair.front == Wire::H1 {
            assert_eq!(got.header("connection"), Some("close"));
        }
        // The server ends it: by closing, or by GOAWAY, after which HTTP/2 clients let go.
        line.ended().await.unwrap();
        assert_eq!(within(stopping.join_next()).await.unwrap().unwrap(), Ended::Clean);
        let next = World::over(world.store, world.origin, pair, "", |_| {}).await;
        next.send(pay("k")).await.assert_replay(201);
        assert_eq!(next.effects(), 1);
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_do_not_hold_it_up() {
    each(async |pair| {
        let world = World::before(Origin::start(paid).await, pair, "", patient).await;
        let mut line = world.caller.connect().await;
        Got::read(within(line.send(pay("k"))).await.unwrap()).await.assert_first(201);
        let mut stopping = JoinSet::new();
        stopping.spawn(world.gateway.stop());
        line.ended().await.unwrap();
        assert_eq!(within(stopping.join_next()).await.unwrap().unwrap(), Ended::Clean);
    })
    .await;
}

#[tokio::test]
async fn work_whose_caller_has_left_is_waited_for() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::before(Origin::start(paid_after(&gate)).await, pair, "", patient).await;
        let mut line = world.caller.connect().await;
        let answer = line.send(pay("k"));
        world.origin.until_effects(1).await;
        drop((answer, line));
        let mut stopping = JoinSet::new();
        stopping.spawn(world.gateway.stop());
        within(async {
            while TcpStream::connect(world.caller.addr).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert!(stopping.try_join_next().is_none());
        gate.add_permits(1);
        assert_eq!(within(stopping.join_next()).await.unwrap().unwrap(), Ended::Clean);
        let next = World::over(world.store, world.origin, pair, "", |_| {}).await;
        next.send(pay("k")).await.assert_replay(201);
    })
    .await;
}

#[tokio::test]
async fn what_still_runs_at_the_end_of_the_drain_is_abandoned_and_unresolved_at_once() {
    each(async |pair| {
        let gate = turnstile();
        let world = World::before(Origin::start(paid_after(&gate)).await, pair, "", |it| {
            (it.drain_delay, it.drain) = (Duration::ZERO, Duration::from_millis(200));
        })
        .await;
        let first = world.send_aside(pay("a"));
        let mut line = world.caller.connect().await;
        let left = line.send(pay("b"));
        world.origin.until_effects(2).await;
        drop((left, line));
        assert_eq!(within(world.gateway.stop()).await, Ended::Abandoned(2));
        first.got().await.assert_problem(504, "outcome-unresolved");
        // Far sooner than the lease of 30 s.
        let next = World::over(world.store, world.origin, pair, "", |_| {}).await;
        for key in ["a", "b"] {
            next.send(pay(key)).await.assert_problem(409, "unresolved");
        }
        assert_eq!(next.effects(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_and_abandons_nothing() {
    each(async |pair| {
        let handler = |_| async {
            let (sender, body) = fed();
            std::mem::forget(sender);
            reply(200, &[("content-type", "text/event-stream")], body)
        };
        let world = World::before(Origin::start(handler).await, pair, "", |it| {
            (it.drain_delay, it.drain) = (Duration::ZERO, Duration::from_millis(200));
        })
        .await;
        let mut line = world.caller.connect().await;
        let answer = within(line.send(ask("GET", "/events"))).await.unwrap();
        assert_eq!(within(world.gateway.stop()).await, Ended::Clean);
        drop(answer);
        drop(within(line.ended()).await);
    })
    .await;
}
