//! Builds that are broken on purpose, and servers that lose what they told: each must be seen, and the same seeds must
//! be clean without the break.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::Result;
use crate::time::now;

/// Every break, the seeds that are tried one after the other, and the checks that may see it.
const MUTANTS: [(&str, &[u64], &[&str]); 9] = [
    ("no-fence-check", &[1, 2, 3], &["changed answer", "two effects", "lost answer"]),
    ("get-then-set", &[1, 2, 3], &["two effects", "fences"]),
    ("told-before-stored", &[1, 2, 3], &["lost answer", "changed answer", "two effects"]),
    ("lease-without-renewal", &[1, 2, 3], &["two effects"]),
    ("release-by-anyone", &[1, 2, 3], &["two effects", "lost answer", "changed answer"]),
    ("retention-from-claim", &[1, 2, 3], &["lost answer"]),
    ("scope-without-principal", &[1, 2, 3], &["foreign answer"]),
    ("cancel-on-disconnect", &[1, 2, 3], &["unresolved"]),
    (UNSYNCED, &[1], &["two effects", "lost answer", "changed answer", "does not open"]),
];

/// Servers that lose what they told: each must be seen, too.
const FORGETFUL: [(&str, &[u64], &[&str]); 3] = [
    ("redis-loses-tail", &[1, 2, 3], LOST),
    ("redis-cluster-async", &[1, 2, 3], LOST),
    ("postgres-async", &[1, 2, 3], LOST),
];
const LOST: &[&str] = &["two effects", "lost answer", "changed answer", "stuck"];

/// Relays that are broken.
const RELAYS: [(&str, &[u64], &[&str]); 2] =
    [("noted-before-sent", &[1, 2, 3], &["lost"]), ("passes-late-numbers", &[1, 2, 3], &["lost"])];

/// Consumers that are broken.
const CONSUMERS: [(&str, &[u64], &[&str]); 1] = [("lease-without-renewal", &[1, 2, 3], &["doubled"])];

/// Relays of what answers carry that are broken.
const CARRIED: [(&str, &[u64], &[&str]); 2] =
    [("noted-before-sent", &[1, 2, 3], &["lost", "order"]), ("sent-unclaimed", &[1, 2, 3], &["repeats"])];

/// A kill does not show it, a power cut does.
const UNSYNCED: &str = "told-before-synced";

/// How long faults go on at most where nothing is seen, in seconds.
const PATIENCE: u64 = 25;
/// How long the same seeds run without a break.
const CONTROL: u64 = 15;

/// Which builds are run.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// A gateway that was built with the feature `mutants`
    #[arg(long)]
    pub(crate) binary: PathBuf,
    /// How many runs at the same time: they mostly wait
    #[arg(long, default_value_t = 5)]
    pub(crate) at_once: usize,
    /// Do without the faults of a full disk, which need a file system of their own
    #[arg(long)]
    pub(crate) no_full_disk: bool,
}

/// What is broken in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Build(&'static str),
    Server(&'static str),
    Relay(&'static str),
    Consumer(&'static str),
    Carried(&'static str),
    Nothing,
}

impl Broken {
    fn name(self) -> &'static str {
        match self {
            Self::Build(name) | Self::Server(name) => name,
            Self::Relay(name) | Self::Consumer(name) | Self::Carried(name) => name,
            Self::Nothing => "nothing broken",
        }
    }
}

/// What a run of this program came to.
struct Ran {
    clean: bool,
    /// The checks that saw something, in the order in which they did.
    checks: Vec<String>,
    said: String,
}

/// Says whether every break was seen, and nothing without one.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let mutants = MUTANTS.iter().map(|(name, seeds, checks)| (Broken::Build(name), *seeds, *checks));
    let servers = FORGETFUL.iter().map(|(name, seeds, checks)| (Broken::Server(name), *seeds, *checks));
    let relays = RELAYS.iter().map(|(name, seeds, checks)| (Broken::Relay(name), *seeds, *checks));
    let consumers = CONSUMERS.iter().map(|(name, seeds, checks)| (Broken::Consumer(name), *seeds, *checks));
    let carried = CARRIED.iter().map(|(name, seeds, checks)| (Broken::Carried(name), *seeds, *checks));
    let hunts = mutants.chain(servers).chain(relays).chain(consumers).chain(carried);
    let mut jobs: Vec<Option<_>> = hunts.map(Some).collect();
    jobs.push(None);
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..args.at_once {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (fine, line) = match job {
                        Some((broken, seeds, checks)) => hunt(args, *broken, seeds, checks),
                        None => control(args),
                    };
                    println!("{}{line}", if fine { "" } else { "NOT AS IT SHOULD BE: " });
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(fine);
                }
            });
        }
    });
    let lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(lines.len() == jobs.len() && lines.into_iter().all(|it| it))
}

