//! The handler, and the ledger that it writes: every call, nothing unique.

use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::LEASE;
use super::carried::{self, Label};
use super::producers::{ID, seed_of};
use crate::Result;
use crate::request::Request;
use crate::time::{ms, now};

/// What is done to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// 204, or 200 with effects: it happened.
    Done,
    /// 503 with `Retry-After`: it did not happen.
    Released,
    /// 422: it cannot happen.
    Refused,
    /// 500: it happened, or not.
    Failed,
    /// No answer, or half of one: it happened, or not.
    Cut,
}

/// A call: a line of the ledger.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) id: String,
    /// The process that called.
    pub(super) process: u64,
    pub(super) attempt: u32,
    pub(super) fence: u64,
    pub(super) arrived: Duration,
    pub(super) end: End,
    /// The effects that its answer names.
    pub(super) named: Vec<Label>,
    /// When its effect happened.
    pub(super) effect: Option<Duration>,
    /// When its answer had gone out whole.
    pub(super) answered: Option<Duration>,
}

type Ledger = Arc<Mutex<Vec<Call>>>;

/// Listens until the harness ends; so do its threads.
pub(super) struct Handler {
    pub(super) address: SocketAddr,
    ledger: Ledger,
}

impl Handler {
    /// `names` says whether its answers name effects: also those that say that nothing happened, or that come by half.
    pub(super) fn start(seed: u64, names: bool) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, ledger) = (listener.local_addr()?, Ledger::default());
        let book = Arc::clone(&ledger);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let book = Arc::clone(&book);
                thread::spawn(move || answer_all(&stream, &book, seed, names));
            }
        });
        Ok(Self { address, ledger })
    }

    /// Every call, in the order in which they arrived.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What happens to a call: pauses before and after its effect, whether it has one, and how it ends.
struct Script {
    before: Duration,
    has_effect: bool,
    after: Duration,
    end: End,
}

impl Script {
    /// One in two hundred ids never gets through, one is refused. Of all others the script is drawn for every call anew.
    fn of(seed: u64, id: &str, call: usize) -> Self {
        let mut for_id = Rng::with_seed(seed ^ seed_of(id));
        let fate = for_id.u32(0..200);
        let mut rng = Rng::with_seed(for_id.u64(..) ^ call as u64);
        let (before, after) = (ms(rng.u64(0..20)), ms(rng.u64(0..20)));
        let quick = |has_effect, end| Self { before, has_effect, after, end };
        match (fate, rng.u32(0..100)) {
            (0, _) => quick(false, End::Released),
            (1, _) => quick(false, End::Refused),
            (_, 0..2) => quick(false, End::Cut),
            (_, 2..4) => quick(true, End::Cut),
            (_, 4) => quick(true, End::Failed),
            (_, 5..12) => quick(false, End::Released),
            // Longer than a lease: it has to be renewed.
            (_, 12..18) => Self { before: LEASE.mul_f64(rng.f64() * 1.5), ..quick(true, End::Done) },
            (_, 18..24) => Self { after: LEASE.mul_f64(rng.f64() * 1.5), ..quick(true, End::Done) },
            _ => quick(true, End::Done),
        }
    }
}

/// What the answer of a call names: of six, one names nothing and one three.
fn named(seed: u64, id: &str, place: usize) -> Vec<Label> {
    let mut rng = Rng::with_seed(seed ^ seed_of(id) ^ 0x6e61_6d65);
    Label::all(&format!("{id}.{place}"), [0, 1, 1, 2, 2, 3][rng.usize(0..6)])
}

fn answer_all(stream: &TcpStream, ledger: &Mutex<Vec<Call>>, seed: u64, names: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let header = |name: &str| request.header(name);
        let process = request.path().rsplit('/').next().and_then(|it| it.parse().ok());
        let id = header(&format!("onceward-message-{ID}")).to_owned();
        let (place, script, named) = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let earlier = ledger.iter().filter(|it| it.id == id).count();
            let script = Script::of(seed, &id, earlier);
            let named = if names { named(seed, &id, ledger.len()) } else { Vec::new() };
            ledger.push(Call {
                id,
                process: process.unwrap_or(0),
                attempt: header("onceward-attempt").parse().unwrap_or(0),
                fence: header("onceward-fence").parse().unwrap_or(0),
                arrived: now(),
                end: script.end,
                named: named.clone(),
                effect: None,
                answered: None,
            });
            (ledger.len() - 1, script, named)
        };
        let note = |of: &dyn Fn(&mut Call)| {
            of(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner)[place]);
        };
        thread::sleep(script.before);
        if script.has_effect {
            note(&|it| it.effect = Some(now()));
        }
        thread::sleep(script.after);
        if !say(stream, script.end, place, &carried::written(&named))? {
            return Ok(());
        }
        note(&|it| it.answered = Some(now()));
    }
    Ok(())
}

/// Says whether the answer went out whole.
fn say(mut stream: &TcpStream, end: End, place: usize, effects: &str) -> io::Result<bool> {
    let status = match end {
        End::Done if effects.is_empty() => "204 No Content",
        End::Done | End::Cut => "200 OK",
        End::Released => "503 Later\r\nretry-after: 0",
        End::Refused => "422 Never",
        End::Failed => "500 Failed",
    };
    let (kind, body) = match effects {
        "" => ("text/plain", if end == End::Cut { "0123456789" } else { "" }),
        effects => (carried::MEDIA_TYPE, effects),
    };
    let length = match status {
        "204 No Content" => String::new(),
        _ => format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len()),
    };
    let whole = format!("HTTP/1.1 {status}\r\n{length}\r\n{body}");
    if end == End::Cut {
        // Nothing, or all but half of the body.
        let sent = if place.is_multiple_of(2) { 0 } else { whole.len() - body.len() / 2 };
        stream.write_all(&whole.as_bytes()[..sent])?;
        stream.shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    stream.write_all(whole.as_bytes())?;
    Ok(true)
}
