//! All processes of the comparison, and how one cell is measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use http::Request;
use onceward_bench::Result;
use onceward_bench::args::Common;
use onceward_bench::cell::Sample;
use onceward_bench::client::{self, Connection, full};
use onceward_bench::cpu::{self, Machine};
use onceward_bench::gateway::Gateway;
use onceward_bench::load::{self, Requests, Seen, Strength};
use onceward_bench::nginx::{Nginx, Role};
use tempfile::NamedTempFile;
use tokio::task::{JoinSet, spawn_blocking};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// The API without anything before it
    Direct,
    /// nginx before the API
    Nginx,
    /// The same with GETs
    NginxGet,
    /// POSTs without a key through the gateway
    Pass,
    /// GETs through the gateway
    PassGet,
    /// Operations with a new key each, durable
    First,
    /// Operations with a new key each, relaxed
    Relaxed,
    /// Repeats of operations whose answers are stored
    Replay,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const EACH: [Self; 8] = [
        Self::Direct,
        Self::Nginx,
        Self::NginxGet,
        Self::Pass,
        Self::PassGet,
        Self::First,
        Self::Relaxed,
        Self::Replay,
    ];

    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::NginxGet => "nginx-get",
            Self::Pass => "pass",
            Self::PassGet => "pass-get",
            Self::First => "first",
            Self::Relaxed => "relaxed",
            Self::Replay => "replay",
        }
    }

    /// What it is compared with. A replay does what the API does, the others do what nginx does and more.
    pub(crate) fn base(self) -> Option<Self> {
        match self {
            Self::Direct => None,
            Self::Nginx | Self::NginxGet | Self::Replay => Some(Self::Direct),
            Self::Pass | Self::First | Self::Relaxed => Some(Self::Nginx),
            Self::PassGet => Some(Self::NginxGet),
        }
    }

    /// The outcome that the gateway must count for each of its requests.
    fn outcome(self) -> Option<&'static str> {
        match self {
            Self::Direct | Self::Nginx | Self::NginxGet => None,
            Self::Pass | Self::PassGet => Some("pass_through"),
            Self::First | Self::Relaxed => Some("first_run"),
            Self::Replay => Some("replay"),
        }
    }
}

/// A cell: what is measured, and of which build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    pub(crate) peer: bool,
}

impl Subject {
    /// That of the build that is not the peer.
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, peer: false }
    }

    /// Its name in the table.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.kind.name(), if self.peer { " (peer)" } else { "" })
    }
}

/// One build of the gateway, once for each durability that is asked for.
#[derive(Debug)]
struct Build {
    durable: Gateway,
    relaxed: Option<Gateway>,
    /// `None` where the settings are the user's own.
    access_log: Option<bool>,
}

/// All processes. They end with it.
#[derive(Debug)]
pub(crate) struct Stage {
    kinds: Vec<Kind>,
    upstream: Nginx,
    proxy: Nginx,
    build: Build,
    peer: Option<Build>,
    keys: u32,
    run: u64,
}

const SETTINGS: &str =
    "drain_delay = \"0s\"\ndrain = \"5s\"\n[upstream]\nurls = [\"{upstream}\"]\nprotocol = \"http1\"\n";

/// What turns the access log off in the builds that can.
const QUIET: &str = "access_log = false\n";

impl Stage {
    /// Starts everything that `kinds` need.
    pub(crate) async fn set(
        common: &Common,
        peer: Option<&PathBuf>,
        kinds: &[Kind],
        keys: u32,
    ) -> Result<Self> {
        let upstream = Nginx::start(Role::Answering).await?;
        let proxy = Nginx::start(Role::Proxy(upstream.address)).await?;
        let build = Build::start(common, kinds, upstream.address, keys).await?;
        let peer = match peer {
            None => None,
            Some(binary) => {
                let common = Common { binary: binary.clone(), ..common.clone() };
                Some(Build::start(&common, kinds, upstream.address, keys).await?)
            }
        };
        Ok(Self { kinds: kinds.to_vec(), upstream, proxy, build, peer, keys, run: 0 })
    }

