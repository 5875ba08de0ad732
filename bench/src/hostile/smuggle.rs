//! Requests that two parsers may read differently. None of them may reach the upstream.
//!
//! Each vector asks for `/refused/NAME`, and hides a second request for `/smuggled/NAME` in what one reading
//! takes for the body. The upstream remembers both paths, since it serves neither.

use std::net::SocketAddr;

use fastrand::Rng;

use super::bytes::talk;
use crate::Result;

/// A way to be ambiguous: its name, and the lines after the request line and `host`.
#[derive(Debug)]
pub struct Vector {
    /// What is wrong with it.
    pub name: &'static str,
    /// The start of the request, with `PATH` in place of the path.
    head: &'static str,
    /// What follows the head; `INNER` stands for the hidden request.
    rest: &'static str,
}

const CHUNKED: &str = "0\r\n\r\nINNER";

/// Everything that must be refused.
pub const VECTORS: &[Vector] = &[
    vector(
        "cl-and-te",
        "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: 60\r\ntransfer-encoding: chunked\r\n\r\n",
        CHUNKED,
    ),
    vector(
        "te-and-cl",
        "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
        CHUNKED,
    ),
    vector(
        "two-lengths",
        "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: 0\r\ncontent-length: 60\r\n\r\n",
        "INNER",
    ),
    vector("list-of-lengths", "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: 0, 60\r\n\r\n", "INNER"),
    vector("length-with-sign", "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: +0\r\n\r\n", "INNER"),
    vector("negative-length", "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: -1\r\n\r\n", "INNER"),
    vector("hex-length", "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: 0x0\r\n\r\n", "INNER"),
    vector(
        "huge-length",
        "POST PATH HTTP/1.1\r\nHOST\r\ncontent-length: 18446744073709551616\r\n\r\n",
        "INNER",
    ),
    vector("te-unknown", "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding: xchunked\r\n\r\n", CHUNKED),
    vector(
        "te-not-last",
        "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        CHUNKED,
    ),
    vector(
        "te-twice",
        "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n",
        CHUNKED,
    ),
    vector("te-in-1.0", "POST PATH HTTP/1.0\r\nHOST\r\ntransfer-encoding: chunked\r\n\r\n", CHUNKED),
    vector(
        "te-obs-fold",
        "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding:\r\n chunked\r\ncontent-length: 60\r\n\r\n",
        CHUNKED,
    ),
    vector(
        "blank-before-colon",
        "POST PATH HTTP/1.1\r\nHOST\r\ntransfer-encoding : chunked\r\n\r\n",
        CHUNKED,
    ),
    vector("blank-before-name", "POST PATH HTTP/1.1\r\n HOST\r\ncontent-length: 0\r\n\r\n", ""),
    vector("obs-fold", "GET PATH HTTP/1.1\r\nHOST\r\nx-folded: a\r\n b\r\n\r\n", ""),
    vector("bare-lf-head", "GET PATH HTTP/1.1\nhost: bench.test\n\n", ""),
    vector("bare-lf-header", "POST PATH HTTP/1.1\r\nHOST\r\nx: a\ncontent-length: 0\r\n\r\n", "INNER"),
    vector("bare-cr-header", "POST PATH HTTP/1.1\r\nHOST\r\nx: a\rcontent-length: 60\r\n\r\n", "INNER"),
    vector("nul-in-header", "GET PATH HTTP/1.1\r\nHOST\r\nx: a\0b\r\n\r\n", ""),
    vector("two-hosts", "GET PATH HTTP/1.1\r\nHOST\r\nhost: other.test\r\n\r\n", ""),
    vector("no-host", "GET PATH HTTP/1.1\r\n\r\n", ""),
];

const fn vector(name: &'static str, head: &'static str, rest: &'static str) -> Vector {
    Vector { name, head, rest }
}

impl Vector {
    /// The bytes of the whole attempt.
    pub fn bytes(&self) -> Vec<u8> {
        let path = format!("/refused/{}", self.name);
        let inner = format!("GET /smuggled/{} HTTP/1.1\r\nhost: bench.test\r\n\r\n", self.name);
        let head = self.head.replace("PATH", &path).replace("HOST", "host: bench.test");
        (head + &self.rest.replace("INNER", &inner)).into_bytes()
    }

    /// Sends it and gives the first line of what comes back; empty when the connection is just closed.
    ///
    /// # Errors
    /// No connection.
    pub async fn send(&self, to: SocketAddr) -> Result<String> {
        let said = talk(to, &self.bytes()).await?;
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
    }
}

pub(super) async fn any(to: SocketAddr, rng: &mut Rng) -> Result<()> {
    VECTORS[rng.usize(..VECTORS.len())].send(to).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_request_names_its_vector() {
        let text = String::from_utf8(VECTORS[0].bytes()).unwrap();
        assert!(text.starts_with("POST /refused/cl-and-te HTTP/1.1\r\nhost: bench.test\r\n"), "{text}");
        assert!(
            text.ends_with("0\r\n\r\nGET /smuggled/cl-and-te HTTP/1.1\r\nhost: bench.test\r\n\r\n"),
            "{text}"
        );
    }
}
