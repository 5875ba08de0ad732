//! The HTTP contract, sentence by sentence, shown with an axum application behind the layer.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod concurrency;
mod cors;
mod disconnect;
mod fingerprint;
mod forwarded;
mod key;
mod limits;
mod outcome;
mod oversize;
mod principal;
mod problems;
mod replay;
mod routes;
mod store_faults;
mod webhooks;
mod wire;
mod world;
