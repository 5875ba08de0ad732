//! Several gateways over one store act as one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::client::{Reply, get, pay};
use crate::process::{Gateway, Place, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until;

/// A server of its own.
enum Server {
    #[cfg(feature = "postgres")]
    Postgres(onceward_testkit::server::Postgres),
    #[cfg(feature = "redis")]
    Redis(onceward_testkit::server::RedisServer),
}

impl Server {
    /// What its store is called.
    fn url(&self) -> String {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.url("onceward"),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.url(),
        }
    }

    fn kill(&mut self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.kill(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.kill(),
        }
    }

    fn start_again(&mut self) {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.restart(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.start_again(),
        }
    }
}

#[cfg(feature = "postgres")]
fn postgres() -> Server {
    Server::Postgres(onceward_testkit::server::Postgres::start(&[]))
}

#[cfg(feature = "redis")]
fn redis() -> Server {
    Server::Redis(onceward_testkit::server::RedisServer::start())
}

/// Three gateways before one upstream.
struct Shop {
    upstream: Upstream,
    place: Place,
    gateways: Vec<Gateway>,
    server: Server,
}

fn shop(server: Server, with: impl FnOnce(Place) -> Place) -> Shop {
    let upstream = Upstream::start();
    let place = with(Place::before(&upstream.url()).with_store(&server.url()));
    let gateways = (0..3).map(|_| place.start()).collect();
    Shop { upstream, place, gateways, server }
}

/// The answer once the operation is no longer in progress, asked for at one gateway after the other.
fn settled(shop: &Shop, key: &str) -> Reply {
    let mut turn = 0..;
    until("the operation is no longer in progress", || {
        let at = turn.next().unwrap_or(0) % shop.gateways.len();
        Some(shop.gateways[at].ask(&pay(key))).filter(|it| it.problem() != "in-progress")
    })
}

/// Tells one gateway what is to become of a record.
fn judge(shop: &Shop, at: usize, record: &Value, words: &[&str]) {
    let gateway = &shop.gateways[at];
    let revision = record["revision"].to_string();
    let mut command = onceward(shop.place.folder());
    command.arg("keys").args(words).arg(record["id"].as_str().unwrap());
    command.args(["--revision", revision.trim_matches('"'), "--admin", &format!("http://{}", gateway.admin)]);
    run(command.arg("--token-file").arg(&gateway.token_file)).with_code(0);
}

fn a_repeat_at_another_gateway_gets_the_first_answer(server: Server) {
    let shop = shop(server, |it| it);
    for (at, key) in ["a", "b", "c"].into_iter().enumerate() {
        let first = shop.gateways[at].ask(&pay(key));
        first.assert_first();
        for gateway in &shop.gateways {
            gateway.ask(&pay(key)).assert_replay_of(&first);
            gateway.ask(&pay(key).body("{}")).assert_problem(422, "key-reused");
        }
        assert_eq!(shop.upstream.effects(key).len(), 1);
    }
}

fn of_the_same_request_at_every_gateway_at_once_one_runs(server: Server) {
    let shop = shop(server, |it| it);
    for round in 0..10 {
        let key = format!("k-{round}");
        let callers: Vec<_> = shop.gateways.iter().map(|it| pay(&key).send_meanwhile(it.address)).collect();
        let replies: Vec<_> = callers.into_iter().map(|it| it.join().unwrap().unwrap()).collect();
        assert_eq!(replies.iter().filter(|it| it.status == 201 && !it.is_replay()).count(), 1, "{replies:?}");
        for reply in replies.iter().filter(|it| it.status != 201) {
            reply.assert_problem(409, "in-progress");
        }
        assert!(settled(&shop, &key).is_replay());
        assert_eq!(shop.upstream.effects(&key).len(), 1);
    }
}

