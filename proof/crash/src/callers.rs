//! What callers do: each draws one story after the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use crate::arena::Arena;
use crate::backend::Backend;
use crate::book::{Told, count};
use crate::client::Client;
use crate::ledger::Kind;
use crate::plan::{BRIEF, CALLERS, Op};
use crate::script::{End, Script};
use crate::time::{ms, now, until};

/// How many keys everybody uses at the same time, and for how long.
const HOT: usize = 6;
const HOT_FOR: Duration = ms(900);

/// How long a caller waits for an answer that it wants.
const PATIENT: Duration = ms(9_000);

/// How long a caller goes on with one operation while faults go on.
const TRIES: u32 = 40;

/// For so long an operation may be unresolved though nothing went wrong that the harness did: the machine was busy.
const DOUBT: Duration = ms(1_500);
/// The same where each write waits for another process and its disk.
const DOUBT_OF_SERVERS: Duration = ms(5_000);

/// One caller.
pub(crate) struct Caller<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) rng: Rng,
    pub(crate) client: Client,
    pub(crate) number: usize,
    count: u64,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(arena: &'a Arena, seed: u64, number: usize) -> Self {
        let rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        Self { arena, rng, client: Client::default(), number, count: 0 }
    }

    /// One story after the other, until the run is over.
    pub(crate) fn run(&mut self, stories: &AtomicU64) {
        // The rare ones first, so that a short run has some of each.
        let mut first =
            [[90, 98, 94], [90, 94, 98], [85, 90, 98], [85, 90, 94]].get(self.number).into_iter().flatten();
        while !self.arena.book.is_over() {
            let story = first.next().copied().unwrap_or_else(|| self.rng.u32(0..100));
            match story {
                0..36 => self.wide(),
                36..54 => self.hot(),
                54..64 => self.burst(),
                64..72 => self.twins(),
                72..80 => self.again(),
                80..90 => self.leaves(),
                90..94 => self.overruled(),
                94..98 => self.strike(),
                _ => self.brief(),
            }
            stories.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new_key(&mut self, story: &str) -> String {
        self.count += 1;
        format!("{story}-{}-{}", self.number, self.count)
    }

    fn new_op(&mut self, story: &str) -> Op {
        let key = self.new_key(story);
        Op::new(&mut self.rng, key)
    }

    fn pause(&mut self, most: u64) {
        thread::sleep(ms(self.rng.u64(0..=most)));
    }

    /// A key of one's own, anything the upstream may do, and often no patience at first.
    fn wide(&mut self) {
        let (op, script) = (self.new_op("wide"), Script::any(&mut self.rng));
        let patience = if self.rng.u32(0..5) == 0 { ms(self.rng.u64(1..400)) } else { PATIENT };
        self.arena.send(&mut self.client, &op, &script, patience);
        if self.rng.u32(0..8) == 0 {
            self.misuse(&op);
        }
        self.pursue(&op, TRIES);
    }

    /// A key that everybody uses just now, each with a script of its own, some with another payload.
    fn hot(&mut self) {
        let turn = (now() - self.arena.started).as_millis() / HOT_FOR.as_millis();
        let key = format!("hot-{turn}-{}", self.rng.usize(0..HOT));
        // The same for all who use it.
        let mut shared = Rng::with_seed(crate::ledger::payload_of(key.as_bytes()));
        let op = Op::new(&mut shared, key);
        if self.rng.u32(0..6) == 0 {
            self.misuse(&op);
        }
        let script = Script::any(&mut self.rng);
        self.arena.send(&mut self.client, &op, &script, PATIENT);
        self.pursue(&op, 3);
    }

    /// Several at the very same moment.
    fn burst(&mut self) {
        let op = self.new_op("burst");
        let script = Script::slow(ms(self.rng.u64(0..60)), ms(self.rng.u64(0..200)));
        thread::scope(|scope| {
            for _ in 0..self.rng.u32(2..5) {
                scope.spawn(|| self.arena.send(&mut Client::default(), &op, &script, PATIENT));
            }
        });
        self.pursue(&op, TRIES);
    }

    /// Two callers with the same key, the same request, and an operation each.
    fn twins(&mut self) {
        let one = self.new_op("twins");
        let two = Op { caller: (one.caller + 1) % CALLERS, ..one.clone() };
        let script = Script::slow(ms(self.rng.u64(0..60)), Duration::ZERO);
        for op in [&one, &two] {
            self.arena.send(&mut self.client, op, &script, PATIENT);
            self.pursue(op, TRIES);
        }
    }

    /// Some operation that was answered before.
    fn again(&mut self) {
        let number = self.rng.u64(0..=self.count.max(1));
        for story in ["wide", "burst", "leaves", "strike"] {
            let key = format!("{story}-{}-{number}", self.number);
            for (caller, path) in (0..CALLERS).flat_map(|it| [(it, "/pay"), (it, "/wait/pay")]) {
                let op = Op { caller, path, key: key.clone(), payload: (0, 0) };
                if let Some(entry) = self.arena.book.entry(&op) {
                    self.arena.send(&mut self.client, &entry.op, &Script::PLAIN, PATIENT);
                }
            }
        }
    }

    /// The caller leaves while the upstream is at work, and comes back for the answer.
    fn leaves(&mut self) {
        let op = self.new_op("leaves");
        let script = Script::slow(ms(self.rng.u64(150..400)), ms(self.rng.u64(0..100)));
        let patience = ms(self.rng.u64(60..140));
        self.arena.send(&mut self.client, &op, &script, patience);
        self.pause(600);
        self.pursue(&op, TRIES);
    }

    /// An operator overrules a holder that hangs: it truly does nothing, and it comes back nevertheless, with an
    /// answer or with the word that nothing happened.
    fn overruled(&mut self) {
        let op = self.new_op("overruled").on("/long/pay");
        let late = if self.rng.bool() { End::Void } else { End::Release(429) };
        let first = Script { before: ms(700), end: late, ..Script::PLAIN };
        let second = Script::slow(Duration::ZERO, ms(900));
        let arena = self.arena;
        let arrived =
            |times| until(ms(600), || (arena.book.rows(&op, Kind::Arrived).len() == times).then_some(()));
        let tell = |script| arena.send(&mut Client::default(), &op, script, PATIENT);
        thread::scope(|scope| {
            let holder = scope.spawn(|| tell(&first));
            if arrived(1).is_none() {
                return;
            }
            arena.book.risk(&op);
            if !matches!(arena.overrule(&op), Ok(true)) {
                return;
            }
            let next = scope.spawn(|| tell(&second));
            // The first one ends while the second is still at work.
            let _ = (arrived(2), holder.join());
            for _ in 0..3 {
                tell(&Script::PLAIN);
                thread::sleep(ms(60));
            }
            let _ = next.join();
        });
        self.pursue(&op, TRIES);
    }

    /// A short retention, counted from the completion of a long operation; the gateway forgets what it has in memory.
    fn brief(&mut self) {
        let op = self.new_op("brief").on("/brief/pay");
        self.arena.send(&mut self.client, &op, &Script::slow(ms(2_000), Duration::ZERO), PATIENT);
        let Some(effect) = self.arena.book.rows(&op, Kind::Effect).first().cloned() else { return };
        // Between the retention counted from the claim and the one that holds.
        let probe = effect.at + BRIEF - ms(1_500);
        while now() + ms(500) < probe && !self.strike_once() && !self.arena.book.is_over() {
            thread::sleep(ms(20));
        }
        thread::sleep(probe.saturating_sub(now()));
        self.arena.send(&mut self.client, &op, &Script::PLAIN, PATIENT);
        thread::sleep((effect.at + BRIEF + ms(500)).saturating_sub(now()));
        // Its answer is gone; it must not run again.
        self.arena.send(&mut self.client, &op, &Script::PLAIN, PATIENT);
    }

    /// `kill -9` the moment that somebody has an answer.
    fn strike(&mut self) {
        let (op, script) = (self.new_op("strike"), Script::slow(ms(self.rng.u64(0..30)), Duration::ZERO));
        if self.arena.send(&mut self.client, &op, &script, PATIENT) == Told::Answer {
            let _ = self.strike_once();
            self.pursue(&op, TRIES);
        }
    }

    /// Says whether it was this caller who killed it.
    fn strike_once(&self) -> bool {
        self.arena.strike().unwrap_or_else(|error| {
            self.arena.book.blame("harness", format!("a kill failed: {error}"), None);
            false
        })
    }

    /// The same key with another payload.
    fn misuse(&mut self, op: &Op) {
        let op = Op { payload: (1, op.payload.1), ..op.clone() };
        self.arena.send(&mut self.client, &op, &Script::PLAIN, PATIENT);
    }

    /// Asks until there is an end, or patience is over.
    fn pursue(&mut self, op: &Op, tries: u32) {
        let arena = self.arena;
        let mut doubtful: Option<Duration> = None;
        for _ in 0..tries {
            if arena.book.is_over() {
                return;
            }
            match arena.send(&mut self.client, op, &Script::PLAIN, PATIENT) {
                Told::Answer => return,
                Told::Problem(problem) if problem == "unresolved" => {
                    if arena.book.is_excused(op) {
                        return;
                    }
                    let since = *doubtful.get_or_insert_with(now);
                    let doubt = match arena.store {
                        Backend::Embedded { .. } => DOUBT,
                        Backend::Server(_) => DOUBT_OF_SERVERS,
                    };
                    if now() - since > doubt {
                        let what = "it is unresolved, and nothing happened that could explain it".to_owned();
                        return arena.book.blame("unresolved", what, Some(op.name()));
                    }
                    self.pause(300);
                }
                Told::Problem(problem) if problem == "key-reused" || problem == "answer-gone" => return,
                Told::Problem(_) | Told::Released | Told::Unknown | Told::Nothing => self.pause(150),
            }
        }
    }
}

/// Notes when this machine stands still: what happens then is nobody's fault.
pub(crate) fn watch_for_stalls(arena: &Arena) {
    while !arena.book.is_over() {
        let before = now();
        thread::sleep(ms(20));
        if now() - before > ms(250) {
            count(&arena.book.counts.stalls);
            arena.book.fault("stall");
            arena.book.heal("stall");
        }
    }
}
