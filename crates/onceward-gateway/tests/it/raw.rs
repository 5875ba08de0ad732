//! A client that writes and reads bytes, over TCP or over TLS.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scripted::within;

/// One connection. Dropping it closes it.
pub(crate) struct Raw<IO = TcpStream>(pub(crate) IO);

impl Raw {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self(TcpStream::connect(addr).await.unwrap())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Raw<IO> {
    /// Writes to somebody who must take it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Writes to somebody who may be gone already; what it said is what a test looks at.
    pub(crate) async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
        let _ = self.0.flush().await;
    }

    /// Reads until what came ends with `end`, and gives all of it.
    pub(crate) async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        within(async {
            while !read.ends_with(end.as_bytes()) {
                let seen = String::from_utf8_lossy(&read).into_owned();
                assert!(self.0.read_buf(&mut read).await.unwrap() > 0, "it ended with {seen:?}");
            }
        })
        .await;
        String::from_utf8(read).unwrap()
    }

    /// Reads until the other side closes, which must not be by a reset.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        within(self.0.read_to_end(&mut read)).await.unwrap();
        String::from_utf8(read).unwrap()
    }

    /// Waits until the other side closes, however.
    pub(crate) async fn closed(&mut self) {
        let mut read = Vec::new();
        let _ = within(self.0.read_to_end(&mut read)).await;
    }
}
