//! The consumers, and the relays beside them, each started again and again, and what is done to the broker and the store meanwhile.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use super::{Field, LEASE, NAME, Strength, carried};
use crate::Result;
use crate::time::{ms, now};

/// Cannot start: the store is away.
pub(super) const CANNOT_START: i32 = 4;
/// Of twenty seconds, the last ones are without faults: what is unresolved then has no excuse.
const ROUND: Duration = ms(20_000);
const REST: Duration = ms(6_000);
/// How long nothing is received once nothing is left. A group of Kafka waits this long for a member that died.
const QUIET: Duration = ms(12_000);

/// What was done to a process, or to all of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// `None` for all.
    pub(super) process: Option<u64>,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// Whether faults may happen now.
fn strikes(field: &Field<'_>) -> bool {
    let into = (now() - field.began).as_millis() % ROUND.as_millis();
    !field.ends.load(Ordering::SeqCst) && into < (ROUND - REST).as_millis()
}

/// A process that is there all the time, though it dies again and again.
#[derive(Debug, Clone, Copy)]
pub(super) enum Post {
    Consumer(u64),
    /// One that sends what answers name, and consumes nothing.
    Relay(u64),
}

/// Keeps one process running until the end, and kills or stops it now and then. In the end it is told to stop.
pub(super) fn keep(field: &Field<'_>, post: Post) -> Result<()> {
    let (seed, log, what, kills) = match post {
        Post::Consumer(slot) => {
            (0x636f_6e73_0000 + slot, format!("consumer-{slot}.log"), "a consumer", &field.kills)
        }
        Post::Relay(slot) => {
            (0x7265_6c61_0000 + slot, format!("relay-{slot}.log"), "a relay", &field.relay_kills)
        }
    };
    let mut rng = Rng::with_seed(field.args.subject.seed ^ seed);
    let log = field.folder.join(log);
    // Nobody reads what relays would tell there.
    let told = || match post {
        Post::Consumer(slot) => page(super::page_address(slot)).unwrap_or_default(),
        Post::Relay(_) => String::new(),
    };
    loop {
        let process = field.processes.fetch_add(1, Ordering::SeqCst);
        let log_file = File::options().create(true).append(true).open(&log)?;
        let mut alive = command(field, process, post)?
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()
            .map(Alive)?;
        let mut strikes_at = now() + ms(rng.u64(300..7_000));
        while !field.is_over.load(Ordering::SeqCst) {
            thread::sleep(ms(10));
            if let Some(status) = alive.0.try_wait()? {
                if status.code() == Some(CANNOT_START) && field.was_away() {
                    break;
                }
                return Err(format!("{what} ended by itself with {status}: see {}", log.display()).into());
            }
            if now() < strikes_at || !strikes(field) {
                continue;
            }
            let pid = Pid::from_child(&alive.0);
            if rng.u32(0..3) == 0 {
                let from = now();
                kill_process(pid, Signal::STOP)?;
                thread::sleep(LEASE.mul_f64(1.2 + rng.f64() * 0.4));
                kill_process(pid, Signal::CONT)?;
                field.stops.fetch_add(1, Ordering::SeqCst);
                field.fault(Fault { process: Some(process), from, to: now() });
                strikes_at = now() + ms(rng.u64(0..4_000));
                if rng.bool() {
                    continue;
                }
                thread::sleep(ms(rng.u64(0..300)));
            }
            field.counted.add(&told());
            kills.fetch_add(1, Ordering::SeqCst);
            alive.0.kill()?;
            alive.0.wait()?;
            field.fault(Fault { process: Some(process), from: now(), to: now() });
            break;
        }
        if field.is_over.load(Ordering::SeqCst) {
            field.counted.add(&told());
            // One that could not start just now has ended.
            if alive.0.try_wait()?.is_some_and(|it| it.code() == Some(CANNOT_START) && field.was_away()) {
                return Ok(());
            }
            kill_process(Pid::from_child(&alive.0), Signal::TERM)?;
            let status = alive.0.wait()?;
            return if status.success() { Ok(()) } else { Err(format!("{what} ended with {status}").into()) };
        }
    }
}

/// A process that does not outlive its keeper.
struct Alive(Child);