/// How many claims this gateway has sent to the store.
fn inserts(gateway: &Gateway) -> u64 {
    let text = gateway.page("/metrics").text();
    let lines = text.lines().filter(|it| it.starts_with("onceward_store_call_duration_seconds_count{"));
    let counts = lines.filter(|it| it.contains("operation=\"insert\""));
    counts.filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn a_duplicate_waits_for_a_first_attempt_at_another_gateway(server: Server) {
    let shop = shop(server, |it| it.with("policy.in_flight", "wait 20s"));
    let first = pay("k").with("Test-Hold", "before").send_meanwhile(shop.gateways[0].address);
    shop.upstream.until_arrived("k", 1);
    let asked = || inserts(&shop.gateways[1]);
    let before = asked();
    let waiting = pay("k").send_meanwhile(shop.gateways[1].address);
    until("it has met the first", || (asked() > before).then_some(()));
    shop.upstream.open();
    let first = first.join().unwrap().unwrap();
    first.assert_first();
    waiting.join().unwrap().unwrap().assert_replay_of(&first);
    assert_eq!(shop.upstream.effects("k").len(), 1);
}

fn what_a_killed_gateway_leaves_is_unresolved_for_all_and_resolved_by_any(server: Server) {
    let mut shop = shop(server, |it| it.with("policy.lease", "1s"));
    let caller = pay("k").with("Test-Hold", "after").send_meanwhile(shop.gateways[0].address);
    shop.upstream.until_effects("k", 1);
    shop.gateways.remove(0).kill();
    assert!(caller.join().unwrap().is_err());
    settled(&shop, "k").assert_problem(409, "unresolved");
    for gateway in &shop.gateways {
        gateway.ask(&pay("k")).assert_problem(409, "unresolved");
    }
    let record = shop.gateways[0].record("k");
    let reason = record["reason"].as_str().expect("what is known is said");
    assert!(reason.contains("its lease ended"), "{reason}");
    let doctor = || {
        let words = ["doctor", "--offline", "--upstream", "http://127.0.0.1:9", "--store"];
        run(onceward(shop.place.folder()).args(words).arg(shop.server.url())).stdout
    };
    let said = doctor();
    assert!(said.contains("1 operation waits for an operator (the oldest, "), "{said}");
    judge(&shop, 0, &record, &["resolve", "--rerun"]);
    let again = shop.gateways[1].ask(&pay("k"));
    again.assert_first();
    shop.gateways[0].ask(&pay("k")).assert_replay_of(&again);
    let said = doctor();
    assert!(said.contains("1 answer and 0 tombstones are readable") && !said.contains("waits for"), "{said}");
    assert_eq!(shop.upstream.effects("k").len(), 2, "the operator said so");
}

/// Callers who repeat until they have an answer, each at another gateway every time, while one gateway after the other
/// is stopped and started again.
fn a_rolling_restart_under_load_loses_nothing(server: Server) {
    let mut shop = shop(server, |it| it);
    let addresses: Mutex<Vec<SocketAddr>> = Mutex::new(shop.gateways.iter().map(|it| it.address).collect());
    let (over, number, turn) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let given: Mutex<BTreeMap<String, Reply>> = Mutex::default();
    let call = || {
        while !over.load(Ordering::Relaxed) {
            let key = format!("k-{}", number.fetch_add(1, Ordering::Relaxed));
            let reply = until("the caller has an answer", || {
                let at = {
                    let addresses = addresses.lock().unwrap_or_else(PoisonError::into_inner);
                    addresses[turn.fetch_add(1, Ordering::Relaxed) % addresses.len()]
                };
                pay(&key).send(at).ok().filter(|it| it.status == 201)
            });
            given.lock().unwrap_or_else(PoisonError::into_inner).insert(key, reply);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(call);
        }
        for at in 0..3 {
            let before = number.load(Ordering::Relaxed);
            until("load", || (number.load(Ordering::Relaxed) > before + 30).then_some(()));
            assert_eq!(shop.gateways[at].stop(), 0, "everything was finished");
            shop.gateways[at] = shop.place.start();
            addresses.lock().unwrap_or_else(PoisonError::into_inner)[at] = shop.gateways[at].address;
        }
        over.store(true, Ordering::Relaxed);
    });
    let given = given.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(given.len() > 90, "{}", given.len());
    for (at, (key, first)) in given.iter().enumerate() {
        shop.gateways[at % 3].ask(&pay(key)).assert_replay_of(first);
        assert_eq!(shop.upstream.effects(key).len(), 1, "{key}");
    }
}

