//! The gateway as a process: one after the other over the same records.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;

use crate::Result;
use crate::client::{Ask, Client, Reply};
use crate::time::{ms, now};

/// How long a start may take on a machine that is busy.
const START: Duration = ms(30_000);

/// Names the break that a build with the feature `mutants` starts with.
pub(crate) const MUTANT: &str = "MUTANT_OF_ONCEWARD";

/// How the gateway is started.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) binary: PathBuf,
    /// Where the settings and the logs are.
    pub(crate) folder: PathBuf,
    /// What the gateway calls its store.
    pub(crate) store: String,
    /// Which of several gateways this is.
    pub(crate) name: String,
    pub(crate) mutant: Option<String>,
}

impl Setup {
    /// Writes the settings of all runs: short leases, so that a stop goes past them.
    pub(crate) fn write_settings(&self, upstream: SocketAddr) -> Result<()> {
        let settings = format!(
            r#"
            drain_delay = "0s"
            drain = "2s"
            [upstream]
            urls = ["http://{upstream}"]
            connect_timeout = "1s"
            response_timeout = "{}ms"
            [policy]
            lease = "1s"
            run_max = "8s"
            retention = "2h"
            [[route]]
            path = "/wait/**"
            in_flight = "wait 2s"
            [[route]]
            path = "/long/**"
            lease = "6s"
            run_max = "12s"
            [[route]]
            path = "/brief/**"
            retention = "{}s"
            tombstone = "2h"
            "#,
            crate::script::RESPONSE_TIMEOUT.as_millis(),
            crate::plan::BRIEF.as_secs(),
        );
        Ok(fs::write(self.folder.join("onceward.toml"), settings)?)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(self.arguments());
        self.dress(&mut command);
        command
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        let words =
            ["gateway", "--config", "onceward.toml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        words.into_iter().map(str::to_owned).chain(["--store".to_owned(), self.store.clone()]).collect()
    }

    pub(crate) fn dress(&self, command: &mut Command) {
        command.env_clear().current_dir(&self.folder).stdin(Stdio::null());
        if let Some(mutant) = &self.mutant {
            command.env(MUTANT, mutant);
        }
    }

    fn log(&self, number: u32, kind: &str) -> PathBuf {
        self.folder.join(format!("{}-{number}.{kind}", self.name))
    }
}

/// Where a gateway that is ready can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Up {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) token: String,
}

impl Up {
    /// Asks the admin API.
    pub(crate) fn admin(&self, ask: Ask) -> Result<Reply> {
        let ask = ask.with("authorization", format!("Bearer {}", self.token));
        Ok(Client::default().ask(self.admin, &ask, ms(10_000))?)
    }

    /// The records that match, such as `key=k-1`, as the admin API shows them.
    pub(crate) fn records(&self, filter: &str) -> Result<Vec<Value>> {
        let mut records = Vec::new();
        let mut cursor = String::new();
        loop {
            let target = format!("/api/v1/records?{filter}&limit=1000{cursor}");
            let reply = self.admin(Ask::new("GET", target))?;
            if reply.status != 200 {
                return Err(format!("the admin API lists nothing: {reply:?}").into());
            }
            let page = reply.json();
            records.extend(page["records"].as_array().cloned().unwrap_or_default());
            let Some(next) = page["next"].as_str() else { return Ok(records) };
            cursor = format!("&cursor={next}");
        }
    }

    /// Says what became of a record that was shown.
    pub(crate) fn resolve(&self, record: &Value, verdict: &Value) -> Result<Reply> {
        let id = record["id"].as_str().unwrap_or_default();
        let ask = Ask::new("POST", format!("/api/v1/records/{id}/resolve"));
        self.admin(ask.with("content-type", "application/json").body(verdict.to_string().into_bytes()))
    }
}

/// Starts, kills and stops gateways. At most one runs at a time.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) setup: Setup,
    seat: Mutex<Seat>,
}

#[derive(Debug, Default)]
struct Seat {
    child: Option<Child>,
    up: Option<Up>,
    starts: u32,
}

