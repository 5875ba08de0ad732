//! All processes of the comparison, and how one cell is measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use http::Request;
use onceward_bench::Result;
use onceward_bench::args::Common;
use onceward_bench::cell::Sample;
use onceward_bench::client::{Connection, full};
use onceward_bench::gateway::{Gateway, quiet};
use onceward_bench::load::{self, Requests, Strength};
use onceward_bench::measure::{Target, measure};
use onceward_bench::nginx::{Nginx, Role};
use tokio::task::JoinSet;

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

    /// Whether its speed depends on the store.
    fn asks_a_store(self) -> bool {
        matches!(self, Self::First | Self::Replay)
    }

    /// Whether it goes through the gateway.
    fn is_ours(self) -> bool {
        !matches!(self, Self::Direct | Self::Nginx | Self::NginxGet)
    }
}

/// A store to measure the gateway over, besides the embedded one: `NAME=URL`.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    name: String,
    url: String,
}

impl std::str::FromStr for Named {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (name, url) = text.split_once('=').ok_or("write NAME=URL")?;
        Ok(Self { name: name.to_owned(), url: url.to_owned() })
    }
}

/// A cell: what is measured, of which build, and over which of its stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) kind: Kind,
    /// 0 is the embedded store, the others follow.
    pub(crate) store: usize,
    pub(crate) peer: bool,
}

impl Subject {
    /// That of the build that is not the peer, over the embedded store.
    pub(crate) fn of(kind: Kind) -> Self {
        Self { kind, store: 0, peer: false }
    }
}

/// One build of the gateway, once for each durability that is asked for.
#[derive(Debug)]
struct Build {
    durable: Gateway,
    relaxed: Option<Gateway>,
    /// Over the other stores.
    others: Vec<Gateway>,
    access_log: &'static str,
}

/// All processes. They end with it.
#[derive(Debug)]
pub(crate) struct Stage {
    kinds: Vec<Kind>,
    stores: Vec<Named>,
    upstream: Nginx,
    proxy: Nginx,
    build: Build,
    peer: Option<Build>,
    keys: u32,
    run: u64,
}

impl Stage {
    /// Starts everything that `kinds` need.
    pub(crate) async fn set(
        common: &Common,
        peer: Option<&PathBuf>,
        kinds: &[Kind],
        stores: &[Named],
        keys: u32,
    ) -> Result<Self> {
        let upstream = Nginx::start(Role::Answering).await?;
        let proxy = Nginx::start(Role::Proxy(upstream.address)).await?;
        let build = Build::start(common, kinds, stores, upstream.address, keys).await?;
        let peer = match peer {
            None => None,
            Some(binary) => {
                let common = Common { binary: binary.clone(), ..common.clone() };
                Some(Build::start(&common, kinds, stores, upstream.address, keys).await?)
            }
        };
        let (kinds, stores) = (kinds.to_vec(), stores.to_vec());
        Ok(Self { kinds, stores, upstream, proxy, build, peer, keys, run: 0 })
    }

    /// All cells, in the order of the table.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let builds = |kind: &Kind| if self.peer.is_some() && kind.is_ours() { 2 } else { 1 };
        let stores = |kind: &Kind| if kind.asks_a_store() { 1 + self.stores.len() } else { 1 };
        let of = |kind: &Kind| {
            let all = (0..stores(kind)).flat_map(|store| (0..builds(kind)).map(move |it| (store, it == 1)));
            all.map(|(store, peer)| Subject { kind: *kind, store, peer }).collect::<Vec<_>>()
        };
        self.kinds.iter().flat_map(of).collect()
    }

    /// The name of a cell in the table.
    pub(crate) fn name(&self, subject: &Subject) -> String {
        let store = subject.store.checked_sub(1).and_then(|it| self.stores.get(it));
        let store = store.map_or_else(String::new, |it| format!(" {}", it.name));
        format!("{}{store}{}", subject.kind.name(), if subject.peer { " (peer)" } else { "" })
    }

    /// Whether a cell is over a store in the gateway's own memory.
    pub(crate) fn is_in_memory(&self, subject: &Subject) -> bool {
        let store = subject.store.checked_sub(1).and_then(|it| self.stores.get(it));
        store.is_some_and(|it| it.url.starts_with("memory:"))
    }

    /// A folder on the disk that holds the stores.
    pub(crate) fn folder(&self) -> &Path {
        self.build.durable.folder()
    }

    /// Whether the gateway writes its access log.
    pub(crate) fn access_log(&self) -> &'static str {
        self.build.access_log
    }

    /// Measures one cell. The inner error says why it has no figure.
    pub(crate) async fn measure(
        &mut self,
        subject: Subject,
        strength: Strength,
    ) -> Result<std::result::Result<Sample, String>> {
        self.run += 1;
        let prefix = format!("r{:05}-", self.run);
        let requests = match subject.kind {
            Kind::Direct | Kind::Nginx | Kind::First | Kind::Relaxed => Requests::Unique(prefix),
            Kind::NginxGet | Kind::PassGet => Requests::Get(prefix),
            Kind::Pass => Requests::Keyless(prefix),
            Kind::Replay => Requests::Stored(self.keys),
        };
        measure(self.target(subject)?, self.upstream.pid(), requests, strength).await
    }

    /// Ends the gateways as an operator would.
    pub(crate) async fn end(self) -> Result<()> {
        for build in [Some(self.build), self.peer].into_iter().flatten() {
            for gateway in [Some(build.durable), build.relaxed].into_iter().flatten().chain(build.others) {
                gateway.stop().await?;
            }
        }
        Ok(())
    }

    /// Where the requests of a cell go.
    fn target(&self, subject: Subject) -> Result<Target<'_>> {
        let build = if subject.peer { self.peer.as_ref().ok_or("there is no peer")? } else { &self.build };
        let gateway = match subject.kind {
            Kind::Direct => return Ok(Target::Upstream(self.upstream.address)),
            Kind::Nginx | Kind::NginxGet => return Ok(Target::Other(self.proxy.address, self.proxy.pid())),
            Kind::Relaxed => build.relaxed.as_ref().ok_or("no relaxed gateway was started")?,
            Kind::Pass | Kind::PassGet | Kind::First | Kind::Replay => {
                let other = subject.store.checked_sub(1).and_then(|it| build.others.get(it));
                other.unwrap_or(&build.durable)
            }
        };
        let outcome = match subject.kind {
            Kind::Pass | Kind::PassGet => "pass_through",
            Kind::Replay => "replay",
            Kind::First | Kind::Relaxed | Kind::Direct | Kind::Nginx | Kind::NginxGet => "first_run",
        };
        Ok(Target::Gateway(gateway, outcome))
    }
}

impl Build {
    async fn start(
        common: &Common,
        kinds: &[Kind],
        stores: &[Named],
        upstream: SocketAddr,
        keys: u32,
    ) -> Result<Self> {
        let (settings, access_log) = quiet(common)?;
        let urls = [format!("http://{upstream}")];
        let durable = Gateway::start(common, &settings, &urls).await?;
        let relaxed = if kinds.contains(&Kind::Relaxed) {
            Some(Gateway::start_on("embedded:records?durability=relaxed", common, &settings, &urls).await?)
        } else {
            None
        };
        let mut others = Vec::new();
        for it in stores {
            others.push(Gateway::start_on(&it.url, common, &settings, &urls).await?);
        }
        if kinds.contains(&Kind::Replay) {
            for gateway in [&durable].into_iter().chain(&others) {
                store(gateway.address, keys).await?;
            }
        }
        Ok(Self { durable, relaxed, others, access_log })
    }
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
