//! Where each request on a connection of HTTP/1 begins and ends, read strictly.
//!
//! Request smuggling lives on bytes that two readers frame in two ways. So every byte is judged here before
//! the server reads it, and what is not plain is not passed on:
//!
//! 1. A head is passed on whole or not at all, once it is known to be plain ([`head`]).
//! 2. The line before a chunk and the trailers, too, are passed on whole.
//! 3. The bytes of a body are passed on as they come.
//!
//! No clock, no socket: bytes in, verdict out. How the bytes were split on their way does not matter.

mod chunk;
mod head;
#[cfg(test)]
mod tests;

use memchr::memchr;

use self::head::Length;
use super::Limits;
use super::violation::Violation;

/// What may be done with the front of the bytes that were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This many bytes are a piece of a body, or of what stands around it: pass them on.
    Pass(usize),
    /// This many bytes are the head of a request: pass them on.
    Head {
        bytes: usize,
        /// The request asks for another protocol, so what follows may be none of HTTP.
        upgrade: bool,
    },
    /// Show the same bytes again, with more behind them.
    More,
}

/// The state between two looks.
#[derive(Debug)]
pub(super) struct Framing {
    bounds: Bounds,
    at: Place,
    scan: Scan,
    /// Bytes of chunk extensions that this body may still have.
    extensions_left: usize,
    /// An empty line before a request is let through once: old clients send one behind a body.
    empty_line_seen: bool,
}

/// The limits that concern framing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) head_bytes: usize,
    pub(super) headers: usize,
    pub(super) target_bytes: usize,
}

impl From<&Limits> for Bounds {
    fn from(it: &Limits) -> Self {
        Self { head_bytes: it.head_bytes_max, headers: it.headers_max, target_bytes: it.target_bytes_max }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
}

impl Framing {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            at: Place::Head,
            scan: Scan::default(),
            extensions_left: chunk::EXTENSION_BYTES_MAX,
            empty_line_seen: false,
        }
    }

    /// Whether a head is what comes next, or is being read.
    pub(super) fn is_at_head(&self) -> bool {
        self.at == Place::Head
    }

    /// Judges the front of `bytes`: everything that was not passed on yet, in order.
    ///
    /// # Errors
    /// [`Violation`]: nothing from the front of `bytes` on may be passed on, now or later.
    pub(super) fn judge(&mut self, bytes: &[u8]) -> Result<Verdict, Violation> {
        if bytes.is_empty() {
            return Ok(Verdict::More);
        }
        match self.at {
            Place::Head => self.judge_head(bytes),
            Place::Sized(left) => {
                let (pass, left) = take(left, bytes.len());
                self.at = if left == 0 { Place::Head } else { Place::Sized(left) };
                Ok(Verdict::Pass(pass))
            }
            Place::Chunk(left) => {
                let (pass, left) = take(left, bytes.len());
                self.at = if left == 0 { Place::ChunkEnd } else { Place::Chunk(left) };
                Ok(Verdict::Pass(pass))
            }
            Place::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => Ok(self.pass(2, Place::ChunkSize)),
                [b'\r'] => Ok(Verdict::More),
                _ => Err(Violation::ChunkEnd),
            },
            Place::ChunkSize => {
                let Some((size, line_bytes, extension_bytes)) = chunk::read_line(bytes)? else {
                    return Ok(Verdict::More);
                };
                self.extensions_left =
                    self.extensions_left.checked_sub(extension_bytes).ok_or(Violation::ChunkSize)?;
                let next = if size == 0 { Place::Trailers } else { Place::Chunk(size) };
                Ok(self.pass(line_bytes, next))
            }
            Place::Trailers => {
                let ended = self.scan.lines_end(bytes, self.bounds.head_bytes);
                let Some(end) = ended.map_err(|_| Violation::Trailer)? else { return Ok(Verdict::More) };
                head::check_trailers(&bytes[..end], self.bounds)?;
                Ok(self.pass(end, Place::Head))
            }
        }
    }

    fn judge_head(&mut self, bytes: &[u8]) -> Result<Verdict, Violation> {
        if self.scan.at == 0 && !self.empty_line_seen {
            match bytes {
                [b'\r', b'\n', ..] => {
                    self.empty_line_seen = true;
                    return Ok(Verdict::Pass(2));
                }
                [b'\r'] => return Ok(Verdict::More),
                _ => {}
            }
        }
        head::check_start(bytes, self.bounds)?;
        let Some(end) = self.scan.lines_end(bytes, self.bounds.head_bytes)? else {
            return Ok(Verdict::More);
        };
        let head = head::check(&bytes[..end], self.bounds)?;
        self.extensions_left = chunk::EXTENSION_BYTES_MAX;
        self.empty_line_seen = false;
        let next = match head.length {
            Length::Sized(0) => Place::Head,
            Length::Sized(length) => Place::Sized(length),
            Length::Chunked => Place::ChunkSize,
        };
        self.pass(end, next);
        Ok(Verdict::Head { bytes: end, upgrade: head.upgrade })
    }

    fn pass(&mut self, bytes: usize, next: Place) -> Verdict {
        self.at = next;
        self.scan = Scan::default();
        Verdict::Pass(bytes)
    }
}

/// How many of `left` bytes are here, and how many are left then.
fn take(left: u64, here: usize) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(all) if all <= here => (all, 0),
        Ok(_) | Err(_) => (here, left - here as u64),
    }
}

/// What is known of bytes that are shown again and again while they grow.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes that were looked at.
    at: usize,
    /// Where the line begins that is not whole yet.
    line_start: usize,
}

impl Scan {
    /// The end of the lines up to and with the first empty one; `None` while that is not here.
    ///
    /// Every LF on the way must come behind a CR.
    fn lines_end(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Violation> {
        while let Some(found) = memchr(b'\n', &bytes[self.at..]) {
            let lf = self.at + found;
            if lf >= bytes_max {
                return Err(Violation::HeadTooLarge);
            }
            if lf == 0 || bytes[lf - 1] != b'\r' {
                return Err(Violation::LineEnd);
            }
            if lf == self.line_start + 1 {
                return Ok(Some(lf + 1));
            }
            self.at = lf + 1;
            self.line_start = lf + 1;
        }
        self.at = bytes.len();
        if bytes.len() > bytes_max { Err(Violation::HeadTooLarge) } else { Ok(None) }
    }
}
