//! A PostgreSQL primary and its standby, which takes its place.

use std::time::Duration;

use onceward_core::{Clock as _, SystemClock};

use super::Postgres;
use crate::server::memory;
use crate::server::watched::Owner;

/// How long a standby may take until it follows.
const PATIENCE: Duration = Duration::from_secs(30);

/// A primary and a streaming standby. A primary that was killed never comes back as it was: it is fenced.
#[derive(Debug)]
pub struct PostgresPair {
    primary: Postgres,
    standby: Postgres,
    settings: Vec<(&'static str, &'static str)>,
}

impl PostgresPair {
    /// Starts both. Where the pair is `synchronous`, a commit is told once the standby shows it
    /// (`synchronous_commit = remote_apply`); elsewhere the standby follows as it can.
    ///
    /// # Panics
    /// When there is no PostgreSQL on this machine, with the command that installs it, or the standby does not follow
    /// within 30 s.
    #[must_use]
    pub fn start(synchronous: bool) -> Self {
        // A standby that was away for a while finds what it missed.
        let mut settings = vec![("wal_keep_size", "512MB"), ("wal_retrieve_retry_interval", "50ms")];
        if synchronous {
            settings.extend([("synchronous_standby_names", "*"), ("synchronous_commit", "remote_apply")]);
        }
        let primary = Postgres::start(&settings);
        let standby = standby_of(&primary, &settings);
        let pair = Self { primary, standby, settings };
        pair.until_it_follows();
        pair
    }

    /// The one that takes writes.
    #[must_use]
    pub fn primary(&self) -> &Postgres {
        &self.primary
    }

    /// The one that follows.
    #[must_use]
    pub fn standby(&self) -> &Postgres {
        &self.standby
    }

    /// Keeps the standby where it is: what the primary does from here on it does not get. Where the pair is synchronous,
    /// commits wait.
    ///
    /// # Panics
    /// When the standby does not stop following.
    pub fn hold_back(&self) {
        set(&self.standby, "primary_conninfo = ''");
        until("the standby stops following", || self.followers("true") == "0");
    }

    /// The standby follows again, and has all that the primary has when this returns.
    ///
    /// # Panics
    /// When it does not within 30 s.
    pub fn let_go(&self) {
        set(&self.standby, &format!("primary_conninfo = '{}'", conninfo(&self.primary)));
        self.until_it_follows();
    }

    /// Kills the primary, after the standby was held back for so long, and promotes the standby, which is the primary
    /// then. The killed one is gone for good; [`PostgresPair::rebuild`] makes a standby in its place.
    ///
    /// # Panics
    /// When the standby is not promoted.
    pub fn fail_over(&mut self, lag: Duration) {
        if !lag.is_zero() {
            self.hold_back();
            std::thread::sleep(lag);
        }
        self.primary.kill();
        let promoted = self.standby.sql("SELECT pg_promote(true, 30)");
        assert_eq!(promoted, "t", "the standby is promoted: {}", self.standby.log());
        std::mem::swap(&mut self.primary, &mut self.standby);
    }

    /// Makes a new standby of the primary in place of the one that there was, and waits until it follows.
    ///
    /// # Panics
    /// When it does not within 30 s.
    pub fn rebuild(&mut self) {
        self.standby.kill();
        self.standby = standby_of(&self.primary, &self.settings);
        self.until_it_follows();
    }

    /// Kills the standby, and starts it again after this pause. Returns once it follows.
    ///
    /// # Panics
    /// When it does not within 30 s.
    pub fn restart_standby(&self, pause: Duration) {
        self.standby.kill();
        std::thread::sleep(pause);
        self.standby.restart();
        self.until_it_follows();
    }

    fn until_it_follows(&self) {
        let lsn = self.primary.sql("SELECT pg_current_wal_lsn()");
        let has_it = format!("state = 'streaming' AND replay_lsn >= '{lsn}'");
        until("the standby follows", || self.followers(&has_it) == "1");
    }

    /// How many standbys of this kind the primary knows.
    fn followers(&self, kind: &str) -> String {
        self.primary.sql(&format!("SELECT count(*) FROM pg_stat_replication WHERE {kind}"))
    }
}

/// A copy of `primary` that follows it.
fn standby_of(primary: &Postgres, settings: &[(&str, &str)]) -> Postgres {
    let (owner, bin) = (Owner::of_servers(), primary.bin.clone());
    let folder = owner.folder(&memory(), "onceward-postgres-");
    let mut copy = owner.command(bin.join("pg_basebackup"));
    copy.args(["--checkpoint=fast", "--no-sync", "--wal-method=fetch", "--dbname", &conninfo(primary)]);
    let copied = copy.arg("--pgdata").arg(folder.join("data")).current_dir(&folder).output();
    let copied = copied.expect("pg_basebackup can be started");
    assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
    std::fs::write(folder.join("data/standby.signal"), "").expect("a file can be written");
    owner.gets(&folder.join("data/standby.signal"));
    let from = conninfo(primary);
    let settings = [settings, &[("primary_conninfo", from.as_str())]].concat();
    Postgres::over(owner, bin, folder, &settings)
}

fn conninfo(server: &Postgres) -> String {
    format!("host=127.0.0.1 port={} user=onceward", server.port)
}

fn set(server: &Postgres, setting: &str) {
    server.sql(&format!("ALTER SYSTEM SET {setting}"));
    server.sql("SELECT pg_reload_conf()");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = SystemClock.boot();
    while !holds() {
        assert!(SystemClock.boot() - began < PATIENCE, "{what} within 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
