//! A client that knows every byte it was told, and that may leave at any time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::time::{ms, now};

/// The name that callers use for the gateway. It stays the same when a restart changes the port.
const HOST: &str = "shop.example";

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(crate) fn body(self, body: Vec<u8>) -> Self {
        Self { body, ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {HOST}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// Lines that differ between an answer and its replay by design.
const OWN_LINES: [&str; 3] = ["date", "connection", "idempotent-replayed"];

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The last part of a problem's type; `None` for what is no problem of the gateway.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.header("content-type") != Some("application/problem+json") {
            return None;
        }
        let kind = self.json()["type"].as_str()?.to_owned();
        kind.rsplit(['/', ':']).next().map(str::to_owned)
    }

    /// A digest of all that a replay must repeat: status, header lines in their order, body.
    pub(crate) fn digest(&self) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.status.to_be_bytes());
        for (name, value) in self.headers.iter().filter(|it| !OWN_LINES.contains(&it.0.as_str())) {
            hash.update(format!("{name}: {value}\n").as_bytes());
        }
        hash.update(b"\n").update(&self.body);
        hash.finalize()
    }
}

/// A caller with at most one connection, kept open as long as it works.
#[derive(Debug, Default)]
pub(crate) struct Client {
    open: Option<(SocketAddr, BufReader<TcpStream>)>,
}

impl Client {
    /// Sends a request and reads the whole reply, or leaves after `patience`. Nothing is repeated: an error says
    /// nothing about what became of the request.
    pub(crate) fn ask(&mut self, to: SocketAddr, ask: &Ask, patience: Duration) -> io::Result<Reply> {
        let end = now() + patience;
        let mut reader = match self.open.take().filter(|it| it.0 == to) {
            Some((_, reader)) => reader,
            None => {
                let stream = TcpStream::connect_timeout(&to, patience.max(ms(1)))?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        reader.get_ref().set_write_timeout(Some(patience.max(ms(1))))?;
        reader.get_mut().write_all(&ask.bytes())?;
        let reply = Reading { reader: &mut reader, end }.reply()?;
        if reply.header("connection") != Some("close") {
            self.open = Some((to, reader));
        }
        Ok(reply)
    }
}

/// Reads one reply until a deadline.
struct Reading<'a> {
    reader: &'a mut BufReader<TcpStream>,
    end: Duration,
}

impl Reading<'_> {
    fn reply(mut self) -> io::Result<Reply> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
        let mut reply = Reply { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").ok_or_else(wrong)?;
            reply.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        if reply.header("transfer-encoding").is_some() {
            loop {
                let length = usize::from_str_radix(&self.line()?, 16).map_err(|_| wrong())?;
                let mut piece = vec![0; length];
                self.fill(&mut piece)?;
                reply.body.extend(piece);
                self.line()?;
                if length == 0 {
                    break;
                }
            }
        } else {
            let length = reply.header("content-length").map_or(Ok(0), str::parse).map_err(|_| wrong())?;
            reply.body = vec![0; length];
            let mut body = std::mem::take(&mut reply.body);
            self.fill(&mut body)?;
            reply.body = body;
        }
        Ok(reply)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            self.limit()?;
            let more = self.reader.fill_buf()?;
            let taken = more.iter().position(|it| *it == b'\n').map_or(more.len(), |it| it + 1);
            if taken == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            line.extend_from_slice(&more[..taken]);
            self.reader.consume(taken);
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        Ok(line.trim_end().to_owned())
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            self.limit()?;
            let read = self.reader.read(buffer)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[read..];
        }
        Ok(())
    }

    fn limit(&self) -> io::Result<()> {
        let left = self.end.saturating_sub(now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.get_ref().set_read_timeout(Some(left))
    }
}