    /// All cells, in the order of the table.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let builds = |kind: &Kind| if self.peer.is_some() && kind.outcome().is_some() { 2 } else { 1 };
        let of = |kind: &Kind| {
            (0..builds(kind)).map(|it| Subject { kind: *kind, peer: it == 1 }).collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(of).collect()
    }

    /// A folder on the disk that holds the stores.
    pub(crate) fn folder(&self) -> &Path {
        self.build.durable.folder()
    }

    /// Whether the gateway writes its access log.
    pub(crate) fn access_log(&self) -> &'static str {
        match self.build.access_log {
            None => "as the given settings say in the gateway",
            Some(true) => "on in the gateway (this build cannot turn it off)",
            Some(false) => "off in the gateway",
        }
    }

    /// Measures one cell. The inner error says why it has no figure.
    pub(crate) async fn measure(
        &mut self,
        subject: Subject,
        strength: Strength,
    ) -> Result<std::result::Result<Sample, String>> {
        self.run += 1;
        let (target, pid, gateway) = self.place(subject)?;
        let prefix = format!("r{:05}-", self.run);
        let requests = match subject.kind {
            Kind::Direct | Kind::Nginx | Kind::First | Kind::Relaxed => Requests::Unique(prefix),
            Kind::NginxGet | Kind::PassGet => Requests::Get(prefix),
            Kind::Pass => Requests::Keyless(prefix),
            Kind::Replay => Requests::Stored(self.keys),
        };
        let counted = match gateway {
            Some(it) => outcomes(it.admin).await?,
            None => BTreeMap::new(),
        };
        let before = self.spent(pid)?;
        let seen = spawn_blocking(move || load::run(target, &requests, strength)).await??;
        let after = self.spent(pid)?;
        if seen.requests == 0 || seen.refused + seen.broken > 0 {
            let Seen { requests, refused, broken, .. } = seen;
            return Ok(Err(format!("{refused} refused and {broken} broken beside {requests} answered")));
        }
        if let (Some(gateway), Some(wanted)) = (gateway, subject.kind.outcome())
            && let Some(why) = strange(&counted, &outcomes(gateway.admin).await?, wanted, seen.requests)
        {
            return Ok(Err(why));
        }
        let each = |it: fn(&Spent) -> u64| (it(&after) - it(&before)) as f64 / seen.requests as f64;
        let ours = [before, after].map(|it| it.subject + it.upstream + it.generator);
        let all = [before, after].map(|it| it.machine.busy + it.machine.steal);
        let cores = std::thread::available_parallelism()?.get() as f64;
        let others = (all[1] - all[0]).saturating_sub(ours[1] - ours[0]) as f64;
        Ok(Ok(Sample {
            seen,
            cpu_us: each(|it| it.subject),
            upstream_us: each(|it| it.upstream),
            generator_us: each(|it| it.generator),
            others: others / (cores * seen.took_us as f64),
        }))
    }

    /// Where the requests of a cell go, the process that answers them there unless it is the API, and the gateway.
    fn place(&self, subject: Subject) -> Result<(SocketAddr, Option<u32>, Option<&Gateway>)> {
        let build = if subject.peer { self.peer.as_ref().ok_or("there is no peer")? } else { &self.build };
        let gateway = match subject.kind {
            Kind::Direct => return Ok((self.upstream.address, None, None)),
            Kind::Nginx | Kind::NginxGet => return Ok((self.proxy.address, Some(self.proxy.pid()), None)),
            Kind::Relaxed => build.relaxed.as_ref().ok_or("no relaxed gateway was started")?,
            Kind::Pass | Kind::PassGet | Kind::First | Kind::Replay => &build.durable,
        };
        Ok((gateway.address, Some(gateway.pid()), Some(gateway)))
    }

    fn spent(&self, subject: Option<u32>) -> Result<Spent> {
        Ok(Spent {
            subject: subject.map_or(Ok(0), cpu::of_tree)?,
            upstream: cpu::of_tree(self.upstream.pid())?,
            generator: cpu::of_reaped()?,
            machine: Machine::now()?,
        })
    }
}

