//! How much one caller may take from the others.

use std::time::Duration;

/// Bounds of the listener. Each connection has these to itself, except where a bound says otherwise.
///
/// A zero duration ends at once and a zero count allows nothing, except where it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections of all callers together. When one more comes, the connection that has been without a
    /// request for longest is closed, those before all others that never sent one; while every connection
    /// carries a request, new ones wait in the queue of the system. Default 10,000.
    pub connections_max: usize,
    /// Requests under way of all callers together; one more gets a 503 with `Retry-After: 1`, and nothing is
    /// run. A request is under way until the last byte of its answer is on its way. 0: no bound.
    /// Default 10,000.
    pub requests_max: usize,
    /// Lines in a head, and in trailers: 431. Default 100.
    pub headers_max: usize,
    /// Bytes of a head, and of trailers: 431. Default 64 KiB.
    pub head_bytes_max: usize,
    /// Bytes of a request target: 414. Default 8 KiB, at most 64 KiB less 2.
    pub target_bytes_max: usize,
    /// From the first byte of a head, or from the start of a connection, to the end of that head: 408, or a
    /// silent end where nothing came. The handshake of TLS may take as long again. Default 10 s.
    pub header_timeout: Duration,
    /// Without a request between two requests; then the connection is closed. Default 75 s.
    pub idle_timeout: Duration,
    /// Without a byte while the body of a request is awaited: 408, where the answer has not begun.
    /// Default 30 s.
    pub body_timeout: Duration,
    /// Without a byte taken by the caller while bytes wait for it: the connection is closed, and of HTTP/2
    /// the stream alone where only that is stuck. A stream of events with nothing to say is not affected.
    /// Default 30 s.
    pub write_timeout: Duration,
    /// Streams at once on a connection of HTTP/2. Default 100.
    pub streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            requests_max: 10_000,
            headers_max: 100,
            head_bytes_max: 64 << 10,
            target_bytes_max: 8 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            streams_max: 100,
        }
    }
}
