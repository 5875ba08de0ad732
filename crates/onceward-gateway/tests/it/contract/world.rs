//! One gateway between a caller and an upstream.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use onceward_admin::Token;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Store, SystemClock};
use onceward_gateway::settings::{Protocol, Read, Settings};
use onceward_gateway::{Gateway, Process, SettingsSource};
use onceward_testkit::{FaultyStore, Op};

pub(crate) use super::caller::{Aside, Ask, Caller, Got, Line, Wire, ask, pay, pay_other, post};
pub(crate) use super::origin::{Origin, Reply, Seen, always, paid, paid_after, reply, turnstile};
pub(crate) use crate::scripted::{until, within};

/// The token of the admin listener.
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What is spoken before and behind the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) front: Wire,
    pub(crate) back: Wire,
}

pub(crate) const H1: Pair = Pair { front: Wire::H1, back: Wire::H1 };

/// Runs a case for every pair of protocols.
pub(crate) async fn each(case: impl AsyncFn(Pair)) {
    for front in [Wire::H1, Wire::H2c] {
        for back in [Wire::H1, Wire::H2c] {
            let pair = Pair { front, back };
            // Shown only with a failure: which of the four it was.
            eprintln!("{pair:?}");
            Box::pin(case(pair)).await;
        }
    }
}

/// The gateway and its surroundings.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) origin: Origin,
    pub(crate) caller: Caller,
    pub(crate) admin: Caller,
}

impl World {
    /// A gateway with the settings of `toml` on top of the defaults.
    pub(crate) async fn start<F>(
        pair: Pair,
        toml: &str,
        handler: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        Self::before(Origin::start(handler).await, pair, toml, |_| {}).await
    }

    /// A gateway before an upstream, with settings that a file could hardly say.
    pub(crate) async fn before(
        origin: Origin,
        pair: Pair,
        toml: &str,
        tune: impl FnOnce(&mut Settings),
    ) -> Self {
        let store = FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
        Self::over(Arc::new(store), origin, pair, toml, tune).await
    }

    /// A gateway whose settings can be read again: they are what `file` holds, and `{url}` in it is the origin.
    pub(crate) async fn reloadable(origin: Origin, file: &Arc<Mutex<String>>) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(SystemClock)))));
        let (text, url) = (Arc::clone(file), format!("http://{}", origin.addr));
        let read = move || {
            let text = text.lock().unwrap().replace("{url}", &url);
            let any = "listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n";
            let settings = Settings::parse_toml(&format!("{any}{text}"))?;
            Ok(Read { settings, warnings: Vec::new() })
        };
        let settings = read().unwrap().settings;
        let process = Process { source: Some(SettingsSource::new(read)), ..Process::default() };
        let token = Token::parse(TOKEN).unwrap();
        let over = Arc::clone(&store) as Arc<dyn Store>;
        let gateway = Gateway::start_in(process, settings, over, token).await.unwrap();
        let caller = Caller { addr: gateway.address(), wire: Wire::H1 };
        let admin = Caller { addr: gateway.admin_address(), wire: Wire::H1 };
        Self { gateway, store, origin, caller, admin }
    }

    /// A gateway over a store that was used before, or is used by another one too.
    pub(crate) async fn over(
        store: Arc<FaultyStore>,
        origin: Origin,
        pair: Pair,
        toml: &str,
        tune: impl FnOnce(&mut Settings),
    ) -> Self {
        let url = format!("[upstream]\nurls = [\"http://{}\"]\n", origin.addr);
        let mut settings = Settings::parse_toml(&format!("{url}{toml}")).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        (settings.listen, settings.admin.listen) = (any, any);
        settings.upstream.protocol = match pair.back {
            Wire::H1 => Protocol::Http1,
            Wire::H2c => Protocol::H2c,
        };
        tune(&mut settings);
        let token = Token::parse(TOKEN).unwrap();
        let gateway = Gateway::start(settings, Arc::clone(&store) as Arc<dyn Store>, token).await.unwrap();
        let caller = Caller { addr: gateway.address(), wire: pair.front };
        let admin = Caller { addr: gateway.admin_address(), wire: Wire::H1 };
        Self { gateway, store, origin, caller, admin }
    }

    pub(crate) fn send(&self, ask: Ask) -> impl Future<Output = Got> + Send + 'static + use<> {
        self.caller.send(ask)
    }

    pub(crate) fn send_aside(&self, ask: Ask) -> Aside {
        self.caller.send_aside(ask)
    }

    /// How many requests the upstream got.
    pub(crate) fn effects(&self) -> usize {
        self.origin.effects()
    }

    /// How many inserts the store was asked for; nothing but a claim and the hash key needs one.
    pub(crate) fn claims(&self) -> usize {
        self.store.ops().iter().filter(|it| **it == Op::Insert).count()
    }

    /// The value of the only series that begins so, or `none`.
    pub(crate) async fn metric(&self, series: &str) -> String {
        let page = self.admin.send(ask("GET", "/metrics")).await;
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        page.lines().find_map(|it| it.strip_prefix(series)).unwrap_or("none").trim().to_owned()
    }

    /// Has the settings read again.
    pub(crate) async fn reload(&self) -> Got {
        self.admin.send(post("/api/v1/reload").header("authorization", format!("Bearer {TOKEN}"))).await
    }

    /// Sends the payment again until `done`; gives that answer.
    pub(crate) async fn pay_until(&self, key: &str, done: impl Fn(&Got) -> bool) -> Got {
        within(async {
            loop {
                let got = self.send(pay(key)).await;
                if done(&got) {
                    return got;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await
    }
}
