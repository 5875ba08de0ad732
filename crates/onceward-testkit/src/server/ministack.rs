//! A stand-in for SQS of one test's own.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::redis::PATIENCE;
use super::{Process, free_port, pypi};

/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 5;

/// One `ministack` process that serves SQS alone.
#[derive(Debug)]
pub struct Ministack {
    folder: TempDir,
    port: u16,
    process: Process,
}

impl Ministack {
    /// Starts one.
    ///
    /// # Panics
    /// When it is missing, or does not answer within 20 s.
    #[must_use]
    pub fn start() -> Self {
        let mut folder = tempfile::tempdir_in(super::memory()).expect("a folder can be made");
        for _ in 0..TRIES {
            let port = free_port();
            let process = process(&folder, port);
            let mut server = Self { folder, port, process };
            if server.answers() {
                return server;
            }
            Self { folder, .. } = server;
        }
        panic!("ministack does not answer: {}", log_of(&folder))
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops it by SIGTERM, so that it writes down what it has, and starts it again on that.
    ///
    /// # Panics
    /// When it does not end, or not answer again, within 20 s each.
    pub fn stop_and_start_again(&mut self) {
        let told = Command::new("kill").arg(self.process.id().to_string()).status();
        assert!(told.is_ok_and(|it| it.success()), "the server gets the signal");
        let began = SystemClock.boot();
        while self.process.ended().is_none() {
            assert!(SystemClock.boot() - began < PATIENCE, "ministack does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process = process(&self.folder, self.port);
        assert!(self.answers(), "ministack does not answer again: {}", log_of(&self.folder));
    }

    /// Waits until it answers; `false` when it ended, or another has its port.
    fn answers(&mut self) -> bool {
        let began = SystemClock.boot();
        while SystemClock.boot() - began < PATIENCE {
            if self.process.ended().is_some() {
                return false;
            }
            if is_healthy(self.port).unwrap_or(false) {
                return self.process.listens_on(self.port);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

fn process(folder: &TempDir, port: u16) -> Process {
    let mut command = Command::new(pypi::program("ministack"));
    command
        .env("BIND_HOST", "127.0.0.1")
        .env("GATEWAY_PORT", port.to_string())
        .env("SERVICES", "sqs")
        .env("PERSIST_STATE", "1")
        .env("STATE_DIR", folder.path().join("state"))
        .env("HOME", folder.path())
        .current_dir(folder.path());
    Process::start(&mut command, &folder.path().join("log"))
}

fn is_healthy(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ministack/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said.starts_with("HTTP/1.1 200"))
}

fn log_of(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
