//! Requests of HTTP/1, as handlers and upstreams of a run read them: by whatever they are sent, one after the other.

use std::io::{self, BufRead};

/// A request.
pub(crate) struct Request {
    head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The next one of a connection; `None` once it ended.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut it = Self { head: Vec::new(), body: Vec::new() };
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            it.head.push(line.trim_end().to_owned());
        }
        it.body = vec![0; it.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut it.body)?;
        Ok(Some(it))
    }

    pub(crate) fn path(&self) -> &str {
        self.head.first().and_then(|it| it.split(' ').nth(1)).unwrap_or_default()
    }

    /// The first header of that name, empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut found = self.head.iter().filter_map(|it| it.split_once(": "));
        found.find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1).unwrap_or_default()
    }
}
