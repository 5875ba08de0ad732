//! A Redis primary with a replica, and three Sentinels that watch them.

use std::process::Command;
use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::redis::{PATIENCE, cli, folders, until_says, wait_for_ping};
use super::{Process, RedisServer, free_port, program};

/// What the Sentinels call the primary.
const NAME: &str = "orders";
/// How often another port is tried when somebody else took the free one.
const TRIES: usize = 5;

/// A primary that has a replica, and three Sentinels: two of them suffice to put the replica in its place, when it was silent
/// for half a second.
#[derive(Debug)]
pub struct RedisSentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<(Process, u16)>,
    folder: TempDir,
    password: Option<String>,
}

impl RedisSentinels {
    /// Starts them. Who asks the Sentinels needs `password`, if there is one.
    ///
    /// # Panics
    /// When they do not find each other within 20 s.
    #[must_use]
    pub fn start(password: Option<&str>) -> Self {
        let primary = RedisServer::start();
        let replica = RedisServer::start_replica(&primary);
        let folder = tempfile::tempdir_in(super::memory()).expect("a folder can be made");
        let mut it = Self {
            servers: [primary, replica],
            sentinels: Vec::new(),
            folder,
            password: password.map(str::to_owned),
        };
        for number in 0..3 {
            let sentinel = it.sentinel(number);
            it.sentinels.push(sentinel);
        }
        for (_, port) in &it.sentinels {
            let described = ["SENTINEL", "master", NAME];
            until_says(*port, password, &described, "num-other-sentinels\n2");
            until_says(*port, password, &described, "num-slaves\n1");
        }
        it
    }

    /// The URL that names the Sentinels.
    #[must_use]
    pub fn url(&self) -> String {
        let all: Vec<_> = self.sentinels.iter().map(|it| format!("127.0.0.1:{}", it.1)).collect();
        format!("redis-sentinel://{}/{NAME}", all.join(","))
    }

    /// Kills the primary, waits until the Sentinels have put the replica in its place, and starts the killed one again, which
    /// follows then. May be done over and over.
    ///
    /// # Panics
    /// When one of these does not happen within 20 s.
    pub fn fail_over(&mut self) {
        let [primary, replica] = &mut self.servers;
        primary.kill();
        let began = SystemClock.boot();
        while !replica.cli(&["INFO", "replication"]).contains("role:master") {
            assert!(SystemClock.boot() - began < PATIENCE, "the replica takes the place of the primary");
            // They see it by themselves; on a busy machine their votes may take long.
            let (_, sentinel) = &self.sentinels[self.sentinels.len() - 1];
            cli(*sentinel, self.password.as_deref(), &["SENTINEL", "FAILOVER", NAME]);
            std::thread::sleep(Duration::from_millis(100));
        }
        primary.start_again();
        // The Sentinels would say so, too, after they have watched it for eight seconds.
        primary.cli(&["REPLICAOF", "127.0.0.1", &replica.port().to_string()]);
        primary.until(&["INFO", "replication"], "master_link_status:up");
        self.servers.swap(0, 1);
        let port = self.servers[0].port().to_string();
        for (_, sentinel) in &self.sentinels {
            let question = ["SENTINEL", "get-master-addr-by-name", NAME];
            until_says(*sentinel, self.password.as_deref(), &question, &port);
        }
    }

    /// Ends one Sentinel.
    pub fn kill_sentinel(&mut self, number: usize) {
        self.sentinels[number].0.kill();
    }

    fn sentinel(&self, number: usize) -> (Process, u16) {
        for _ in 0..TRIES {
            let port = free_port();
            let file = self.folder.path().join(format!("{number}.conf"));
            let mut text = format!(
                "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {}\n\
                 sentinel monitor {NAME} 127.0.0.1 {} 2\nsentinel down-after-milliseconds {NAME} 500\n\
                 sentinel failover-timeout {NAME} 2500\n",
                self.folder.path().display(),
                self.servers[0].port(),
            );
            if let Some(password) = &self.password {
                text.push_str(&format!("requirepass {password}\nsentinel sentinel-pass {password}\n"));
            }
            std::fs::write(&file, text).expect("a file can be written");
            let mut command = Command::new(program("redis-server", &folders(), "redis-server"));
            command.arg(&file).arg("--sentinel");
            let mut process = Process::start(&mut command, &self.folder.path().join(format!("{number}.log")));
            if wait_for_ping(&mut process, port) {
                return (process, port);
            }
        }
        panic!("a Sentinel does not answer")
    }
}
