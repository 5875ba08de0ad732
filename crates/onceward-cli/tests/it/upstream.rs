//! An upstream with no memory of keys: each request has its effect, and every effect is written down.
//!
//! Header lines of a request tell it what to do, and count for nothing at the gateway:
//! `Test-Hold: before` waits before the effect until [`Upstream::open`], `Test-Hold: after` waits between the
//! effect and the answer, `Test-Bytes: N` pads the answer, `Test-Status: N` gives it another status,
//! `Test-Answer: TEXT` and `Test-Type: TYPE` another body and media type, and `Test-Cut: yes` closes the connection after
//! the effect, without an answer.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::wait::until_true;

/// What came with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) key: String,
    pub(crate) fence: u64,
    pub(crate) attempt: u32,
}

/// The upstream. Its threads end with the process of the test.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    books: Arc<Books>,
}

#[derive(Default)]
struct Books {
    arrived: Mutex<Vec<Arrived>>,
    effects: Mutex<Vec<Arrived>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::<Books>::default();
        let shared = Arc::clone(&books);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let books = Arc::clone(&shared);
                // A gateway that is killed breaks its connections: that ends one thread and is no failure.
                std::thread::spawn(move || serve(&stream, &books));
            }
        });
        Self { address, books }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets everything go on that waits, now and later.
    pub(crate) fn open(&self) {
        *self.books.is_open.lock().unwrap() = true;
        self.books.opened.notify_all();
    }

    /// All effects with this key, in the order in which they happened.
    pub(crate) fn effects(&self, key: &str) -> Vec<Arrived> {
        of(&self.books.effects, key)
    }

    /// The keys of all effects, in the order in which they happened.
    #[cfg(all(feature = "relay", feature = "redis-streams"))]
    pub(crate) fn keys(&self) -> Vec<String> {
        self.books.effects.lock().unwrap().iter().map(|it| it.key.clone()).collect()
    }

    /// Waits until so many requests with this key are here.
    pub(crate) fn until_arrived(&self, key: &str, times: usize) {
        until_true("the request reaches the upstream", || of(&self.books.arrived, key).len() == times);
    }

    /// Waits until so many effects with this key have happened.
    pub(crate) fn until_effects(&self, key: &str, times: usize) {
        until_true("the effect happens", || self.effects(key).len() == times);
    }
}

fn of(list: &Mutex<Vec<Arrived>>, key: &str) -> Vec<Arrived> {
    list.lock().unwrap().iter().filter(|it| it.key == key).cloned().collect()
}

impl Books {
    fn wait(&self) {
        drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }
}

/// The answer to the request that had the effect with this number: at least so many bytes.
pub(crate) fn answer(number: usize, bytes: usize) -> Vec<u8> {
    let mut answer = format!("{{\"receipt\":{number}}}").into_bytes();
    // The padding depends on its place, so that bytes that are lost or moved do not go unseen.
    answer.extend((answer.len()..bytes).map(|at| b"0123456789abcdefghijklmnopqrstu"[at % 31]));
    answer
}

/// A request, as it came.
pub(crate) struct Request {
    head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The next one; `None` once the connection ended.
    pub(crate) fn read(reader: &mut impl BufRead) -> Option<Self> {
        let mut it = Self { head: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|it| *it > 0)?;
            if line == "\r\n" {
                break;
            }
            it.head.push(line.trim_end().to_owned());
        }
        it.body = vec![0; it.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut it.body).ok()?;
        Some(it)
    }

    /// The first of that name, also as a header of a message that is brought here; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let is = |it: &str| {
            it.eq_ignore_ascii_case(name) || it.eq_ignore_ascii_case(&format!("onceward-message-{name}"))
        };
        let mut found = self.head.iter().filter_map(|it| it.split_once(": "));
        found.find(|it| is(it.0)).map(|it| it.1).unwrap_or_default()
    }
}

fn serve(stream: &TcpStream, books: &Books) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let request = Request::read(&mut reader)?;
        let header = |name: &str| request.header(name);
        let arrived = Arrived {
            key: header("idempotency-key").to_owned(),
            fence: header("onceward-fence").parse().unwrap_or(0),
            attempt: header("onceward-attempt").parse().unwrap_or(0),
        };
        books.arrived.lock().unwrap().push(arrived.clone());
        if header("test-hold") == "before" {
            books.wait();
        }
        let number = {
            let mut effects = books.effects.lock().unwrap();
            effects.push(arrived);
            effects.len()
        };
        if header("test-hold") == "after" {
            books.wait();
        }
        if header("test-cut") == "yes" {
            return None;
        }
        let answer = match header("test-answer") {
            "" => answer(number, header("test-bytes").parse().unwrap_or(0)),
            text => text.as_bytes().to_vec(),
        };
        let media_type = Some(header("test-type")).filter(|it| !it.is_empty()).unwrap_or("application/json");
        let status = header("test-status").parse::<u16>().unwrap_or(201);
        let head = format!(
            "HTTP/1.1 {status} Said\r\ncontent-type: {media_type}\r\nlocation: /payments/{number}\r\n\
             set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        stream.write_all(&[head.into_bytes(), answer].concat()).ok()?;
    }
}
