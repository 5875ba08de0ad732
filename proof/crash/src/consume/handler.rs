//! The handler, and the ledger that it writes: every call, nothing unique.

use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;

use super::LEASE;
use super::producers::{ID, seed_of};
use crate::Result;
use crate::request::Request;
use crate::time::{ms, now};

/// What is done to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// 204: it happened.
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
    pub(super) fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, ledger) = (listener.local_addr()?, Ledger::default());
        let book = Arc::clone(&ledger);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                let book = Arc::clone(&book);
                thread::spawn(move || answer_all(&stream, &book, seed));
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

fn answer_all(stream: &TcpStream, ledger: &Mutex<Vec<Call>>, seed: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let header = |name: &str| request.header(name);
        let process = request.path().rsplit('/').next().and_then(|it| it.parse().ok());
        let id = header(&format!("onceward-message-{ID}")).to_owned();
        let (place, script) = {
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let earlier = ledger.iter().filter(|it| it.id == id).count();
            let script = Script::of(seed, &id, earlier);
            ledger.push(Call {
                id,
                process: process.unwrap_or(0),
                attempt: header("onceward-attempt").parse().unwrap_or(0),
                fence: header("onceward-fence").parse().unwrap_or(0),
                arrived: now(),
                end: script.end,
                effect: None,
                answered: None,
            });
            (ledger.len() - 1, script)
        };
        let note = |of: &dyn Fn(&mut Call)| {
            of(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner)[place]);
        };
        thread::sleep(script.before);
        if script.has_effect {
            note(&|it| it.effect = Some(now()));
        }
        thread::sleep(script.after);
        if !say(stream, script.end, place)? {
            return Ok(());
        }
        note(&|it| it.answered = Some(now()));
    }
    Ok(())
}

/// Says whether the answer went out whole.
fn say(mut stream: &TcpStream, end: End, place: usize) -> io::Result<bool> {
    let head = match end {
        End::Done => "HTTP/1.1 204 No Content\r\n\r\n",
        End::Released => "HTTP/1.1 503 Later\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n",
        End::Refused => "HTTP/1.1 422 Never\r\ncontent-length: 0\r\n\r\n",
        End::Failed => "HTTP/1.1 500 Failed\r\ncontent-length: 0\r\n\r\n",
        // Nothing, or half of it.
        End::Cut if place.is_multiple_of(2) => "",
        End::Cut => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    };
    stream.write_all(head.as_bytes())?;
    if end == End::Cut {
        stream.shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    Ok(true)
}