fn hunt(args: &Args, broken: Broken, seeds: &[u64], checks: &[&str]) -> (bool, String) {
    let began = now();
    let name = broken.name();
    let mut said = String::new();
    for seed in seeds {
        let ran = match ran(args, broken, *seed, PATIENCE) {
            Ok(ran) => ran,
            Err(error) => return (false, format!("{name}: {error}")),
        };
        if let Some(check) = ran.checks.iter().find(|it| checks.contains(&it.as_str())) {
            let took = (now() - began).as_secs();
            return (true, format!("{name:<24} seen by `{check}` with seed {seed} after {took} s"));
        }
        said = ran.said;
    }
    (false, format!("{name:<24} was not seen with the seeds {seeds:?}; the last run said:\n{said}"))
}

/// The seed of most hunts, with nothing broken.
fn control(args: &Args) -> (bool, String) {
    // The power cuts have a run of their own.
    let controls = [
        |args: &Args| ran(args, Broken::Nothing, 1, CONTROL),
        |args: &Args| power(args, None),
        |args: &Args| relays(args, None, 1),
        |args: &Args| consumers(args, None, 1),
        |args: &Args| carried(args, None, 1),
    ];
    for ran in controls {
        match ran(args) {
            Ok(ran) if ran.clean => {}
            Ok(ran) => return (false, format!("nothing is broken, and yet:\n{}", ran.said)),
            Err(error) => return (false, format!("nothing is broken: {error}")),
        }
    }
    (true, format!("{:<24} nothing was seen with seed 1", "nothing broken"))
}

fn ran(args: &Args, broken: Broken, seed: u64, seconds: u64) -> Result<Ran> {
    let mutant = match broken {
        Broken::Build(UNSYNCED) => return power(args, Some(UNSYNCED)),
        Broken::Relay(mutant) => return relays(args, Some(mutant), seed),
        Broken::Consumer(mutant) => return consumers(args, Some(mutant), seed),
        Broken::Carried(mutant) => return carried(args, Some(mutant), seed),
        Broken::Build(mutant) => Some(mutant),
        Broken::Server(_) | Broken::Nothing => None,
    };
    let mut words =
        vec!["run".to_owned(), "--seed".into(), seed.to_string(), "--seconds".into(), seconds.to_string()];
    if args.no_full_disk {
        words.push("--no-full-disk".into());
    }
    if let Broken::Server(store) = broken {
        words.extend(["--store".into(), store.into()]);
    }
    start(args, mutant, &words)
}

fn power(args: &Args, mutant: Option<&str>) -> Result<Ran> {
    start(args, mutant, &["power".into(), "--sample".into(), "24".into(), "--at-once".into(), "3".into()])
}

fn relays(args: &Args, mutant: Option<&str>, seed: u64) -> Result<Ran> {
    let words =
        ["outbox", "--rows", "1500", "--seconds", "8", "--seed", &seed.to_string()].map(str::to_owned);
    start(args, mutant, &words)
}

fn consumers(args: &Args, mutant: Option<&str>, seed: u64) -> Result<Ran> {
    let words =
        ["consume", "redis-streams", "--seconds", "8", "--seed", &seed.to_string()].map(str::to_owned);
    start(args, mutant, &words)
}

fn carried(args: &Args, mutant: Option<&str>, seed: u64) -> Result<Ran> {
    let seed = seed.to_string();
    let words =
        ["consume", "redis-streams", "--carried", "--store", "redis", "--seconds", "8", "--seed", &seed];
    start(args, mutant, &words.map(str::to_owned))
}

fn start(args: &Args, mutant: Option<&str>, words: &[String]) -> Result<Ran> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).arg("--binary").arg(&args.binary).stdin(Stdio::null());
    if let Some(mutant) = mutant {
        command.args(["--mutant", mutant]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        Some(0) => Ok(Ran { clean: true, checks: Vec::new(), said }),
        Some(1) => {
            let violations = said.lines().filter(|it| it.starts_with("VIOLATION"));
            let checks = violations.filter_map(|it| it.split('`').nth(1)).map(str::to_owned).collect();
            Ok(Ran { clean: false, checks, said })
        }
        _ => Err(format!("the run itself failed: {said}").into()),
    }
}
