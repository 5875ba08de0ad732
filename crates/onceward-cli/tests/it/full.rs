//! A disk that is really full beneath a gateway that goes on.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use onceward_testkit::{fill, small_disk};

use crate::client::{Reply, get, pay};
use crate::process::{Gateway, Place};
use crate::upstream::Upstream;
use crate::wait::until_true;

/// Callers who pay, each time with a new key, and what they were told.
#[derive(Default)]
struct Callers {
    told: Mutex<Vec<(String, Reply)>>,
    refused: Mutex<Vec<(String, Reply)>>,
    ends: AtomicBool,
}

impl Callers {
    fn run(&self, caller: usize, gateway: &Gateway) {
        for number in 0.. {
            if self.ends.load(Ordering::SeqCst) {
                return;
            }
            let key = format!("k-{caller}-{number}");
            let reply = gateway.ask(&pay(&key).with("Test-Bytes", "3000"));
            if reply.status == 201 {
                self.told.lock().unwrap().push((key, reply));
            } else {
                self.refused.lock().unwrap().push((key, reply));
                // As a caller would; and so that not every one of thousands is asked for again.
                thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn told(&self) -> usize {
        self.told.lock().unwrap().len()
    }

    fn refused(&self) -> usize {
        self.refused.lock().unwrap().len()
    }
}

/// Ends them also when the test fails.
struct End<'a>(&'a Callers);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_full_disk_costs_refusals_and_no_restart_and_every_answer_that_was_seen_is_replayed() {
    let name = "full::a_full_disk_costs_refusals_and_no_restart_and_every_answer_that_was_seen_is_replayed";
    let Some(disk) = small_disk(name) else { return };
    let upstream = Upstream::start();
    // An answer that cannot be stored is tried again until this is over.
    let place = Place::before(&upstream.url())
        .with_store(&format!("embedded:{}", disk.join("records").display()))
        .with("upstream.response_timeout", "2s")
        .with("policy.lease", "1s")
        .with("admin.ready_requires_store", "true");
    let gateway = place.start();
    let early = gateway.ask(&pay("early"));
    early.assert_first();
    let callers = Callers::default();
    thread::scope(|scope| {
        for caller in 0..4 {
            let (callers, gateway) = (&callers, &gateway);
            scope.spawn(move || callers.run(caller, gateway));
        }
        let _ends = End(&callers);
        until_true("operations are answered", || callers.told() > 50);
        let filler = fill(&disk, 0);
        until_true("operations are refused", || callers.refused() > 50);
        gateway.ask(&pay("while-full")).assert_problem(503, "store-unavailable");
        let read = gateway.ask(&get("/payments/1"));
        assert_eq!(read.status, 201, "what is no operation passes: {read:?}");
        gateway.ask(&pay("early")).assert_replay_of(&early);
        until_true("it is not ready", || gateway.page("/readyz").status == 503);
        fs::remove_file(filler).unwrap();
        let before = callers.told();
        until_true("operations are answered again", || callers.told() > before + 50);
    });
    until_true("it is ready again", || gateway.page("/readyz").status == 200);
    let (told, refused) = (callers.told.into_inner().unwrap(), callers.refused.into_inner().unwrap());
    let unavailable = refused.iter().filter(|it| it.1.problem() == "store-unavailable").count();
    assert!(unavailable > refused.len() / 2, "{unavailable} of {}", refused.len());
    let check = |gateway: &Gateway| {
        gateway.ask(&pay("early")).assert_replay_of(&early);
        assert_eq!(gateway.ask_until_settled(&pay("while-full")).status, 201);
        for (key, first) in &told {
            gateway.ask(&pay(key).with("Test-Bytes", "3000")).assert_replay_of(first);
        }
        for (key, reply) in &refused {
            // Never claimed, and run now; or run once, and nobody stored its answer.
            let again = gateway.ask_until_settled(&pay(key));
            assert!(
                again.status == 201 || again.problem() == "unresolved",
                "{key} was told {reply:?} and then {again:?}"
            );
            assert!(upstream.effects(key).len() <= 1, "{key} ran twice");
        }
    };
    check(&gateway);
    gateway.kill();
    // Nothing is left of it in memory.
    check(&place.start());
}
