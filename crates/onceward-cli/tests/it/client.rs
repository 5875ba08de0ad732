//! A client that sends exactly what a test says, one request per connection.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::wait::PATIENCE;

/// The name that callers use for the gateway. It stays the same when a restart changes the port.
const HOST: &str = "shop.example";

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// `POST /payments` with this key.
pub(crate) fn pay(key: &str) -> Ask {
    Ask::new("POST", "/payments").with("Idempotency-Key", key).body(r#"{"account":"alice","amount":1200}"#)
}

/// `GET` of this path.
pub(crate) fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

impl Ask {
    pub(crate) fn new(method: &'static str, path: &str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: String::new() }
    }

    /// Adds a header line.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// Sends it and gives back the connection, unread.
    pub(crate) fn open(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method != "GET" {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        stream.write_all(text.as_bytes())?;
        Ok(stream)
    }

    /// Sends it and reads the whole reply. An error when the connection ends before.
    pub(crate) fn send(&self, to: SocketAddr) -> io::Result<Reply> {
        Reply::read(self.open(to)?)
    }

    /// Like [`Ask::send`], on a thread of its own.
    pub(crate) fn send_meanwhile(&self, to: SocketAddr) -> JoinHandle<io::Result<Reply>> {
        let ask = self.clone();
        std::thread::spawn(move || ask.send(to))
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    fn read(mut stream: TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").ok_or_else(cut)?;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut body = bytes.split_off(end + 4);
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = head.lines().skip(1).map(|it| it.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        let mut reply = Self { status, headers, body: Vec::new() };
        if let Some(length) = reply.header("content-length") {
            if body.len() != length.parse::<usize>().unwrap() {
                return Err(cut());
            }
        } else if reply.header("transfer-encoding").is_some() {
            body = joined(&body).ok_or_else(cut)?;
        }
        reply.body = body;
        Ok(reply)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The last part of a problem's type; empty for what is no problem.
    pub(crate) fn problem(&self) -> String {
        if self.header("content-type") != Some("application/problem+json") {
            return String::new();
        }
        self.json()["type"].as_str().unwrap().rsplit(['/', ':']).next().unwrap().to_owned()
    }

    pub(crate) fn is_replay(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// Fails unless this is a first run's answer, whole and unmarked.
    pub(crate) fn assert_first(&self) {
        assert_eq!((self.status, self.is_replay()), (201, false), "{self:?}");
    }

    /// Fails unless this is `first` again: status, header lines and body.
    pub(crate) fn assert_replay_of(&self, first: &Self) {
        assert!(self.is_replay(), "{self:?}");
        let told = |it: &Self| {
            let own = ["idempotent-replayed", "date", "connection"];
            let headers: Vec<_> =
                it.headers.iter().filter(|line| !own.contains(&line.0.as_str())).cloned().collect();
            (it.status, headers)
        };
        assert_eq!(told(self), told(first));
        assert!(self.body == first.body, "the bodies differ");
    }

    /// Fails unless this is that problem.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.problem().as_str()), (status, code), "{self:?}");
    }
}

/// The bytes of a chunked body; None when the last chunk is missing.
fn joined(mut chunked: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunked.windows(2).position(|it| it == b"\r\n")?;
        let length = usize::from_str_radix(str::from_utf8(&chunked[..line]).ok()?.trim(), 16).ok()?;
        chunked = &chunked[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend(chunked.get(..length)?);
        chunked = chunked.get(length + 2..)?;
    }
}
