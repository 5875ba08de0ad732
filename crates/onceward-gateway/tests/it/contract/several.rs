//! Several upstreams behind one gateway: each operation has its effect at one of them, once.

use std::collections::HashSet;
use std::net::SocketAddr;

use onceward_gateway::settings::Settings;
use tokio::net::TcpSocket;

use super::origin::Cut;
use super::world::*;

/// A gateway before these addresses.
async fn before(addrs: &[SocketAddr], pair: Pair, toml: &str) -> World {
    let urls = addrs.iter().map(|it| url(*it).parse().unwrap()).collect();
    let tune = |it: &mut Settings| it.upstream.urls = urls;
    World::before(Origin::elsewhere(addrs[0]), pair, toml, tune).await
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

fn addrs(origins: &[Origin]) -> Vec<SocketAddr> {
    origins.iter().map(|it| it.addr).collect()
}

fn effects(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(Origin::effects).collect()
}

/// Every key that had an effect anywhere, as often as it had.
fn keys(origins: &[Origin]) -> Vec<String> {
    let seen = origins.iter().flat_map(Origin::seen);
    seen.map(|it| it.header("idempotency-key").unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_each_once(origins: &[Origin], count: usize) {
    let keys = keys(origins);
    assert_eq!((keys.len(), keys.iter().collect::<HashSet<_>>().len()), (count, count), "{keys:?}");
}

/// An address that refuses connections, and that nobody else gets while the socket is held.
fn dead() -> (SocketAddr, TcpSocket) {
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (held.local_addr().unwrap(), held)
}

/// What the admin API says of the upstream at `addr`.
async fn view(world: &World, addr: SocketAddr) -> serde_json::Value {
    let look = ask("GET", "/api/v1/upstreams").header("authorization", format!("Bearer {TOKEN}"));
    let page = world.admin.send(look).await.json();
    let all = page["upstreams"].as_array().unwrap();
    let found = all.iter().find(|it| it["url"].as_str().unwrap().trim_end_matches('/') == url(addr));
    found.unwrap_or_else(|| panic!("{addr} is not in {page}")).clone()
}

/// A metric of the upstream at `addr`.
async fn metric(world: &World, name: &str, addr: SocketAddr) -> String {
    world.metric(&format!("{name}{{upstream=\"{}\"}}", url(addr))).await
}

#[tokio::test]
async fn operations_take_turns_and_replays_ask_nobody() {
    each(async |pair| {
        let all = [Origin::start(paid).await, Origin::start(paid).await, Origin::start(paid).await];
        let world = before(&addrs(&all), pair, "").await;
        for _ in 0..2 {
            for at in 0..9 {
                let got = world.send(pay(&format!("k{at}"))).await;
                assert_eq!(got.status, 201);
            }
        }
        assert_eq!(effects(&all), [3, 3, 3]);
        assert_each_once(&all, 9);
    })
    .await;
}

#[tokio::test]
async fn by_key_hash_a_key_that_runs_again_runs_where_it_ran_before() {
    // Nothing happened, the answer says; so the key is free and the next request runs.
    let busy = || Origin::start(always(429, &[], b"not now"));
    let all = [busy().await, busy().await, busy().await];
    let world = before(&addrs(&all), H1, "balance = \"key-hash\"\n").await;
    for at in 0..40 {
        let counts = effects(&all);
        for _ in 0..3 {
            world.send(pay(&format!("k{at}"))).await.assert_first(429);
        }
        let mut more: Vec<_> = effects(&all).iter().zip(counts).map(|(now, then)| now - then).collect();
        more.sort_unstable();
        assert_eq!(more, [0, 0, 3], "k{at}");
    }
    assert!(effects(&all).iter().all(|it| *it > 0), "one of three gets no key: {:?}", effects(&all));
}

#[tokio::test]
async fn what_a_dead_upstream_cannot_take_goes_to_the_next_one_once() {
    each(async |pair| {
        for balance in ["round-robin", "least-busy", "key-hash"] {
            let (gone, _held) = dead();
            let all = [Origin::start(paid).await, Origin::start(paid).await];
            let three = [all[0].addr, gone, all[1].addr];
            let world = before(&three, pair, &format!("balance = {balance:?}\neject_after = 0\n")).await;
            for at in 0..9 {
                let key = format!("k{at}");
                world.send(pay(&key)).await.assert_first(201);
                world.send(pay(&key)).await.assert_replay(201);
            }
            assert_each_once(&all, 9);
        }
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_cuts_after_the_effect_is_the_only_one_that_is_asked() {
    each(async |pair| {
        let cutting = Origin::start(|_| async { Err(Cut) }).await;
        let all = [cutting, Origin::start(paid).await, Origin::start(paid).await];
        let world = before(&addrs(&all), pair, "").await;
        let mut unresolved = Vec::new();
        for at in 0..6 {
            let key = format!("k{at}");
            let got = world.send(pay(&key)).await;
            if got.status == 201 {
                got.assert_first(201);
            } else {
                got.assert_problem(504, "outcome-unresolved");
                unresolved.push(key);
            }
        }
        assert_eq!(unresolved.len(), 2);
        assert_eq!(effects(&all), [2, 2, 2]);
        for key in &unresolved {
            world.send(pay(key)).await.assert_problem(409, "unresolved");
        }
        assert_each_once(&all, 6);
    })
    .await;
}

#[tokio::test]
async fn an_ejection_shows_in_the_admin_api_and_in_the_metrics_and_so_does_its_end() {
    let (gone, held) = dead();
    let well = Origin::start(paid).await;
    let world = before(&[gone, well.addr], H1, "eject_after = 2\neject = \"1h\"\neject_max = \"1h\"\n").await;
    assert_eq!(view(&world, gone).await["state"], "up");
    for at in 0..4 {
        world.send(pay(&format!("k{at}"))).await.assert_first(201);
    }
    let seen = view(&world, gone).await;
    assert_eq!(
        (&seen["state"], &seen["consecutive_failures"], &seen["last_error"]),
        (&"ejected".into(), &2.into(), &"unreachable".into())
    );
    assert!(seen["ejected_remaining_seconds"].as_f64().unwrap() > 3000.0, "{seen}");
    assert_eq!(view(&world, well.addr).await["state"], "up");
    for (addr, is_out) in [(gone, "1"), (well.addr, "0")] {
        assert_eq!(metric(&world, "onceward_upstream_ejected", addr).await, is_out);
        assert_eq!(metric(&world, "onceward_upstream_ejections_total", addr).await, is_out);
    }
    // An ejected one is not even tried.
    drop(held);
    let back = Origin::on(gone, paid).await;
    for at in 4..8 {
        world.send(pay(&format!("k{at}"))).await.assert_first(201);
    }
    assert_eq!((back.connections(), well.effects()), (0, 8));
}

#[tokio::test]
async fn an_upstream_that_is_well_again_is_tried_and_returns() {
    let (gone, held) = dead();
    let well = Origin::start(paid).await;
    let short = "eject_after = 1\neject = \"10ms\"\neject_max = \"10ms\"\n";
    let world = before(&[gone, well.addr], H1, short).await;
    world.send(pay("a")).await.assert_first(201);
    world.send(pay("b")).await.assert_first(201);
    assert_ne!(view(&world, gone).await["state"], "up");
    drop(held);
    let back = Origin::on(gone, paid).await;
    let mut sent = 2;
    within(async {
        while view(&world, gone).await["state"] != "up" {
            world.send(pay(&format!("k{sent}"))).await.assert_first(201);
            sent += 1;
        }
    })
    .await;
    assert_eq!(metric(&world, "onceward_upstream_ejected", gone).await, "0");
    assert!(back.effects() > 0);
    assert_each_once(&[back, well], sent);
}

#[tokio::test]
async fn when_all_are_full_an_operation_is_refused_and_its_key_is_free() {
    each(async |pair| {
        let gate = turnstile();
        let slow = || Origin::start(paid_after(&gate));
        let all = [slow().await, slow().await, slow().await];
        let world = before(&addrs(&all), pair, "in_flight = 1\n").await;
        let held: Vec<_> = (0..3).map(|at| world.send_aside(pay(&format!("k{at}")))).collect();
        until(|| effects(&all) == [1, 1, 1]).await;
        for origin in &all {
            assert_eq!(view(&world, origin.addr).await["in_flight"], 1);
            assert_eq!(metric(&world, "onceward_upstream_in_flight", origin.addr).await, "1");
        }
        let refused = world.send(pay("more")).await;
        refused.assert_problem(503, "overloaded");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        // Free for any request.
        world.send(pay_other("more")).await.assert_problem(503, "overloaded");
        gate.add_permits(9);
        for it in held {
            it.got().await.assert_first(201);
        }
        world.send(pay("more")).await.assert_first(201);
        world.send(pay("more")).await.assert_replay(201);
        assert_each_once(&all, 4);
        // To be full is not to be ill.
        assert_eq!(view(&world, all[0].addr).await["state"], "up");
    })
    .await;
}
