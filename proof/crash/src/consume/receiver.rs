//! Where effects go that answers name, and the ledger that it writes: every arrival, nothing unique.

use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::LEASE;
use super::producers::seed_of;
use crate::Result;
use crate::request::Request;
use crate::time::{ms, now};

/// What a sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// 200: it has it.
    Taken,
    /// Nothing, though it has it.
    Silence,
    /// 503: it does not have it.
    Later,
    /// 422: it never will.
    Refused,
}

/// An effect that arrived: a line of the ledger.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    /// Which effect it is.
    pub(super) label: String,
    /// Under which id it came.
    pub(super) id: String,
    /// The process that sent it.
    pub(super) process: u64,
    pub(super) arrived: Duration,
    pub(super) told: Told,
    /// When its answer went out, if it did, whole.
    pub(super) answered: Option<Duration>,
}

impl Arrival {
    /// Whether its sender was told that it is here.
    pub(super) fn is_confirmed(&self) -> bool {
        self.told == Told::Taken && self.answered.is_some()
    }
}

type Ledger = Arc<Mutex<Vec<Arrival>>>;

/// Listens until the harness ends; so do its threads.
pub(super) struct Receiver {
    address: SocketAddr,
    ledger: Ledger,
}

impl Receiver {
    pub(super) fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, ledger) = (listener.local_addr()?, Ledger::default());
        let book = Arc::clone(&ledger);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let book = Arc::clone(&book);
                thread::spawn(move || take_all(&stream, &book, seed));
            }
        });
        Ok(Self { address, ledger })
    }

    /// Where this process sends effects.
    pub(super) fn url(&self, process: u64) -> String {
        format!("http://{}/{process}/", self.address)
    }

    /// All of them, in the order in which they arrived.
    pub(super) fn arrivals(&self) -> Vec<Arrival> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the last one arrived.
    pub(super) fn last(&self) -> Option<Duration> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).last().map(|it| it.arrived)
    }
}

/// What is told to whom, and after which pause. One effect in a hundred is never taken; what came twice is taken at once.
fn script(seed: u64, label: &str, earlier: usize) -> (Duration, Told) {
    let mut for_label = Rng::with_seed(seed ^ seed_of(label));
    let is_refused = for_label.u32(0..100) == 0;
    let mut rng = Rng::with_seed(for_label.u64(..) ^ earlier as u64);
    let (quick, long) = (ms(rng.u64(0..30)), ms(rng.u64(100..600)));
    match rng.u32(0..100) {
        _ if is_refused => (quick, Told::Refused),
        _ if earlier > 1 => (quick, Told::Taken),
        // Some senders do not live to hear it.
        0..6 => (long, Told::Silence),
        6..16 => (long, Told::Later),
        16..30 => (long, Told::Taken),
        // Longer than a lease: it has to be renewed.
        30..36 => (LEASE.mul_f64(rng.f64() * 1.5), Told::Taken),
        _ => (quick, Told::Taken),
    }
}

fn take_all(stream: &TcpStream, ledger: &Mutex<Vec<Arrival>>, seed: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let mut path = request.path().rsplit('/');
        let (destination, process) = (path.next().unwrap_or_default(), path.next());
        let body = String::from_utf8_lossy(&request.body);
        // An effect is named by its destination and by its body.
        let label = if body == destination { body.into_owned() } else { format!("{destination} as {body}") };
        let (place, pause, told) = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let earlier = ledger.iter().filter(|it| it.label == label).count();
            let (pause, told) = script(seed, &label, earlier);
            ledger.push(Arrival {
                label,
                id: request.header("idempotency-key").to_owned(),
                process: process.and_then(|it| it.parse().ok()).unwrap_or(0),
                arrived: now(),
                told,
                answered: None,
            });
            (ledger.len() - 1, pause, told)
        };
        thread::sleep(pause);
        // Before its sender can know it: what is sent because of it comes later.
        let answered = now();
        if !say(stream, told)? {
            return Ok(());
        }
        ledger.lock().unwrap_or_else(PoisonError::into_inner)[place].answered = Some(answered);
    }
    Ok(())
}

/// Says whether an answer went out whole.
fn say(mut stream: &TcpStream, told: Told) -> io::Result<bool> {
    let status = match told {
        Told::Taken => "200 OK",
        Told::Later => "503 Later",
        Told::Refused => "422 Never",
        Told::Silence => {
            stream.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
    };
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    Ok(true)
}
