//! A connection to one server, kept up in the background, and calls over it.
//!
//! Many callers share it. Their calls are sent in the order in which they come, as many at once as the
//! socket takes, and answered in that order; so a lone call is sent at once, and calls gather while the socket is busy.
//! A caller that leaves does not disturb the others: its answer is received and dropped.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use onceward_core::Result;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::fault;
use crate::inspect::{Facts, inspect};
use crate::open::OpenError;
use crate::script::Script;
use crate::settings::{Address, RedisSettings};
use crate::wire::{Dialer, Driver, Fresh};

/// The pauses between tries to connect again: they double, and each is cut by up to a half at random.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// No server is asked more often whether it is there.
const BEAT_MIN: Duration = Duration::from_millis(100);

/// What a server says when it does not know a script.
pub(crate) const NOSCRIPT: &str = "NOSCRIPT";

/// What a server answers: a value, or an error of its own.
pub(crate) type Told = Result<Value, RedisError>;

/// A call of a script.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) script: &'a Script,
    pub(crate) keys: &'a [&'a str],
    pub(crate) arguments: &'a [&'a [u8]],
}

impl Call<'_> {
    /// The command that names the script by its hash, or brings it along.
    pub(crate) fn command(&self, by_hash: bool) -> Cmd {
        let mut command = Cmd::new();
        if by_hash {
            command.arg("EVALSHA").arg(&self.script.hash);
        } else {
            command.arg("EVAL").arg(&self.script.source);
        }
        command.arg(self.keys.len()).arg(self.keys);
        for it in self.arguments {
            command.arg(*it);
        }
        command
    }
}

/// A connection, and the task that keeps it up. The task ends with this.
pub(crate) struct Link {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    dialer: Arc<Dialer>,
    address: Address,
    state: Mutex<State>,
    /// The newest connection of which somebody thinks that it is of no use.
    suspected: watch::Sender<u64>,
}

enum State {
    Up(Up),
    /// Why nobody can be asked.
    Down(Arc<str>),
}

#[derive(Clone)]
struct Up {
    connection: MultiplexedConnection,
    number: u64,
    /// How many calls were answered: so that one slow call does not condemn a busy connection.
    answers: Arc<AtomicU64>,
    facts: Arc<Facts>,
}

impl Link {
    /// Connects, and keeps the connection up on this runtime.
    pub(crate) async fn open(dialer: Arc<Dialer>, address: Address) -> Result<Self, OpenError> {
        let fresh = dialer.dial(&address).await?;
        let shared = Shared::new(dialer, address);
        let driver = shared.up(fresh, 1);
        Ok(Self { keeper: Handle::current().spawn(tend(Arc::clone(&shared), Some(driver))), shared })
    }

    /// Connects in the background.
    pub(crate) fn start(dialer: Arc<Dialer>, address: Address) -> Self {
        let shared = Shared::new(dialer, address);
        Self { keeper: Handle::current().spawn(tend(Arc::clone(&shared), None)), shared }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.shared.address
    }