/// Processor time that was spent so far.
#[derive(Debug, Clone, Copy)]
struct Spent {
    subject: u64,
    upstream: u64,
    generator: u64,
    machine: Machine,
}

impl Build {
    async fn start(common: &Common, kinds: &[Kind], upstream: SocketAddr, keys: u32) -> Result<Self> {
        let quiet = format!("{QUIET}{SETTINGS}");
        let can_be_quiet = accepts(common, &quiet)?;
        let settings = if can_be_quiet { quiet.as_str() } else { SETTINGS };
        let access_log = common.settings.is_none().then_some(!can_be_quiet);
        let urls = [format!("http://{upstream}")];
        let durable = Gateway::start(common, settings, &urls).await?;
        let relaxed = if kinds.contains(&Kind::Relaxed) {
            Some(Gateway::start_on("embedded:records?durability=relaxed", common, settings, &urls).await?)
        } else {
            None
        };
        if kinds.contains(&Kind::Replay) {
            store(durable.address, keys).await?;
        }
        Ok(Self { durable, relaxed, access_log })
    }
}

/// Whether this build understands these settings.
fn accepts(common: &Common, settings: &str) -> Result<bool> {
    let file = NamedTempFile::with_suffix(".toml")?;
    std::fs::write(file.path(), settings.replace("{upstream}", "http://127.0.0.1:1"))?;
    let status = Command::new(&common.binary)
        .env_clear()
        .args(["gateway", "--check", "--config"])
        .arg(file.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|it| format!("no gateway at {}: {it}", common.binary.display()))?;
    Ok(status.success())
}

/// Runs each operation that replays will repeat, 16 at a time.
async fn store(to: SocketAddr, keys: u32) -> Result<()> {
    let mut tasks = JoinSet::new();
    for first in 0..16.min(keys) {
        tasks.spawn(async move {
            let mut connection = Connection::http1(to).await?;
            for number in (first..keys).step_by(16) {
                let mut request = Request::post(load::PATH)
                    .header("host", load::HOST)
                    .header("idempotency-key", load::stored_key(number));
                for (name, value) in load::HEADERS {
                    request = request.header(name, value);
                }
                let answer = connection.ask(request.body(full(load::BODY))?).await?;
                if answer.status != 201 {
                    return Err(format!("storing an answer gave {}", answer.status).into());
                }
            }
            Result::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// How many requests had each outcome so far, with the class of their status.
async fn outcomes(admin: SocketAddr) -> Result<BTreeMap<String, u64>> {
    let page = client::get(admin, "/metrics").await?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let mut counts = BTreeMap::new();
    for line in text.lines().filter_map(|it| it.strip_prefix("onceward_requests_total{")) {
        let label = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let (Some(outcome), Some(class)) = (label("outcome"), label("status_class")) else { continue };
        let count: u64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        *counts.entry(format!("{outcome} {class}")).or_default() += count;
    }
    Ok(counts)
}

/// What else the gateway counted than `requests` times the outcome that was wanted.
fn strange(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    wanted: &str,
    requests: u64,
) -> Option<String> {
    let wanted = format!("{wanted} 2xx");
    let grown = |name: &str| after.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    if let Some(other) = after.keys().find(|it| **it != wanted && grown(it) > 0) {
        return Some(format!("the gateway counted {} times {other}", grown(other)));
    }
    let count = grown(&wanted);
    (count < requests).then(|| format!("the gateway counted {count} times {wanted} for {requests} answers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_was_not_wanted_or_a_missing_one_is_strange() {
        let counts = |first: u64, busy: u64| {
            BTreeMap::from([("first_run 2xx".to_owned(), first), ("busy 4xx".to_owned(), busy)])
        };
        let say = |after| strange(&counts(5, 1), &after, "first_run", 10);
        assert_eq!(say(counts(15, 1)), None);
        assert_eq!(say(counts(17, 1)), None, "what was under way at the end may be counted");
        assert!(say(counts(15, 2)).is_some_and(|it| it.contains("1 times busy")));
        assert!(say(counts(14, 1)).is_some_and(|it| it.contains("9 times first_run")));
    }
}
