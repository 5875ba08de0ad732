//! The HTTP contract through the whole gateway: real sockets in front, a real server behind, and both of them
//! speaking HTTP/1.1 and h2c in every combination.

mod admin;
mod big;
mod caller;
mod cors;
mod disconnect;
mod durable;
mod fingerprint;
mod forwarded;
mod identity;
mod key;
mod limits;
mod origin;
mod outcome;
mod pass;
mod reload;
mod replay;
mod routes;
mod sent_once;
mod several;
mod stop;
mod store_faults;
mod tls;
mod waiting;
mod world;

/// Lines of a header block.
type Lines = &'static [(&'static str, &'static str)];