    /// Whether calls can be sent, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        !self.has_ended() && matches!(&*self.shared.state(), State::Up(_))
    }

    /// Whether nobody keeps it up any more: the runtime that did is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.keeper.is_finished()
    }

    /// # Errors
    /// `Unavailable`: nobody keeps it up any more.
    fn kept(&self) -> Result<()> {
        if self.has_ended() {
            Err(fault::away("the runtime that kept the connection has ended"))
        } else {
            Ok(())
        }
    }

    /// What is known of the server; `None` while it is away.
    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        match &*self.shared.state() {
            State::Up(up) if !self.has_ended() => Some(Arc::clone(&up.facts)),
            State::Up(_) | State::Down(_) => None,
        }
    }

    /// Runs a script until `deadline`; the inner error is the server's. A script that the server does not know is
    /// brought along.
    ///
    /// # Errors
    /// `Unavailable`: nothing was sent. `Uncertain`: it may have been carried out.
    pub(crate) async fn call(&self, call: &Call<'_>, deadline: Instant) -> Result<Told> {
        match self.send(&call.command(true), deadline).await? {
            Err(error) if error.code() == Some(NOSCRIPT) => self.send(&call.command(false), deadline).await,
            told => Ok(told),
        }
    }

    /// Sends one command until `deadline`; the inner error is the server's.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Told> {
        self.kept()?;
        self.shared.send(command, deadline).await
    }

    /// Sends commands that nobody else's come between; the answers to all of them.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub(crate) async fn send_together(&self, commands: &Pipeline, deadline: Instant) -> Result<Vec<Told>> {
        self.kept()?;
        let up = self.shared.connected()?;
        let mut connection = up.connection.clone();
        let sent = connection.req_packed_commands(commands, 0, commands.len());
        match self.shared.heard(&up, sent, deadline).await? {
            Ok(told) => Ok(told.into_iter().map(|it| self.shared.judged(&up, it.extract_error())).collect()),
            Err(error) => Err(fault::answered(&error)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn new(dialer: Arc<Dialer>, address: Address) -> Arc<Self> {
        let state = Mutex::new(State::Down(format!("{address}: it is not connected yet").into()));
        Arc::new(Self { dialer, address, state, suspected: watch::Sender::new(0) })
    }

    /// A panic elsewhere cannot leave it half written: every change is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self) -> Result<Up> {
        match &*self.state() {
            State::Up(up) => Ok(up.clone()),
            State::Down(cause) => Err(fault::away(cause)),
        }
    }

    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Told> {
        let up = self.connected()?;
        let mut connection = up.connection.clone();
        let told = self.heard(&up, connection.req_packed_command(command), deadline).await?;
        Ok(self.judged(&up, told.and_then(Value::extract_error)))
    }

    /// What comes back until `deadline`.
    async fn heard<T>(
        &self,
        up: &Up,
        sent: impl Future<Output = Result<T, RedisError>>,
        deadline: Instant,
    ) -> Result<Result<T, RedisError>> {
        let answered_before = up.answers.load(Ordering::Relaxed);
        let Ok(told) = timeout_at(deadline, sent).await else {
            if up.answers.load(Ordering::Relaxed) == answered_before {
                // Nobody was answered all the while: it hangs, or what is between it and us.
                self.suspect(up.number, "it did not answer in time");
            }
            return Err(fault::silent());
        };
        up.answers.fetch_add(1, Ordering::Relaxed);
        Ok(told)
    }

    fn judged(&self, up: &Up, told: Told) -> Told {
        if let Err(error) = &told
            && fault::ends_the_connection(error)
        {
            self.suspect(up.number, &fault::describe(error));
        }
        told
    }

    fn up(&self, fresh: Fresh, number: u64) -> Driver {
        let Fresh { connection, driver, facts } = fresh;
        let up = Up { connection, number, answers: Arc::default(), facts: Arc::new(facts) };
        *self.state() = State::Up(up);
        driver
    }

    fn down(&self, cause: &str) {
        *self.state() = State::Down(format!("{}: {cause}", self.address).into());
    }

    /// Looks whether the server may still keep records: its settings can change while it runs.
    async fn look_again(&self, up: &Up, limit: Duration) {
        let mut connection = up.connection.clone();
        match timeout(limit, inspect(&mut connection, &self.dialer.settings)).await {
            Ok(Ok(facts)) if facts != *up.facts => {
                warn_of_costs(&self.dialer.settings, &facts);
                if let State::Up(now) = &mut *self.state()
                    && now.number == up.number
                {
                    now.facts = Arc::new(facts);
                }
            }
            // It says nothing of itself: whether it answers is found out elsewhere.
            Ok(Ok(_) | Err(OpenError::Unknowable { .. })) | Err(_) => {}
            Ok(Err(refused)) => self.suspect(up.number, &refused.to_string()),
        }
    }

    /// Takes the connection of this number out of use. Its calls that wait are not answered any more.
    fn suspect(&self, number: u64, cause: &str) {
        let mut state = self.state();
        if matches!(&*state, State::Up(up) if up.number == number) {
            *state = State::Down(format!("{}: {cause}", self.address).into());
            self.suspected.send_replace(number);
        }
    }
}

/// Keeps the connection up, and listens for its heart.
async fn tend(shared: Arc<Shared>, driver: Option<Driver>) {
    let beating = Box::pin(beat(Arc::clone(&shared)));
    let keeping = Box::pin(async move {
        let driver = match driver {
            Some(driver) => driver,
            None => again(&shared, 1).await,
        };
        keep(shared, driver).await;
    });
    select(keeping, beating).await;
}

/// Asks a server that was asked nothing for as long as a call may take whether it is still there: a connection that was
/// cut without a word would otherwise be found out by somebody's call. And looks whether it is still set as it should be.
async fn beat(shared: Arc<Shared>) {
    let pause = shared.dialer.settings.call_timeout.max(BEAT_MIN);
    let ping = redis::cmd("PING");
    let mut seen = (0, 0);
    loop {
        tokio::time::sleep(pause).await;
        let Ok(up) = shared.connected() else { continue };
        let answered = (up.number, up.answers.load(Ordering::Relaxed));
        if answered == seen {
            // What it says is its keeper's business.
            let _ = shared.send(&ping, Instant::now() + pause).await;
        }
        seen = (up.number, up.answers.load(Ordering::Relaxed));
        shared.look_again(&up, pause).await;
    }
}

/// Carries the connection; makes another one when it ends, for ever.
async fn keep(shared: Arc<Shared>, mut driver: Driver) {
    let mut suspected = shared.suspected.subscribe();
    for number in 1.. {
        let suspected = Box::pin(suspected.wait_for(|it| *it >= number));
        match select(driver, suspected).await {
            Either::Left(_) => shared.down("it closed the connection"),
            // What was said against it stands already.
            Either::Right(_) => {}
        }
        let cause = shared.connected().err().map(|it| cause_of(&it)).unwrap_or_default();
        tracing::warn!(cause, "the connection to the Redis server is lost");
        driver = again(&shared, number + 1).await;
        tracing::info!(server = %shared.address, "connected to the Redis server again");
    }
}

/// Connects again, with pauses that grow.
async fn again(shared: &Arc<Shared>, number: u64) -> Driver {
    let mut pause = PAUSE_MIN;
    loop {
        match shared.dialer.dial(&shared.address).await {
            Ok(fresh) => {
                warn_of_costs(&shared.dialer.settings, &fresh.facts);
                return shared.up(fresh, number);
            }
            Err(error) => shared.down(&error.to_string()),
        }
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Says what a crash of the server would cost, unless the settings say that it is meant so.
pub(crate) fn warn_of_costs(settings: &RedisSettings, facts: &Facts) {
    if let Some(costs) = facts.costs
        && settings.durability.is_none()
    {
        tracing::warn!(
            costs,
            "the Redis server is not durable; `durability=relaxed` says that this is meant"
        );
    }
}

fn cause_of(error: &onceward_core::Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}
