//! A Redis server of one test's own: it syncs its append-only file before it answers, unless told otherwise.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::{Process, free_port, program};

/// How long a server may take until it answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 5;

/// One `redis-server` process and its folder.
#[derive(Debug)]
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    settings: Vec<(String, String)>,
    process: Process,
}

impl RedisServer {
    /// Starts one that is durable: `appendonly yes`, `appendfsync always`, no snapshots.
    ///
    /// # Panics
    /// When `redis-server` is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with other settings, as `redis.conf` names them; a later one wins.
    ///
    /// # Panics
    /// When `redis-server` is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_in(&super::memory(), settings)
    }

    /// The same with its files in a new folder in `parent`: on a disk, a sync costs what it costs.
    ///
    /// # Panics
    /// When `redis-server` is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start_in(parent: &Path, settings: &[(&str, &str)]) -> Self {
        let mut folder = tempfile::tempdir_in(parent).expect("a folder can be made");
        let mut settings: Vec<_> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for _ in 0..TRIES {
            let port = free_port();
            let process = process(&folder, port, &settings);
            let mut server = Self { folder, port, settings, process };
            if server.answers() {
                return server;
            }
            Self { folder, settings, .. } = server;
        }
        panic!("redis-server does not answer: {}", log_of(&folder))
    }

    /// Starts a replica of `primary`, and waits until it has its data.
    ///
    /// # Panics
    /// When it has not within 20 s.
    #[must_use]
    pub fn start_replica(primary: &Self) -> Self {
        let replica = Self::start_with(&[("replicaof", &format!("127.0.0.1 {}", primary.port))]);
        replica.until(&["INFO", "replication"], "master_link_status:up");
        replica
    }

    /// Asks with `redis-cli` until the answer contains `what`.
    ///
    /// # Panics
    /// When it does not within 20 s.
    pub fn until(&self, arguments: &[&str], what: &str) {
        until_says(self.port, None, arguments, what);
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The id of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The URL of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on what its files have, on the same port.
    ///
    /// # Panics
    /// When it does not answer within 20 s.
    pub fn start_again(&mut self) {
        self.process.kill();
        for _ in 0..TRIES {
            self.process = process(&self.folder, self.port, &self.settings);
            if self.answers() {
                return;
            }
        }
        panic!("redis-server does not answer again: {}", log_of(&self.folder))
    }

    /// `SIGSTOP`: it goes on to hold its connections and answers nobody.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Cuts so many bytes off the end of the append-only file of a server that is down, as a lost tail of the disk.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn cut_tail(&self, bytes: u64) {
        let folder = self.folder.path().join("appendonlydir");
        let files = std::fs::read_dir(folder).expect("there is a folder of append-only files");
        let tail = files.flatten().map(|it| it.path());
        let tail = tail.filter(|it| it.to_string_lossy().ends_with(".incr.aof")).max();
        let file = OpenOptions::new().write(true).open(tail.expect("there is a file that grows"));
        let file = file.expect("it can be opened");
        let length = file.metadata().expect("it has a length").len();
        file.set_len(length.saturating_sub(bytes)).expect("it can be cut");
    }

    /// What `redis-cli` prints for a command, without the last line break.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn cli(&self, arguments: &[&str]) -> String {
        cli(self.port, None, arguments)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|it| it.success()), "the server gets the signal");
    }

    /// Waits until it answers; `false` when it ended.
    fn answers(&mut self) -> bool {
        wait_for_ping(&mut self.process, self.port)
    }
}

/// Waits until a process that speaks Redis answers; `false` when it ended.
pub(super) fn wait_for_ping(process: &mut Process, port: u16) -> bool {
    let began = SystemClock.boot();
    while SystemClock.boot() - began < PATIENCE {
        if process.ended().is_some() {
            return false;
        }
        if ping(port).is_some_and(|it| it.starts_with("+PONG") || it.starts_with("-NOAUTH")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// Asks whoever listens there until the answer contains `what`.
pub(super) fn until_says(port: u16, password: Option<&str>, arguments: &[&str], what: &str) {
    let began = SystemClock.boot();
    while !cli(port, password, arguments).contains(what) {
        assert!(SystemClock.boot() - began < PATIENCE, "{arguments:?} never says {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn cli(port: u16, password: Option<&str>, arguments: &[&str]) -> String {
    let mut command = Command::new(program("redis-cli", &folders(), "redis-tools"));
    command.args(["-p", &port.to_string()]);
    if let Some(password) = password {
        command.args(["--no-auth-warning", "-a", password]);
    }
    let out = command.args(arguments).output().expect("redis-cli can be run");
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn process(folder: &TempDir, port: u16, settings: &[(String, String)]) -> Process {
    let mut command = Command::new(program("redis-server", &folders(), "redis-server"));
    let port = port.to_string();
    let own = [
        ("port", port.as_str()),
        ("bind", "127.0.0.1"),
        ("save", ""),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("repl-diskless-sync-delay", "0"),
    ];
    let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.into_iter().chain(given) {
        command.arg(format!("--{name}")).arg(value);
    }
    command.current_dir(folder.path());
    Process::start(&mut command, &folder.path().join("log"))
}

fn ping(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"PING\r\n").ok()?;
    let mut said = [0; 64];
    let length = stream.read(&mut said).ok()?;
    Some(String::from_utf8_lossy(&said[..length]).into_owned())
}

pub(super) fn folders() -> Vec<PathBuf> {
    ["/usr/bin", "/usr/local/bin"].map(PathBuf::from).into()
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
