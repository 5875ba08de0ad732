//! PostgreSQL and PgBouncer that belong to one test.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::watched::{Owner, Watched};
use super::{free_port, memory, program};

mod pair;

pub use self::pair::PostgresPair;

/// How often something is tried that fails when another process is faster.
const TRIES: usize = 20;

/// A PostgreSQL server: user `onceward` may do everything and needs no password, database `postgres`.
///
/// Its files are in memory where the machine has a place for that. So it may sync, as a server does that keeps its
/// word, and still be quick; a power cut cannot be tried with it, `kill -9` can.
#[derive(Debug)]
pub struct Postgres {
    owner: Owner,
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    server: Mutex<Option<Watched>>,
}

impl Postgres {
    /// The server of this process, started when it is first asked for. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts a server with these settings besides the usual ones.
    ///
    /// # Panics
    /// When there is no PostgreSQL on this machine, with the command that installs it, or it does not start.
    #[must_use]
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_with_files(settings, &[])
    }

    /// Like [`Postgres::start`], with these files beside its data, which nobody else may read.
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    pub fn start_with_files(settings: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        Self::start_in(&memory(), settings, files)
    }

    /// The same with its data in a new folder in `parent`, which the user of the server must be able to enter: on a
    /// disk, a sync costs what it costs.
    ///
    /// # Panics
    /// As it does.
    #[must_use]
    pub fn start_in(parent: &Path, settings: &[(&str, &str)], files: &[(&str, &str)]) -> Self {
        let owner = Owner::of_servers();
        let bin = newest_bin();
        let folder = owner.folder(parent, "onceward-postgres-");
        let data = folder.join("data");
        let template = template(&owner, &bin);
        let copied = owner.command("cp").arg("-a").arg(&template).arg(&data).status();
        assert!(copied.is_ok_and(|it| it.success()), "{} can be copied", template.display());
        for (name, content) in files {
            let path = data.join(name);
            std::fs::write(&path, content).expect("a file can be written");
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
            owner.gets(&path);
        }
        Self::over(owner, bin, folder, settings)
    }

    /// Starts a server over the data in `folder`, with the usual settings and these.
    fn over(owner: Owner, bin: PathBuf, folder: PathBuf, settings: &[(&str, &str)]) -> Self {
        let mut text = String::from(
            "listen_addresses = '127.0.0.1'\nmax_connections = 200\nshared_buffers = 16MB\n\
             max_wal_size = 256MB\ndynamic_shared_memory_type = mmap\nlog_min_messages = warning\n",
        );
        writeln!(text, "unix_socket_directories = '{}'", folder.display()).expect("a text takes more");
        for (name, value) in settings {
            writeln!(text, "{name} = '{value}'").expect("a text takes more");
        }
        let mut it = Self { owner, bin, folder, port: 0, server: Mutex::new(None) };
        for _ in 0..TRIES {
            it.port = free_port();
            let text = format!("{text}port = {}\n", it.port);
            let path = it.folder.join("data/postgresql.auto.conf");
            std::fs::write(path, text).expect("settings can be written");
            if it.try_start() {
                return it;
            }
        }
        panic!("PostgreSQL does not start: {}", it.log());
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// One of PostgreSQL's own programs, to be run against this server as user `onceward`.
    #[must_use]
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "onceward"])
            .stdin(Stdio::null());
        command
    }

    /// Where `user` finds the database `postgres`.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/postgres", self.port)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            server.kill();
        }
    }

    /// Starts it again on the same port, with the same files.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.kill();
        // Those who worked for the killed one may hold its memory for a moment, and a stranger its port.
        for _ in 0..TRIES {
            if self.try_start() {
                return;
            }
            self.end_orphans();
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("PostgreSQL does not start again: {}", self.log());
    }

    /// Ends processes of a killed server that still work in its folder. One that waits for a lock in their memory, which nobody lets go
    /// of any more, never sees that the server is gone; an init system would end it, too.
    fn end_orphans(&self) {
        let Ok(data) = self.folder.join("data").canonicalize() else { return };
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let works_there = std::fs::read_link(process.path().join("cwd")).is_ok_and(|it| it == data);
            if works_there {
                let _ = self.owner.command("kill").arg("-9").arg(process.file_name()).status();
            }
        }
    }

    /// What the server said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Runs one of PostgreSQL's own programs against this server and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let ran = self.program(program).args(arguments).output().expect("the program can be started");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&ran.stdout).into_owned()
    }

    /// What `psql` prints for one statement of the user who may do everything, without the last line break.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, text: &str) -> String {
        // A commit of ours waits for no standby.
        let text = ["-c", "SET synchronous_commit = local", "-c", text];
        self.run("psql", &[&["-XAtq", "-d", "postgres"], &text[..]].concat()).trim_end().to_owned()
    }

    /// Whether it started. When not, it has ended again.
    fn try_start(&self) -> bool {
        let data = self.folder.join("data");
        // A killed server leaves it behind, where it says that all is ready.
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        let before = self.log().len();
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.get_or_insert_with(|| {
            let data = data.display().to_string();
            Watched::new(&self.owner, &self.folder, "QUIT", &self.bin.join("postgres"), &["-D", &data])
        });
        server.start();
        for _ in 0..3000 {
            let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            if pid.lines().nth(7).is_some_and(|it| ["ready", "standby"].contains(&it.trim())) {
                return true;
            }
            // Clients that come too early are refused as fatally as a start that fails, which ends the server.
            let pid = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
            let lives = pid.lines().next().is_some_and(|it| Path::new("/proc").join(it.trim()).exists());
            if !lives && self.log().get(before..).is_some_and(|it| it.contains("FATAL:")) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        server.kill();
        false
    }
}