impl Drop for Alive {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(field: &Field<'_>, process: u64, post: Post) -> Result<Command> {
    let lease = format!("{}ms", LEASE.as_millis());
    let mut command = match field.args.strength {
        Strength::Lease => field.command(&field.binary),
        Strength::Transaction => field.command(&std::env::current_exe()?),
    };
    match (field.args.strength, post) {
        (_, Post::Relay(_)) => {
            command.args(["relay", "--lease", &lease, "--timeout", "20s"]);
            command.args(["--poll", "20ms", "--pause", "50ms"]);
        }
        (Strength::Lease, Post::Consumer(_)) => {
            command.args(["consume", "--to", &format!("http://{}/on/{process}", field.handler.address)]);
            command.args(["--lease", &lease, "--timeout", "20s"]);
            command.args(["--pause", "50ms", "--attempts", &super::ATTEMPTS.to_string(), "--parallel", "16"]);
            command.args(["--unresolved", "hold", "--allow-short-windows"]);
        }
        (Strength::Transaction, Post::Consumer(_)) => {
            command.args(["committing", "--process", &process.to_string()]);
            command.args(["--seed", &field.args.subject.seed.to_string()]);
        }
    }
    if let Post::Consumer(slot) = post {
        command.args(["--from", &field.from, "--name", NAME, "--key", &field.args.key]);
        command.args(["--metrics", &super::page_address(slot).to_string()]);
    }
    if let Some(receiver) = &field.receiver {
        command.args(["--send", &format!("{}={}", carried::KIND, receiver.url(process))]);
    }
    command.args(["--store", &field.store.url()]);
    if let Some(mutant) = &field.args.subject.mutant {
        command.env(crate::gateway::MUTANT, mutant);
    }
    Ok(command)
}

/// Restarts the broker and the store now and then, and watches whether the machine itself stands still.
pub(super) fn disturb(field: &Field<'_>) -> Result<()> {
    let mut rng = Rng::with_seed(field.args.subject.seed ^ 0x6469_7374);
    let mut broker_at = now() + ms(rng.u64(2_000..6_000));
    let mut store_at = now() + ms(rng.u64(4_000..9_000));
    while !field.ends.load(Ordering::SeqCst) {
        thread::sleep(ms(20));
        if !strikes(field) {
            continue;
        }
        if now() > broker_at {
            let away = ms(rng.u64(0..1_500));
            field.broker.lock().map_err(|_| "a producer panicked")?.restart(away, &field.runtime);
            field.broker_restarts.fetch_add(1, Ordering::SeqCst);
            broker_at = now() + field.args.source.rest().mul_f64(0.5 + rng.f64());
        }
        if now() > store_at && field.store.is_server() {
            let from = now();
            field.away_from(from);
            field.store.restart(ms(rng.u64(0..1_500)))?;
            field.store_restarts.fetch_add(1, Ordering::SeqCst);
            field.fault(Fault { process: None, from, to: now() });
            field.back();
            store_at = now() + ms(rng.u64(10_000..25_000));
        }
    }
    Ok(())
}

/// Notes when nothing ran for a while: then nobody could renew a lease.
pub(super) fn watch(field: &Field<'_>) {
    let mut last = now();
    while !field.is_over.load(Ordering::SeqCst) {
        thread::sleep(ms(20));
        if now() - last > LEASE / 3 {
            field.standstills.fetch_add(1, Ordering::SeqCst);
            field.fault(Fault { process: None, from: last, to: now() });
        }
        last = now();
    }
}

/// The metrics of a process. Who is being killed need not answer.
fn page(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ms(200))?;
    stream.set_read_timeout(Some(ms(300)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Whether nobody receives anything any more, for longer than what a killed consumer had is hidden: for brokers that are not asked.
pub(super) fn is_quiet(field: &Field<'_>) -> bool {
    let received = || -> Option<Vec<String>> {
        let pages: Result<Vec<_>> =
            (0..field.args.consumers).map(|it| page(super::page_address(it))).collect();
        let is_count = |it: &&str| it.starts_with("onceward_messages");
        Some(pages.ok()?.iter().flat_map(|it| it.lines().filter(is_count).map(str::to_owned)).collect())
    };
    let (before, until) = (received(), now() + QUIET);
    while now() < until {
        if before.is_none() || received() != before {
            return false;
        }
        thread::sleep(ms(200));
    }
    true
}