impl Keeper {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, seat: Mutex::default() }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it can be reached, while it is meant to.
    pub(crate) fn up(&self) -> Option<Up> {
        self.seat().up.clone()
    }

    /// Starts a gateway and does not wait for it.
    pub(crate) fn spawn(&self) -> Result<()> {
        self.spawn_as(|command| command)
    }

    /// Like [`Keeper::spawn`], with another command around it.
    pub(crate) fn spawn_as(&self, wrap: impl FnOnce(Command) -> Command) -> Result<()> {
        let mut seat = self.seat();
        seat.starts += 1;
        let [log, errors] = ["log", "err"].map(|it| self.setup.log(seat.starts, it));
        let mut command = wrap(self.setup.command());
        seat.child = Some(command.stdout(File::create(log)?).stderr(File::create(errors)?).spawn()?);
        seat.up = None;
        Ok(())
    }

    /// Waits until the gateway that was spawned last is ready. `Ok(false)`: it has ended before.
    pub(crate) fn wait_ready(&self) -> Result<bool> {
        let end = now() + START;
        loop {
            let mut seat = self.seat();
            let log = self.setup.log(seat.starts, "log");
            if let Some(up) = self.ready(&log) {
                seat.up = Some(up);
                return Ok(true);
            }
            let Some(child) = seat.child.as_mut() else { return Ok(false) };
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            drop(seat);
            if now() > end {
                return Err(format!("the gateway is not ready after {START:?}: {}", log.display()).into());
            }
            std::thread::sleep(ms(5));
        }
    }

    /// Starts a gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Result<()> {
        self.spawn()?;
        if self.wait_ready()? {
            return Ok(());
        }
        Err(format!("the gateway did not start: {}", self.last_words()).into())
    }

    fn ready(&self, log: &Path) -> Option<Up> {
        let text = fs::read_to_string(log).ok()?;
        let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        let mut lines = whole.filter_map(|it| serde_json::from_str::<Value>(it).ok());
        let line = lines.find(|it| it["message"] == "the gateway is ready")?;
        let address = |name: &str| line[name].as_str()?.parse().ok();
        let token = fs::read_to_string(self.setup.folder.join(line["token_file"].as_str()?)).ok()?;
        Some(Up { address: address("listen")?, admin: address("admin")?, token: token.trim().to_owned() })
    }

    /// `kill -9`. Says whether there was something to kill.
    pub(crate) fn kill(&self) -> Result<bool> {
        let mut seat = self.seat();
        seat.up = None;
        let Some(mut child) = seat.child.take() else { return Ok(false) };
        child.kill()?;
        child.wait()?;
        Ok(true)
    }

    /// `kill -9` of a gateway that is ready; none that is on its way up or down.
    pub(crate) fn kill_ready(&self) -> Result<bool> {
        let mut seat = self.seat();
        if seat.up.take().is_none() {
            return Ok(false);
        }
        let Some(mut child) = seat.child.take() else { return Ok(false) };
        child.kill()?;
        child.wait()?;
        Ok(true)
    }

    /// Stops it with SIGSTOP and waits until all of it stands still.
    pub(crate) fn freeze(&self) -> Result<()> {
        let seat = self.seat();
        if let Some(child) = &seat.child {
            let pid = Pid::from_child(child);
            kill_process(pid, Signal::STOP)?;
            waitpid(Some(pid), WaitOptions::UNTRACED)?;
        }
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        match &self.seat().child {
            Some(child) => Ok(kill_process(Pid::from_child(child), Signal::CONT)?),
            None => Ok(()),
        }
    }

    /// SIGTERM, and its exit code. Callers may connect until it has ended.
    pub(crate) fn stop(&self) -> Result<Option<i32>> {
        let pid = self.seat().child.as_ref().map(Pid::from_child);
        let Some(pid) = pid else { return Ok(None) };
        kill_process(pid, Signal::TERM)?;
        let end = now() + START;
        while now() < end {
            if let Some(status) = self.ended()? {
                return Ok(status.code());
            }
            if !self.has_process() {
                // Somebody killed it meanwhile.
                return Ok(None);
            }
            std::thread::sleep(ms(5));
        }
        Err("the gateway does not stop".into())
    }

    /// How it ended, where it has.
    pub(crate) fn ended(&self) -> Result<Option<ExitStatus>> {
        let mut seat = self.seat();
        let Some(child) = seat.child.as_mut() else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        seat.child = None;
        seat.up = None;
        Ok(Some(status))
    }

    /// Whether there is a process now.
    pub(crate) fn has_process(&self) -> bool {
        self.seat().child.is_some()
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.seat().child.as_ref().map(Child::id)
    }

    /// What the last gateway wrote to its standard error, and the end of its log.
    pub(crate) fn last_words(&self) -> String {
        let number = self.seat().starts;
        let [log, errors] =
            ["log", "err"].map(|it| fs::read_to_string(self.setup.log(number, it)).unwrap_or_default());
        let end = log.lines().rev().take(3).collect::<Vec<_>>();
        format!("{errors}{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    /// Every line of every log that names this record by its prefix, or tells of a panic.
    pub(crate) fn lines_about(&self, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        for number in 1..=self.seat().starts {
            for kind in ["log", "err"] {
                let text = fs::read_to_string(self.setup.log(number, kind)).unwrap_or_default();
                let told = text.lines().filter(|it| it.contains(prefix) || it.contains("panicked"));
                found.extend(told.map(|it| format!("{} {number}: {it}", self.setup.name)));
            }
        }
        found
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