/// An answer that is removed may still be in the memory of another gateway. So the key is not free before no gateway
/// replays it any more.
fn a_removed_key_is_not_run_while_another_gateway_may_replay_it(server: Server) {
    let shop = shop(server, |it| it);
    let first = shop.gateways[0].ask(&pay("k"));
    for gateway in &shop.gateways {
        gateway.ask(&pay("k")).assert_replay_of(&first);
    }
    let record = shop.gateways[1].record("k");
    judge(&shop, 1, &record, &["remove"]);
    for gateway in &shop.gateways {
        let reply = gateway.ask(&pay("k"));
        assert!(reply.is_replay() || reply.status == 409, "{reply:?}");
    }
    assert_eq!(shop.upstream.effects("k").len(), 1);
    assert_eq!(get("/readyz").send(shop.gateways[2].admin).unwrap().status, 200);
}

/// While the server is away, operations are refused and everything else is served, also by a gateway that starts then.
fn a_server_that_is_away_costs_refusals_and_no_restart(server: Server) {
    let mut shop = shop(server, |it| it);
    let first = shop.gateways[0].ask(&pay("before"));
    first.assert_first();
    shop.server.kill();
    shop.gateways[0].ask(&pay("meanwhile")).assert_problem(503, "store-unavailable");
    shop.gateways[1] = shop.place.start();
    shop.gateways[1].ask(&pay("meanwhile")).assert_problem(503, "store-unavailable");
    assert_eq!(shop.gateways[1].ask(&get("/payments")).status, 201, "no operation");
    let mut doctor = onceward(shop.place.folder());
    doctor.args(["doctor", "--upstream", &shop.upstream.url(), "--store", &shop.server.url()]);
    let said = run(&mut doctor).with_code(1).stdout;
    assert!(said.contains("cannot be opened") && said.contains("cannot be reached"), "{said}");
    shop.server.start_again();
    for (at, key) in ["x", "y", "meanwhile"].into_iter().enumerate() {
        until("the gateway has its store again", || {
            Some(shop.gateways[at].ask(&pay(key))).filter(|it| it.status == 201)
        });
        assert_eq!(shop.upstream.effects(key).len(), 1);
    }
    for gateway in &shop.gateways {
        gateway.ask(&pay("before")).assert_replay_of(&first);
    }
    let said = run(&mut doctor);
    assert!(said.stdout.contains("answers"), "{said:?}");
    let has_ears = shop.server.url().starts_with("redis");
    assert_eq!(said.stdout.contains("are told when it ends"), has_ears, "{said:?}");
}

/// Makes the tests of one kind of server.
macro_rules! over {
    ($name:ident, $server:expr) => {
        mod $name {
            super::over! {
                @each $server =>
                a_repeat_at_another_gateway_gets_the_first_answer
                of_the_same_request_at_every_gateway_at_once_one_runs
                a_duplicate_waits_for_a_first_attempt_at_another_gateway
                what_a_killed_gateway_leaves_is_unresolved_for_all_and_resolved_by_any
                a_rolling_restart_under_load_loses_nothing
                a_removed_key_is_not_run_while_another_gateway_may_replay_it
                a_server_that_is_away_costs_refusals_and_no_restart
            }
        }
    };
    (@each $server:expr => $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                super::$case($server);
            }
        )*
    };
}
use over;

#[cfg(feature = "postgres")]
#[test]
fn tables_are_made_ahead_where_gateways_may_not() {
    let mut server = postgres();
    let upstream = Upstream::start();
    let place = Place::before(&upstream.url()).with_store(&format!("{}?migrate=off", server.url()));
    let ended = run(&mut place.command()).with_code(4);
    assert!(ended.stderr.contains("onceward store migrate"), "{}", ended.stderr);
    let migrate = |url: &str| run(onceward(place.folder()).args(["store", "migrate", url]));
    for _ in 0..2 {
        assert_eq!(migrate(&server.url()).with_code(0).stdout, "the tables are those of this version\n");
    }
    place.start().ask(&pay("k")).assert_first();
    server.kill();
    let secret = server.url().replace("onceward@", "onceward:hunter2@");
    let ended = migrate(&secret).with_code(4);
    assert!(ended.stderr.contains("reach") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
    let ended = migrate(&format!("{secret}?nonsense=1")).with_code(2);
    assert!(ended.stderr.contains("nonsense") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
    assert_eq!(migrate("memory:").with_code(0).stdout, "this store has no tables to bring up to date\n");
}

#[cfg(feature = "postgres")]
over!(postgres, super::postgres());
#[cfg(feature = "redis")]
over!(redis, super::redis());
