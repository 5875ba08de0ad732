//! Real servers, private to one test: on free ports, in a temporary folder, killed with the test.
//!
//! A program that is missing is a failure that names the command to install it, never a skipped test.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

mod ministack;
mod nats;
#[cfg(unix)]
mod postgres;
mod pypi;
mod rabbitmq;
mod redis;
mod redis_cluster;
mod redis_sentinels;
mod tansu;
#[cfg(unix)]
mod watched;

pub use self::ministack::Ministack;
pub use self::nats::NatsServer;
#[cfg(unix)]
pub use self::postgres::{PgBouncer, Postgres, PostgresPair};
pub use self::rabbitmq::RabbitServer;
pub use self::redis::RedisServer;
pub use self::redis_cluster::RedisCluster;
pub use self::redis_sentinels::RedisSentinels;
pub use self::tansu::Tansu;

/// A port of 127.0.0.1 that nobody uses now. Somebody else may take it before the server does: whoever starts a server
/// tries again with another one when it ends at once.
///
/// # Panics
/// When the machine has no free port.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address").port()
}

/// Where files are in memory, so that a server may sync as often as it likes; else the folder for temporary files.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if tempfile::tempfile_in(&memory).is_ok() { memory } else { std::env::temp_dir() }
}

/// The program `name`, from one of the `folders` or from the path.
///
/// # Panics
/// When it is nowhere: with the command that installs `package`.
#[must_use]
pub fn program(name: &str, folders: &[PathBuf], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = all.map(|it| it.join(name)).find(|it| it.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: `apt-get install --yes {package}` installs it"))
}

/// A process that is killed when this goes.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command` with nothing to read; what it says goes to the file `log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let out = std::fs::File::options().create(true).append(true).open(log).expect("a log can be written");
        let err = out.try_clone().expect("a handle can be copied");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Self { child: child.unwrap_or_else(|it| panic!("{command:?} cannot be started: {it}")) }
    }

    /// Its id in the system.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Whether it is this process that listens on a port of 127.0.0.1: who answers there may be another test's server, which
    /// took the port first. `true` where the system does not say (`/proc`).
    #[must_use]
    pub fn listens_on(&self, port: u16) -> bool {
        let Ok(sockets) = std::fs::read_to_string("/proc/net/tcp") else { return true };
        let place = format!("0100007F:{port:04X}");
        let listens = sockets.lines().map(|it| it.split_whitespace().collect::<Vec<_>>());
        let inode = listens.filter(|it| it.get(1) == Some(&place.as_str()) && it.get(3) == Some(&"0A"));
        let Some(inode) = inode.filter_map(|it| it.get(9).copied()).next() else { return false };
        let wanted = format!("socket:[{inode}]");
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.id())).into_iter().flatten().flatten();
        open.filter_map(|it| std::fs::read_link(it.path()).ok()).any(|it| it.as_os_str() == wanted.as_str())
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_answers_on_a_port_is_not_taken_for_the_process_that_was_to_have_it() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let port = other.local_addr().expect("it has an address").port();
        let folder = tempfile::tempdir().expect("a folder can be made");
        let process = Process::start(Command::new("sleep").arg("60"), &folder.path().join("log"));
        assert!(!process.listens_on(port));
    }
}
