//! The upstream: a process with no memory of keys. Each request has its effect, and every effect is in the ledger
//! before anybody is answered.
//!
//! It is a process of its own, so that it can be killed, too: a line that was appended stays.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, getppid, kill_process};

use crate::Result;
use crate::ledger::{Kind, Name, Row, payload_of};
use crate::request::Request;
use crate::script::{End, Script, padding};
use crate::time::{ms, now, until};

/// The process, seen from outside. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Upstream {
    child: Child,
    address: SocketAddr,
}

impl Upstream {
    /// Starts it and waits until it listens.
    pub(crate) fn start(address: SocketAddr, ledger: &Path) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("upstream")
            .arg(address.to_string())
            .arg(ledger)
            .stdin(Stdio::null())
            .spawn()?;
        let upstream = Self { child, address };
        until(ms(10_000), || TcpStream::connect(address).ok())
            .ok_or_else(|| format!("the upstream does not listen on {address}"))?;
        Ok(upstream)
    }

    /// `kill -9`, and a new one after `pause`.
    pub(crate) fn renew(&mut self, ledger: &Path, pause: std::time::Duration) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        thread::sleep(pause);
        *self = Self::start(self.address, ledger)?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that no other process of this machine listens on: the process id is in it.
pub(crate) fn free_address() -> SocketAddr {
    let [.., a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 64 | (a & 63), b, c.max(1)], 9000))
}

struct Books {
    ledger: File,
    count: AtomicU64,
}

/// What the process does until it is killed.
pub(crate) fn serve(address: SocketAddr, ledger: &Path) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    let ledger = File::options().create(true).append(true).open(ledger)?;
    let books = Arc::new(Books { ledger, count: AtomicU64::new(0) });
    thread::spawn(|| {
        // Whoever started it may be killed, too.
        let parent = getppid();
        while getppid() == parent {
            thread::sleep(ms(500));
        }
        std::process::exit(0);
    });
    for stream in listener.incoming() {
        let (stream, books) = (stream?, Arc::clone(&books));
        // A gateway that is killed breaks its connections: that ends one thread and is no failure.
        thread::spawn(move || answer_all(&stream, &books));
    }
    Ok(())
}

fn answer_all(stream: &TcpStream, books: &Books) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader)? {
        let header = |name: &str| request.header(name);
        let row = Row {
            kind: Kind::Arrived,
            at: now(),
            name: Name {
                caller: header("authorization").to_owned(),
                path: request.path().to_owned(),
                key: header("idempotency-key").to_owned(),
            },
            fence: header("onceward-fence").parse().unwrap_or(0),
            attempt: header("onceward-attempt").parse().unwrap_or(0),
            payload: payload_of(&request.body),
            receipt: format!("{}-{}", std::process::id(), books.count.fetch_add(1, Ordering::SeqCst)),
        };
        if !answer(stream, books, row, Script::read(header))? {
            return Ok(());
        }
    }
    Ok(())
}

/// Says whether the connection is of more use.
fn answer(mut stream: &TcpStream, books: &Books, row: Row, script: Script) -> io::Result<bool> {
    let append = |row: &Row| (&books.ledger).write_all(row.line().as_bytes());
    append(&row)?;
    thread::sleep(script.before);
    let (kind, status, has_effect) = match script.end {
        End::Answer(status) => ("answer", status, true),
        End::Void => ("void", 201, false),
        End::Release(status) => ("release", status, false),
        End::Unknown(status) => ("unknown", status, true),
        End::Cut | End::CutBody => ("answer", 201, true),
    };
    let receipt = row.receipt.clone();
    if has_effect {
        append(&Row { kind: Kind::Effect, at: now(), ..row })?;
    }
    thread::sleep(script.after);
    if script.end == End::Cut {
        stream.shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    let mut body = format!("{{\"receipt\":\"{receipt}\"}}").into_bytes();
    body.extend(padding(body.len(), script.bytes));
    // 503 says "nothing happened" only with this line.
    let retry = if matches!(script.end, End::Release(503)) { "retry-after: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncrash-kind: {kind}\r\n\
         crash-receipt: {receipt}\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n{retry}content-length: {}\r\n\r\n",
        body.len()
    );
    if script.end == End::CutBody {
        body.truncate(body.len() / 2);
    }
    stream.write_all(&[head.into_bytes(), body].concat())?;
    if script.end == End::CutBody {
        stream.shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    Ok(true)
}
