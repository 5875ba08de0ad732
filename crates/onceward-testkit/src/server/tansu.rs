//! A broker of one test's own that speaks the protocol of Kafka. What it keeps, it keeps in memory.

use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::redis::PATIENCE;
use super::{Process, free_port, pypi};
use crate::Wire;

/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 5;

/// One `tansu` process, and the wire by which all clients reach it.
#[derive(Debug)]
pub struct Tansu {
    wire: Wire,
    _process: Process,
    _folder: TempDir,
}

impl Tansu {
    /// Starts one with a topic.
    ///
    /// # Panics
    /// When it is missing, or does not answer within 20 s.
    pub async fn start(topic: &str, partitions: u32) -> Self {
        let folder = tempfile::tempdir_in(super::memory()).expect("a folder can be made");
        let log = folder.path().join("log");
        for _ in 0..TRIES {
            let port = free_port();
            let wire = Wire::to((Ipv4Addr::LOCALHOST, port).into()).await;
            let mut command = Command::new(pypi::program("tansu"));
            command
                .args(["broker", "--storage-engine", "memory://tansu/"])
                .args(["--listener-url", &format!("tcp://127.0.0.1:{port}")])
                .args(["--advertised-listener-url", &format!("tcp://{}", wire.address())]);
            let mut process = Process::start(&mut command, &log);
            if answers(&mut process, port).await {
                let made = Command::new(pypi::program("tansu"))
                    .args(["topic", "create", "--partitions", &partitions.to_string()])
                    .args(["--broker", &format!("tcp://127.0.0.1:{port}"), topic])
                    .output();
                assert!(made.is_ok_and(|it| it.status.success()), "a topic can be made");
                return Self { wire, _process: process, _folder: folder };
            }
        }
        panic!("tansu does not answer: {}", std::fs::read_to_string(log).unwrap_or_default())
    }

    /// Where clients reach it.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.wire.address().to_string()
    }

    /// Resets every connection, and closes new ones for as long as `away`.
    pub async fn cut_off(&self, away: Duration) {
        self.wire.refuse(true);
        self.wire.cut();
        tokio::time::sleep(away).await;
        self.wire.refuse(false);
    }
}

/// Waits until it listens; `false` when it ended, or another has its port.
async fn answers(process: &mut Process, port: u16) -> bool {
    let began = SystemClock.boot();
    while SystemClock.boot() - began < PATIENCE {
        if process.ended().is_some() {
            return false;
        }
        if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return process.listens_on(port);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}
