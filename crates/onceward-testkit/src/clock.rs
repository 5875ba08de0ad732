//! A clock that stands still until a test moves it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use onceward_core::{Clock, Timestamp};
use tokio::sync::{oneshot, watch};

use crate::patience::within;

/// 2026-01-01T00:00:00Z: any date will do that is not the epoch.
const START_MS: u64 = 1_767_225_600_000;

/// Time held in the hand. Clones share it.
///
/// Whoever sleeps on it sleeps until [`advance`](Self::advance) reaches the wake-up time;
/// [`until_asleep`](Self::until_asleep) tells a test that the code under test has come to rest.
#[derive(Clone)]
pub struct HandClock {
    inner: Arc<Inner>,
}

struct Inner {
    now: Mutex<Now>,
    asleep: watch::Sender<usize>,
}

struct Now {
    wall_ms: u64,
    boot: Duration,
    next: u64,
    sleepers: Vec<Sleeper>,
}

struct Sleeper {
    id: u64,
    until: Duration,
    wake: oneshot::Sender<()>,
}

impl Default for HandClock {
    fn default() -> Self {
        Self::new()
    }
}

impl HandClock {
    /// A clock at the start of 2026, one hour after boot.
    #[must_use]
    pub fn new() -> Self {
        let now = Now { wall_ms: START_MS, boot: Duration::from_secs(3600), next: 0, sleepers: Vec::new() };
        Self { inner: Arc::new(Inner { now: Mutex::new(now), asleep: watch::Sender::new(0) }) }
    }

    /// Lets `pause` pass on both clocks and wakes every sleeper whose time has come.
    pub fn advance(&self, pause: Duration) {
        let mut now = self.now();
        now.boot += pause;
        now.wall_ms = Timestamp::from_millis(now.wall_ms).after(pause).as_millis();
        let boot = now.boot;
        let (woken, asleep): (Vec<_>, Vec<_>) =
            std::mem::take(&mut now.sleepers).into_iter().partition(|it| it.until <= boot);
        now.sleepers = asleep;
        self.inner.asleep.send_replace(now.sleepers.len());
        drop(now);
        for sleeper in woken {
            let _ = sleeper.wake.send(());
        }
    }

    /// Sets the wall clock forward (or back) by `millis` and leaves the boot clock alone, as NTP and
    /// operators do. Nobody wakes.
    pub fn jump_wall(&self, millis: i64) {
        let mut now = self.now();
        now.wall_ms = now.wall_ms.saturating_add_signed(millis);
    }

    /// How many futures sleep on this clock now.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.now().sleepers.len()
    }

    /// Waits until at least `count` futures sleep on this clock.
    ///
    /// # Panics
    /// When they do not within 30 s of real time.
    pub async fn until_asleep(&self, count: usize) {
        let mut asleep = self.inner.asleep.subscribe();
        let slept = within(asleep.wait_for(|it| *it >= count)).await;
        slept.expect("the clock that sends is borrowed");
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.inner.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for HandClock {
    fn wall(&self) -> Timestamp {
        Timestamp::from_millis(self.now().wall_ms)
    }

    fn boot(&self) -> Duration {
        self.now().boot
    }

    fn sleep(&self, pause: Duration) -> BoxFuture<'static, ()> {
        if pause.is_zero() {
            return Box::pin(std::future::ready(()));
        }
        let (wake, woken) = oneshot::channel();
        let mut now = self.now();
        let (id, until) = (now.next, now.boot.saturating_add(pause));
        now.next += 1;
        now.sleepers.push(Sleeper { id, until, wake });
        self.inner.asleep.send_replace(now.sleepers.len());
        drop(now);
        Box::pin(Sleep { clock: self.clone(), id, woken })
    }
}

impl fmt::Debug for HandClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now();
        f.debug_struct("HandClock")
            .field("wall_ms", &now.wall_ms)
            .field("boot", &now.boot)
            .field("sleepers", &now.sleepers.len())
            .finish()
    }
}

struct Sleep {
    clock: HandClock,
    id: u64,
    woken: oneshot::Receiver<()>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.woken).poll(cx).map(|_| ())
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let mut now = self.clock.now();
        now.sleepers.retain(|it| it.id != self.id);
        self.clock.inner.asleep.send_replace(now.sleepers.len());
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_reaches_it_and_not_before() {
        let clock = HandClock::new();
        let mut tasks = JoinSet::new();
        for seconds in [1, 3] {
            let clock = clock.clone();
            tasks.spawn(async move { clock.sleep(Duration::from_secs(seconds)).await });
        }
        clock.until_asleep(2).await;
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.sleepers(), 1);
        within(tasks.join_next()).await.unwrap().unwrap();
        clock.jump_wall(10_000);
        assert_eq!(clock.sleepers(), 1, "a jump of the wall clock wakes nobody");
        clock.advance(Duration::from_secs(1));
        within(tasks.join_next()).await.unwrap().unwrap();
    }

    #[test]
    fn a_dropped_sleep_is_no_sleeper() {
        let clock = HandClock::new();
        let sleep = clock.sleep(Duration::from_secs(1));
        assert_eq!(clock.sleepers(), 1);
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn the_wall_clock_jumps_alone_and_advances_together() {
        let clock = HandClock::new();
        let (wall, boot) = (clock.wall(), clock.boot());
        clock.jump_wall(-500);
        clock.advance(Duration::from_secs(1));
        assert_eq!(wall.until(clock.wall()), Duration::from_millis(500));
        assert_eq!(clock.boot() - boot, Duration::from_secs(1));
    }
}
