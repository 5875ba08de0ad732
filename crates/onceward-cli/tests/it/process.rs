//! The command as a process: started with nothing but what the test gives it, ended with the test.

use std::cell::Cell;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Ask, Reply, get};
use crate::wait::{until, until_true};

/// The command with an empty environment and nothing to read.
pub(crate) fn onceward(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    command.env_clear().current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself; ends it when it does not.
pub(crate) fn run(command: &mut Command) -> Ended {
    run_as_it_is(command.stdout(Stdio::piped()).stderr(Stdio::piped()))
}

/// Like [`run`], with the outputs where the command has them.
pub(crate) fn run_as_it_is(command: &mut Command) -> Ended {
    let child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let waiting = std::thread::spawn(move || child.wait_with_output());
    let mut is_over = || waiting.is_finished().then_some(());
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("the command ends", &mut is_over)))
        .is_err()
    {
        kill_process(pid, Signal::KILL).unwrap();
        panic!("the command did not end: {:?}", waiting.join().unwrap());
    }
    let Output { status, stdout, stderr } = waiting.join().unwrap().unwrap();
    Ended {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// How a command ended and what it said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Fails unless it ended with this code.
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A folder in which gateways of one test run, one after the other or side by side, over the same records.
pub(crate) struct Place {
    folder: TempDir,
    upstream: String,
    variables: Vec<(String, String)>,
    store: String,
    starts: Cell<u32>,
}

impl Place {
    /// For gateways in front of this upstream.
    pub(crate) fn before(upstream: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (upstream, store) = (upstream.to_owned(), "embedded:records".to_owned());
        let place = Self { folder, upstream, variables: Vec::new(), store, starts: Cell::new(0) };
        place.with("drain_delay", "0s")
    }

    /// With a setting, by its dotted name.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let name = format!("ONCEWARD_{}", name.replace('.', "__").to_uppercase());
        self.variables.retain(|it| it.0 != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    /// With another store URL. A relative path is taken from the folder.
    pub(crate) fn with_store(mut self, store: &str) -> Self {
        store.clone_into(&mut self.store);
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn records(&self) -> PathBuf {
        self.folder.path().join("records")
    }

    /// The command `onceward gateway` with free ports and this store, not started yet.
    pub(crate) fn command(&self) -> Command {
        let mut command = onceward(self.folder());
        command
            .args(["gateway", "--upstream", &self.upstream, "--store", &self.store])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .envs(self.variables.iter().cloned());
        command
    }

    /// Starts a gateway that may take its time or not start at all.
    pub(crate) fn begin(&self) -> Process {
        self.begin_command(&mut self.command())
    }

    pub(crate) fn begin_command(&self, command: &mut Command) -> Process {
        let number = self.starts.replace(self.starts.get() + 1);
        let [log, errors] = ["log", "err"].map(|it| self.folder().join(format!("gateway-{number}.{it}")));
        command.stdout(File::create(&log).unwrap()).stderr(File::create(&errors).unwrap());
        Process { child: command.spawn().unwrap(), log, errors }
    }

    /// Starts a gateway and waits until it is ready.
    pub(crate) fn start(&self) -> Gateway {
        self.begin().ready()
    }

    /// Like [`Place::start`], with more arguments.
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Gateway {
        self.begin_command(self.command().args(arguments)).ready()
    }
}

/// A process of `onceward gateway`. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    errors: PathBuf,
}

impl Process {
    /// A process whose output goes elsewhere.
    pub(crate) fn of(child: Child, folder: &Path) -> Self {
        Self { child, log: folder.join("none.log"), errors: folder.join("none.err") }
    }

    /// Waits until it says that it is ready.
    pub(crate) fn ready(mut self) -> Gateway {
        let ready = until("the gateway is ready", || {
            assert!(self.is_running(), "the gateway ended: {}{}", self.log(), self.errors());
            self.lines().into_iter().find(|it| it["message"] == "the gateway is ready")
        });
        let address = |name: &str| ready[name].as_str().unwrap().parse().unwrap();
        let token_file = self.log.with_file_name(ready["token_file"].as_str().unwrap());
        Gateway { address: address("listen"), admin: address("admin"), token_file, process: self }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it with SIGSTOP and waits until all of it stands still.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let pid = Pid::from_child(&self.child);
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// `kill -9`: nothing is finished, nothing is said.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end and gives the exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = until("the gateway ends", || self.child.try_wait().unwrap());
        status.code().expect("it ended by itself")
    }

    /// What it wrote to its standard output.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What it wrote to its standard error.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    /// The whole lines of the log so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let log = self.log();
        let whole = log.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        whole.map(|it| serde_json::from_str(it).unwrap()).collect()
    }

    /// The lines of the log with this target, once there are so many of them.
    pub(crate) fn until_lines(&self, target: &str, count: usize) -> Vec<Value> {
        until("the lines are logged", || {
            let lines: Vec<_> = self.lines().into_iter().filter(|it| it["target"] == target).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Waits until a line with this message is logged.
    pub(crate) fn until_says(&self, message: &str) -> Value {
        until("the message is logged", || self.lines().into_iter().find(|it| it["message"] == message))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that was ready.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) token_file: PathBuf,
}

impl Gateway {
    /// Sends a request, which must be answered.
    pub(crate) fn ask(&self, ask: &Ask) -> Reply {
        ask.send(self.address).unwrap()
    }

    /// Repeats a request until the answer is another than "still running".
    pub(crate) fn ask_until_settled(&self, ask: &Ask) -> Reply {
        until("the operation is no longer in progress", || {
            let reply = self.ask(ask);
            if reply.problem() != "in-progress" {
                return Some(reply);
            }
            assert_eq!((reply.status, reply.header("retry-after")), (409, Some("1")), "{reply:?}");
            None
        })
    }

    /// A page of the admin listener that needs no token.
    pub(crate) fn page(&self, path: &str) -> Reply {
        get(path).send(self.admin).unwrap()
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(&self.token_file).unwrap().trim().to_owned()
    }

    /// The only record with this key, as the admin API shows it.
    pub(crate) fn record(&self, key: &str) -> Value {
        self.record_if_any(key).expect("there is a record")
    }

    fn record_if_any(&self, key: &str) -> Option<Value> {
        let bearer = format!("Bearer {}", self.token());
        let ask = get(&format!("/api/v1/records?key={key}")).with("authorization", &bearer);
        let mut page = ask.send(self.admin).unwrap().json();
        let records = page["records"].as_array_mut().unwrap();
        assert!(records.len() <= 1, "{records:?}");
        records.pop()
    }

    /// Waits until the record with this key is in this state.
    pub(crate) fn until_state(&self, key: &str, state: &str) -> Value {
        until("the record is in that state", || self.record_if_any(key).filter(|it| it["state"] == state))
    }

    /// Waits until no operation runs.
    pub(crate) fn until_idle(&self) {
        until_true("no operation runs", || {
            self.page("/metrics").text().contains("\nonceward_operations_running 0\n")
        });
    }

    /// Tells it to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> i32 {
        self.process.signal(Signal::TERM);
        self.process.exit_code()
    }

    /// Ends it like `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }
}
