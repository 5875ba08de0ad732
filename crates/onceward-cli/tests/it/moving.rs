//! A user outgrows a store: the records go to another one, and no key is forgotten on the way.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use onceward_testkit::server::{Postgres, RedisServer};
use rustix::process::Signal;

use crate::client::{Reply, pay};
use crate::process::{Ended, Place, onceward, run};
use crate::upstream::Upstream;
use crate::wait::until;

const ALL_MOVED: &str = "all records of the old store were moved: the setting that names it can go";

const SO_FAR: &str =
    "all records of the old store were moved so far; somebody may still work on that store alone";

const LEFT: &str = "the records of this store were moved to another one: nothing runs here any more; set `store` to that one";

fn copy(place: &Place, words: &[&str]) -> Ended {
    run(onceward(place.folder()).args(["store", "copy"]).args(words))
}

/// Nothing works on this store alone any more, and everybody says where the records are.
fn assert_left(place: &Place, store: &str, to: &str) {
    let place_of = to.split('?').next().unwrap().rsplit(['@', '/']).next().unwrap();
    let refused = run(&mut place.command()).with_code(4);
    let dead = ["queue", "dead", "list", "--store", store];
    let consume =
        ["consume", "--name", "n", "--from", "redis-streams://127.0.0.1:1/t", "--to", "http://127.0.0.1:9/"];
    let consume = [&consume[..], &["--key", "position", "--store", store]].concat();
    for refused in [refused, of(place, &dead).with_code(4), of(place, &consume).with_code(4)] {
        let said = &refused.stderr;
        assert!(said.contains("were moved to") && said.contains("set `store` to that one"), "{said}");
        assert!(said.contains(place_of), "{said}: {place_of}");
        assert!(!said.contains('@'), "no user, no password: {said}");
    }
    let doctor = of(place, &["doctor", "--offline", "--upstream", "http://127.0.0.1:9", "--store", store]);
    let said = doctor.with_code(1).stdout;
    assert!(said.contains("the records of this store were moved to") && said.contains(place_of), "{said}");
    assert!(!said.contains("keys resolve"), "{said}");
}

fn of(place: &Place, words: &[&str]) -> Ended {
    run(onceward(place.folder()).args(words))
}

#[test]
fn a_gateway_grows_from_a_directory_into_postgresql_and_remembers() {
    let (server, upstream) = (Postgres::start(&[]), Upstream::start());
    let old = tempfile::tempdir().unwrap();
    let folder = format!("embedded:{}", old.path().join("records").display());
    let place = Place::before(&upstream.url()).with_store(&folder);
    let mut gateway = place.start();
    let early: Vec<_> =
        (0..300).map(|it| (format!("early-{it}"), gateway.ask(&pay(&format!("early-{it}"))))).collect();
    assert_eq!(gateway.stop(), 0);
    // From here on both are known, and it moves.
    let place = place.with_store(&server.url("onceward")).with("store_from", &folder);
    let mut gateway = place.start();
    gateway.ask(&pay("early-299")).assert_replay_of(&early[299].1);
    gateway.ask(&pay("early-0").body("{}")).assert_problem(422, "key-reused");
    let late = gateway.ask(&pay("late"));
    late.assert_first();
    gateway.process.until_says(ALL_MOVED);
    let refused = copy(&place, &[&folder, &server.url("onceward")]).with_code(4);
    assert!(refused.stderr.contains("store_from"), "{}", refused.stderr);
    assert_eq!(gateway.stop(), 0);
    // Somebody starts it again as it was.
    let url = server.url("onceward");
    assert_left(&place.with("store_from", "").with_store(&folder), &folder, &url);
    let place = Place::before(&upstream.url()).with_store(&url).with("store_from", &folder);
    // Both names still do no harm.
    let gateway = place.start();
    gateway.ask(&pay("early-1")).assert_replay_of(&early[1].1);
    drop(gateway);
    // The directory is not needed any more.
    std::fs::remove_dir_all(folder.trim_start_matches("embedded:")).unwrap();
    let gateway = place.with("store_from", "").start();
    for (key, first) in &early {
        gateway.ask(&pay(key)).assert_replay_of(first);
        assert_eq!(upstream.effects(key).len(), 1);
    }
    gateway.ask(&pay("late")).assert_replay_of(&late);
}