/// A PgBouncer in front of a [`Postgres`]: user `onceward`, any database.
#[derive(Debug)]
pub struct PgBouncer {
    owner: Owner,
    folder: PathBuf,
    port: u16,
    server: Mutex<Option<Watched>>,
}

impl PgBouncer {
    /// Starts one in this mode: `session`, `transaction` or `statement`.
    ///
    /// # Panics
    /// When there is no PgBouncer on this machine, with the command that installs it, or it does not start.
    #[must_use]
    pub fn start(server: &Postgres, mode: &str) -> Self {
        let owner = Owner::of_servers();
        let folder = owner.folder(&memory(), "onceward-pgbouncer-");
        std::fs::write(folder.join("users"), "\"onceward\" \"\"\n").expect("a file can be written");
        let mut it = Self { owner, folder, port: 0, server: Mutex::new(None) };
        for _ in 0..TRIES {
            it.port = free_port();
            let text = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = users\n\
                 pool_mode = {mode}\ndefault_pool_size = 10\nserver_login_retry = 0\n",
                server.port, it.port,
            );
            std::fs::write(it.folder.join("ini"), text).expect("a file can be written");
            if it.try_start() {
                return it;
            }
        }
        panic!("PgBouncer does not start: {}", it.log());
    }

    /// Where `onceward` finds the database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://onceward@127.0.0.1:{}/postgres", self.port)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&self) {
        if let Some(server) = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            server.kill();
        }
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.kill();
        assert!((0..TRIES).any(|_| self.try_start()), "PgBouncer does not start again: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn try_start(&self) -> bool {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let server = server.get_or_insert_with(|| {
            let pgbouncer = program("pgbouncer", &[PathBuf::from("/usr/sbin")], "pgbouncer");
            Watched::new(&self.owner, &self.folder, "TERM", &pgbouncer, &["ini"])
        });
        server.start();
        for _ in 0..300 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        server.kill();
        false
    }
}

/// The programs of the newest PostgreSQL that Debian installed, or of the one on the path.
fn newest_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|it| it.path().join("bin")).collect();
    versions.sort();
    versions.reverse();
    let postgres = program("postgres", &versions, "postgresql");
    postgres.parent().expect("a program is in a folder").to_owned()
}

/// A cluster as `initdb` makes it: once for all tests on this machine, then copied.
fn template(owner: &Owner, bin: &Path) -> PathBuf {
    let version = Command::new(bin.join("postgres")).arg("--version").output().expect("it says its version");
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .map(|it| if it.is_ascii_alphanumeric() { it } else { '-' })
        .take(40)
        .collect();
    let folder = memory().join(format!("onceward-initdb-{}-{version}", owner.uid));
    let _ = std::fs::create_dir(&folder);
    owner.gets(&folder);
    let guard = std::fs::File::options().create(true).append(true).open(folder.join("lock"));
    let guard = guard.expect("a file can be written");
    guard.lock().expect("a file can be locked");
    let (data, done) = (folder.join("data"), folder.join("done"));
    if !done.exists() {
        let _ = std::fs::remove_dir_all(&data);
        let mut command = owner.command(bin.join("initdb"));
        command.args(["--no-sync", "--wal-segsize=1", "--auth=trust", "--username=onceward", "--locale=C"]);
        let made = command.args(["--encoding=UTF8", "-D"]).arg(&data).current_dir(&folder).output();
        let made = made.expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(done, "").expect("a file can be written");
    }
    data
}
