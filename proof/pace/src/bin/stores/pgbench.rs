//! The two statements of an operation as one client would send them, one after the other: by `pgbench`.

use std::fmt::Write as _;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::load::Seen;
use onceward_pace::pgbench;
use onceward_testkit::server::Postgres;
use tempfile::TempDir;

use crate::stores::callers::STORED;
use crate::stores::rows::What;

/// How `pgbench` may talk to the server without anything that a pooler would have to remember.
const MODES: [&str; 2] = ["simple", "extended"];

/// What a claim gives beside its id, in the order of the statement.
const CLAIM: &[&str] = &[
    r#"'{"\\x00112233445566778899aabbccddeeff"}'"#,
    "'{1}'",
    r#"'{"\\x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}'"#,
    r#"'{"\\x00112233445566778899aabbccddeeff"}'"#,
    "'{POST}'",
    "'{bench.test}'",
    "'{/charges}'",
    "'{r00001-0-4294967295}'",
];
const RUNNING: &[&str] = &["'{running}'", "'{NULL}'", "'{NULL}'", "'{NULL}'", "'{NULL}'"];
const POLICY: &[&str] = &[
    "'{30000}'",
    "'{3600000}'",
    "'{86400000}'",
    "'{604800000}'",
    "'{hold}'",
    "'{NULL}'",
    "'{NULL}'",
    "'{9223372036854775807}'",
];
/// How long an answer is as it is stored: a body of 300 bytes and its head.
const ANSWER_BYTES: usize = 410;

/// Scripts, and the server.
#[derive(Debug)]
pub(crate) struct Pgbench {
    server: Arc<Postgres>,
    folder: TempDir,
    /// The faster mode, once it is known.
    mode: Mutex<Option<&'static str>>,
}

impl Pgbench {
    pub(crate) fn new(server: Arc<Postgres>) -> Result<Self> {
        let folder = TempDir::new()?;
        let new = "\\set n random(1, 4611686018427387903)\n";
        let id = "ARRAY[sha256(int8send(:n::bigint))]";
        let claim = |id: &str| statement("insert", id, RUNNING, &[]);
        let answer = format!(r#"'{{"\\x{}"}}'"#, "5a".repeat(ANSWER_BYTES));
        let done = ["'{done}'", "'{NULL}'", "'{http}'", answer.as_str(), "'{NULL}'"];
        // What the claim was told is `o3`, the revision.
        let swap = statement("replace", id, &done, &["ARRAY[:o3::bigint]", "'{f}'"])
            .replacen(CLAIM[0], "'{NULL}'", 1);
        fs::write(folder.path().join("pair"), format!("{new}{} \\gset\n{swap};\n", claim(id)))?;
        let stored = format!("\\set n random(0, {})\n", STORED - 1);
        let stored_id = "ARRAY[decode(repeat('61', 26) || lpad(:n::text, 12, '0'), 'hex')]";
        fs::write(folder.path().join("replay"), format!("{stored}{};\n", claim(stored_id)))?;
        Ok(Self { server, folder, mode: Mutex::default() })
    }

    /// Pairs or replays by so many clients. The first time it finds out which mode is faster.
    pub(crate) async fn measure(&self, what: What, callers: u32, length: Duration) -> Result<Seen> {
        let known = *self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        let mode = match known {
            Some(mode) => mode,
            None => {
                let mut best = (MODES[0], 0.0);
                for mode in MODES {
                    let rate = self.run(what, callers, Duration::from_secs(1), mode).await?.rate();
                    if rate > best.1 {
                        best = (mode, rate);
                    }
                }
                *self.mode.lock().unwrap_or_else(PoisonError::into_inner) = Some(best.0);
                best.0
            }
        };
        self.run(what, callers, length, mode).await
    }

    async fn run(&self, what: What, callers: u32, length: Duration, mode: &str) -> Result<Seen> {
        let script = self.folder.path().join(if what == What::Pair { "pair" } else { "replay" });
        pgbench::run(&self.server, &script, callers, length, mode, &[]).await
    }
}

/// The call of one of the store's functions with these values.
fn statement(name: &str, id: &str, state: &[&str], more: &[&str]) -> String {
    let mut text = format!("SELECT * FROM onceward_{name}_1({id}");
    for value in [CLAIM, state, POLICY, more].into_iter().flatten() {
        let _ = write!(text, ", {value}");
    }
    text.push(')');
    text
}