#[test]
fn a_store_that_nobody_uses_is_copied_at_once_and_back() {
    let (server, upstream) = (RedisServer::start(), Upstream::start());
    let place = Place::before(&upstream.url()).with("policy.lease", "3s");
    let folder = format!("embedded:{}", place.records().display());
    let mistyped = format!("{folder}-mistyped");
    let refused = copy(&place, &[&mistyped, &server.url()]).with_code(4);
    assert!(refused.stderr.contains("check that its URL"), "{}", refused.stderr);
    assert!(!place.records().with_file_name("records-mistyped").exists(), "nothing was made");
    let mut gateway = place.start();
    let first = gateway.ask(&pay("k"));
    let caller = pay("hangs").with("Test-Hold", "after").send_meanwhile(gateway.address);
    upstream.until_effects("hangs", 1);
    gateway.process.kill();
    assert!(caller.join().unwrap().is_err());
    let waited = copy(&place, &[&folder, &server.url(), "--wait", "0"]).with_code(1);
    assert!(waited.stderr.contains("1 records were moved; 1 stay"), "{}", waited.stderr);
    let copied = copy(&place, &[&folder, &server.url(), "--wait", "2m"]).with_code(0);
    assert_eq!(copied.stdout, "1 records were moved now; all are in the new store\n");
    let again = copy(&place, &[&folder, &server.url()]).with_code(0);
    assert_eq!(again.stdout, "0 records were moved now; all are in the new store\n");
    assert_left(&place, &folder, &server.url());
    let elsewhere = format!("embedded:{}", place.folder().join("elsewhere").display());
    let refused = copy(&place, &[&folder, &elsewhere]).with_code(4);
    assert!(refused.stderr.contains("were moved before, to redis://"), "{}", refused.stderr);
    let place = place.with_store(&server.url());
    let mut gateway = place.start();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    gateway.ask(&pay("hangs")).assert_problem(409, "unresolved");
    assert_eq!(gateway.stop(), 0);
    let other = format!("embedded:{}", place.folder().join("another").display());
    copy(&place, &[&server.url(), &other]).with_code(0);
    assert_left(&place, &server.url(), &other);
    let place = place.with_store(&other);
    let mut gateway = place.start();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    gateway.ask(&pay("hangs")).assert_problem(409, "unresolved");
    let new = gateway.ask(&pay("new-there"));
    new.assert_first();
    assert_eq!(gateway.stop(), 0);
    // On purpose, to where they came from.
    copy(&place, &[&other, &server.url()]).with_code(0);
    assert_left(&place, &other, &server.url());
    let gateway = place.with_store(&server.url()).start();
    gateway.ask(&pay("k")).assert_replay_of(&first);
    gateway.ask(&pay("new-there")).assert_replay_of(&new);
    gateway.ask(&pay("hangs")).assert_problem(409, "unresolved");
    assert_eq!((upstream.effects("k").len(), upstream.effects("hangs").len()), (1, 1));
}

#[test]
fn a_store_with_keys_of_its_own_takes_no_others() {
    let (server, upstream) = (RedisServer::start(), Upstream::start());
    let place = Place::before(&upstream.url());
    let folder = format!("embedded:{}", place.records().display());
    place.start().ask(&pay("k")).assert_first();
    let used = Place::before(&upstream.url()).with_store(&server.url());
    used.start().ask(&pay("other")).assert_first();
    let refused = copy(&place, &[&folder, &server.url()]).with_code(4);
    assert!(refused.stderr.contains("move into an empty store"), "{}", refused.stderr);
    let refused = run(&mut used.with("store_from", &folder).command()).with_code(4);
    assert!(refused.stderr.contains("move into an empty store"), "{}", refused.stderr);
    let place = place.with("store_from", "embeded:x");
    let refused = run(&mut place.command()).with_code(2);
    assert!(
        refused.stderr.contains("ONCEWARD_STORE_FROM") && refused.stderr.contains("nearest valid"),
        "{}",
        refused.stderr
    );
}

