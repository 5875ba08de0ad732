//! The relays, each started again and again, and what is done to the database and the broker meanwhile.

use std::fs::File;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};

use super::{Field, IN_HAND};
use crate::Result;
use crate::time::{ms, now};

/// How long an effect is a relay's.
const LEASE: Duration = ms(1_000);

/// Cannot start: the database is away.
const CANNOT_START: i32 = 4;

/// Keeps one relay running until the end, and kills or stops it now and then. In the end it is told to stop.
pub(super) fn keep(field: &Field<'_>, number: u64) -> Result<()> {
    let mut rng = Rng::with_seed(field.args.subject.seed ^ (0x7265_6c61_7900 + number));
    let log = field.folder.join(format!("relay-{number}.log"));
    loop {
        let mut relay = start(field, &File::options().create(true).append(true).open(&log)?)?;
        let strikes = now() + ms(rng.u64(200..3_000));
        while !field.is_over.load(Ordering::SeqCst) {
            thread::sleep(ms(10));
            if let Some(status) = relay.try_wait()? {
                if status.code() == Some(CANNOT_START) && field.is_away.load(Ordering::SeqCst) {
                    break;
                }
                return Err(format!("a relay ended by itself with {status}: see {}", log.display()).into());
            }
            if now() < strikes || field.ends.load(Ordering::SeqCst) {
                continue;
            }
            let pid = Pid::from_child(&relay);
            if rng.u32(0..5) == 0 {
                field.stops.fetch_add(1, Ordering::SeqCst);
                kill_process(pid, Signal::STOP)?;
                thread::sleep(LEASE.mul_f64(1.3));
                kill_process(pid, Signal::CONT)?;
                thread::sleep(ms(rng.u64(0..300)));
            }
            field.kills.fetch_add(1, Ordering::SeqCst);
            relay.kill()?;
            relay.wait()?;
            break;
        }
        if field.is_over.load(Ordering::SeqCst) {
            if relay.try_wait()?.is_some() {
                return Ok(());
            }
            kill_process(Pid::from_child(&relay), Signal::TERM)?;
            let status = relay.wait()?;
            return if status.success() {
                Ok(())
            } else {
                Err(format!("a relay ended with {status}").into())
            };
        }
    }
}

fn start(field: &Field<'_>, log: &File) -> Result<Child> {
    let mut command = field.command();
    command
        .args(["relay", "--store", &field.database.url("onceward")])
        .args(["--send", &format!("queue={}", field.stream())])
        .args(["--poll", "20ms", "--lease", "1s", "--pause", "50ms", "--attempts", "10000"])
        .args(["--parallel", "32", "--in-hand", &IN_HAND.to_string()]);
    if let Some(mutant) = &field.args.subject.mutant {
        command.env(crate::gateway::MUTANT, mutant);
    }
    Ok(command.stdout(log.try_clone()?).stderr(log.try_clone()?).spawn()?)
}

/// Restarts the database once in the middle of the run, and lets the broker stand still now and then, so that relays have
/// something in hand when they are killed.
pub(super) fn disturb(field: &Field<'_>) -> Result<()> {
    let mut rng = Rng::with_seed(field.args.subject.seed ^ 0x6469_7374);
    let middle = now() + Duration::from_secs(field.args.seconds) / 2;
    while !field.ends.load(Ordering::SeqCst) {
        thread::sleep(ms(rng.u64(200..1_500)));
        if now() > middle && field.restarts.load(Ordering::SeqCst) == 0 {
            field.is_away.store(true, Ordering::SeqCst);
            field.database.kill();
            thread::sleep(ms(rng.u64(0..1_500)));
            field.database.restart();
            field.restarts.fetch_add(1, Ordering::SeqCst);
            // A relay that began while it was away still has to find that out.
            thread::sleep(ms(500));
            field.is_away.store(false, Ordering::SeqCst);
        }
        field.broker.pause();
        thread::sleep(ms(rng.u64(100..700)));
        field.broker.resume();
        field.standstills.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
