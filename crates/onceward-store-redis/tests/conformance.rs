//! The Redis store keeps every law of a store, agrees with the reference, and what it tells concurrent callers has an
//! order: on a clock in the hand, and on the server's own; and on another runtime than the one where it was opened.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use onceward_core::{Clock as _, Store};
use onceward_store_redis::{Durability, RedisSettings, RedisStore, TimeSource};
use onceward_testkit::HandClock;
use onceward_testkit::conformance::Fixture;
use onceward_testkit::server::RedisServer;
use tokio::runtime::Runtime;

/// Where stores are opened whose callers are on another runtime.
static HOME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));

/// A server of its own, and a clock in the hand or none.
struct Redis {
    server: Mutex<RedisServer>,
    clock: Option<HandClock>,
    time: Option<TimeSource>,
    is_away: bool,
}

impl Redis {
    fn on_a_clock_in_the_hand() -> Self {
        let clock = HandClock::new();
        Self { time: Some(time(&clock)), clock: Some(clock), ..Self::on_its_own_clock() }
    }

    fn on_its_own_clock() -> Self {
        Self { server: Mutex::new(RedisServer::start()), clock: None, time: None, is_away: false }
    }

    fn away_from_home() -> Self {
        Self { is_away: true, ..Self::on_its_own_clock() }
    }

    fn server(&self) -> MutexGuard<'_, RedisServer> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Arc<dyn Store> {
        let url = self.server().url();
        let settings = RedisSettings::from_url(&url).expect("the URL is right");
        let settings =
            RedisSettings { durability: Some(Durability::Durable), time: self.time.clone(), ..settings };
        let opened = if self.is_away {
            HOME.spawn(RedisStore::open(settings)).await.expect("it does not panic")
        } else {
            RedisStore::open(settings).await
        };
        Arc::new(opened.expect("the store opens"))
    }
}

/// The server's clock has no relation to this machine's wall clock: it begins there, and runs with the boot clock.
fn time(clock: &HandClock) -> TimeSource {
    let (clock, start, booted) = (clock.clone(), clock.wall(), clock.boot());
    TimeSource(Arc::new(move || start.after(clock.boot() - booted)))
}

#[async_trait]
impl Fixture for Redis {
    async fn open(&self) -> Arc<dyn Store> {
        self.connect().await
    }

    async fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.connect().await
    }

    /// The server dies, too.
    async fn crash(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        {
            let mut server = self.server();
            server.kill();
            server.start_again();
        }
        self.connect().await
    }

    async fn beside(&self, _: &Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        Some(self.connect().await)
    }

    fn clock(&self) -> Option<HandClock> {
        self.clock.clone()
    }
}

mod clock_in_the_hand {
    use super::*;
    onceward_testkit::store_conformance!(Redis::on_a_clock_in_the_hand());
    onceward_testkit::store_reference!(Redis::on_a_clock_in_the_hand(), runs = 25);
    onceward_testkit::store_history!(Redis::on_a_clock_in_the_hand(), runs = 6);
}

mod on_one_thread {
    use super::*;
    onceward_testkit::store_conformance!(Redis::on_a_clock_in_the_hand(), threads = 1);
}

mod own_clock {
    use super::*;
    onceward_testkit::store_conformance!(Redis::on_its_own_clock());
    onceward_testkit::store_reference!(Redis::on_its_own_clock(), runs = 10);
    onceward_testkit::store_history!(Redis::on_its_own_clock(), runs = 4);
}

mod away_from_home {
    use super::*;
    onceward_testkit::store_conformance!(Redis::away_from_home());
    onceward_testkit::store_history!(Redis::away_from_home(), runs = 4);
}
