//! Real servers, private to one test: on free ports, in a temporary folder, killed with the test.
//!
//! A program that is missing is a failure that names the command to install it, never a skipped test.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

#[cfg(unix)]
mod postgres;
mod redis;
mod redis_cluster;
mod redis_sentinels;
#[cfg(unix)]
mod watched;

#[cfg(unix)]
pub use self::postgres::{PgBouncer, Postgres, PostgresPair};
pub use self::redis::RedisServer;
pub use self::redis_cluster::RedisCluster;
pub use self::redis_sentinels::RedisSentinels;

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
