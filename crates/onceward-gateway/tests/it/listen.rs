//! The listener over real sockets: what it refuses, how long it waits, and that one caller's trouble is its own.

mod framing;
mod http2;
mod limits;
mod panics;
mod stop;
mod tls;
mod upgrade;
mod world;
