//! A NATS server with JetStream of one test's own: it syncs before it answers.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::{Process, free_port, pypi};

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 5;

/// One `nats-server` process and its folder.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    port: u16,
    process: Process,
}

impl NatsServer {
    /// Starts one whose JetStream keeps what it confirmed: `sync_interval: always`, where the server knows that word. Debian's
    /// 2.9 does not; what it loses when the machine does, no test here asks for.
    ///
    /// # Panics
    /// When `nats-server` is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines in its configuration.
    ///
    /// # Panics
    /// When `nats-server` is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        let mut folder = tempfile::tempdir_in(super::memory()).expect("a folder can be made");
        let program = program();
        let sync = if is_old(&program) { "" } else { ", sync_interval: always" };
        for _ in 0..TRIES {
            let port = free_port();
            let mut config = format!("listen: \"127.0.0.1:{port}\"\n");
            let store = folder.path().join("jetstream");
            let _ = writeln!(config, "jetstream {{ store_dir: {store:?}{sync} }}\n{settings}");
            std::fs::write(folder.path().join("nats.conf"), config).expect("a file can be written");
            let process = process(&folder);
            let mut server = Self { folder, port, process };
            if server.answers() {
                return server;
            }
            Self { folder, .. } = server;
        }
        panic!("nats-server does not answer: {}", log_of(&folder))
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
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
            self.process = process(&self.folder);
            if self.answers() {
                return;
            }
        }
        panic!("nats-server does not answer again: {}", log_of(&self.folder))
    }

    /// `SIGSTOP`: it goes on to hold its connections and answers nobody.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// `SIGCONT`.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.is_ok_and(|it| it.success()), "the server gets the signal");
    }

    /// Waits until it has greeted and answered; `false` when it ended.
    fn answers(&mut self) -> bool {
        let began = SystemClock.boot();
        while SystemClock.boot() - began < PATIENCE {
            if self.process.ended().is_some() {
                return false;
            }
            if greeting(self.port).is_some_and(|it| it.starts_with("INFO")) {
                // Streams are there before anybody is greeted.
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        false
    }
}

/// The one that `cargo xtask servers` installed, or Debian's.
fn program() -> PathBuf {
    pypi::installed("nats-server")
        .unwrap_or_else(|| super::program("nats-server", &[PathBuf::from("/usr/sbin")], "nats-server"))
}

/// Whether it is older than 2.10.
fn is_old(program: &Path) -> bool {
    let said = Command::new(program).arg("--version").output().expect("nats-server can be run").stdout;
    String::from_utf8_lossy(&said).contains(" v2.9.")
}

fn process(folder: &TempDir) -> Process {
    let mut command = Command::new(program());
    command.arg("-c").arg(folder.path().join("nats.conf")).current_dir(folder.path());
    Process::start(&mut command, &folder.path().join("log"))
}

fn greeting(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut said = [0; 64];
    let length = stream.read(&mut said).ok()?;
    Some(String::from_utf8_lossy(&said[..length]).into_owned())
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