/// Nobody runs `store copy`: one gateway moves all by itself, while another one works on the old store alone and ends
/// abruptly.
#[test]
fn a_move_between_servers_ends_by_itself_when_nobody_works_on_the_old_one() {
    let (server, upstream) = (Postgres::start(&[]), Upstream::start());
    server.sql("CREATE SCHEMA other AUTHORIZATION onceward");
    let (from, to) = (server.url("onceward"), format!("{}?schema=other", server.url("onceward")));
    let old = Place::before(&upstream.url()).with_store(&from);
    let both = Place::before(&upstream.url()).with_store(&to).with("store_from", &from);
    let mut early = old.start();
    let first = early.ask(&pay("k"));
    let moving = both.start();
    moving.ask(&pay("k")).assert_replay_of(&first);
    moving.process.until_says(SO_FAR);
    let refused = copy(&both, &[&from, &to, "--wait", "0"]).with_code(1);
    assert!(refused.stderr.contains("works on that store alone"), "{}", refused.stderr);
    // It goes on meanwhile, and so does one that starts just now.
    early.ask(&pay("early")).assert_first();
    let mut late = old.start();
    let second = late.ask(&pay("late"));
    second.assert_first();
    early.process.kill();
    late.process.kill();
    moving.process.until_says(ALL_MOVED);
    assert_left(&old, &from, &to);
    moving.ask(&pay("late")).assert_replay_of(&second);
}

/// A gateway that was stopped with SIGSTOP, as a machine that sleeps, while the move ended.
#[test]
fn a_gateway_that_slept_while_the_move_ended_runs_nothing_on_the_old_store() {
    let (from, server, upstream) = (RedisServer::start(), Postgres::start(&[]), Upstream::start());
    let old = Place::before(&upstream.url()).with_store(&from.url());
    let sleeper = old.start();
    sleeper.ask(&pay("k")).assert_first();
    sleeper.process.freeze();
    copy(&old, &[&from.url(), &server.url("onceward")]).with_code(0);
    sleeper.process.signal(Signal::CONT);
    for key in ["k-1", "k-2"] {
        sleeper.ask(&pay(key)).assert_problem(503, "store-unavailable");
        assert_eq!(upstream.effects(key).len(), 0);
    }
    sleeper.process.until_says(LEFT);
}

/// Callers repeat at any gateway until they have an answer, while one gateway after the other learns of the new store and
/// then forgets the old one.
#[test]
fn gateways_go_over_to_another_server_one_by_one_under_load() {
    let (redis, postgres, upstream) = (RedisServer::start(), Postgres::start(&[]), Upstream::start());
    let old = Place::before(&upstream.url()).with_store(&redis.url());
    let both =
        Place::before(&upstream.url()).with_store(&postgres.url("onceward")).with("store_from", &redis.url());
    let new = Place::before(&upstream.url()).with_store(&postgres.url("onceward"));
    let mut gateways: Vec<_> = (0..3).map(|_| old.start()).collect();
    let addresses: Mutex<Vec<SocketAddr>> = Mutex::new(gateways.iter().map(|it| it.address).collect());
    let (over, number, turn) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let given: Mutex<Vec<(String, Reply)>> = Mutex::default();
    let call = || {
        while !over.load(Ordering::Relaxed) {
            let key = format!("k-{}", number.fetch_add(1, Ordering::Relaxed));
            let reply = until("the caller has an answer", || {
                let at = {
                    let addresses = addresses.lock().unwrap();
                    addresses[turn.fetch_add(1, Ordering::Relaxed) % addresses.len()]
                };
                pay(&key).send(at).ok().filter(|it| it.status == 201)
            });
            given.lock().unwrap().push((key, reply));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(call);
        }
        for place in [&both, &new] {
            for (at, gateway) in gateways.iter_mut().enumerate() {
                let before = number.load(Ordering::Relaxed);
                until("load", || (number.load(Ordering::Relaxed) > before + 30).then_some(()));
                assert_eq!(gateway.stop(), 0, "everything was finished");
                *gateway = place.start();
                addresses.lock().unwrap()[at] = gateway.address;
            }
            if std::ptr::eq(place, &both) {
                // What the last old gateway wrote may not be moved yet.
                copy(&new, &[&redis.url(), &postgres.url("onceward")]).with_code(0);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let given = given.into_inner().unwrap();
    assert!(given.len() > 180, "{}", given.len());
    drop(redis);
    for (at, (key, first)) in given.iter().enumerate() {
        gateways[at % 3].ask(&pay(key)).assert_replay_of(first);
        assert_eq!(upstream.effects(key).len(), 1, "{key}");
    }
}
