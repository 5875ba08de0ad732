//! Makes the operations of any HTTP service safe to repeat: a [tower](tower_layer) layer.
//!
//! A request with an `Idempotency-Key` runs once; every repeat gets the first answer, also while the network
//! loses answers, clients retry, people click twice and processes die.
//!
//! ```
//! use std::sync::Arc;
//! use onceward_core::store::memory::MemoryStore;
//! use onceward_core::{Engine, SystemClock};
//! use onceward_http::{HttpPolicy, IdempotencyLayer, Routes};
//!
//! let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
//! let layer = IdempotencyLayer::new(engine, Routes::new(Vec::new(), HttpPolicy::default()));
//! let app: axum::Router = axum::Router::new()
//!     .route("/payments", axum::routing::post(|| async { "paid" }))
//!     .layer(layer);
//! ```
//!
//! # What is promised, and what is not
//! Nothing of an operation's answer reaches a caller before it is stored. An operation whose outcome is
//! unknown is never run again silently. The layer follows draft-ietf-httpapi-idempotency-key-header-07, and
//! refuses in the problem bodies of [`Problem`].
//!
//! # Where the layer stands
//! The path that the layer sees is part of an operation's identity, so it must see the path as the client sent
//! it. A layer inside of `axum::Router::nest` sees a shortened one: two nests would share their records. Put
//! the layer around the outermost router.
//!
//! # Limits
//! Bodies of operations are bounded by their route, the operations in flight of one principal by
//! [`IdempotencyLayer::set_keys_in_flight`], the duplicates that wait for one operation by the engine. Whatever is
//! over a bound is refused before anything is claimed.
//!
//! # Browsers
//! Without a [`CorsPolicy`] the layer says nothing of origins: scripts of other origins cannot read its problem
//! bodies, and replays say what the first answer said. Preflights always pass through.
//!
//! # When a client leaves
//! Before the operation is claimed, nothing happens. From then on it runs to its end on a task of the layer,
//! and a repeat gets its answer. Whoever stops the process calls [`IdempotencyLayer::drain`], then
//! [`IdempotencyLayer::idle`], and at last [`IdempotencyLayer::abort`].

mod answer;
mod body;
mod capture;
mod cors;
mod crowd;
mod ending;
mod exchange;
mod fingerprint;
mod hop;
mod identity;
mod key_header;
mod key_source;
mod layer;
mod operation;
mod outcome;
mod path;
mod policy;
mod principal;
mod problem;
mod route;
mod service;
mod token;

pub use crate::answer::{IDEMPOTENT_REPLAYED, ONCEWARD_OUTCOME, keep_lines, stored_answer};
pub use crate::body::{Body, BoxError};
pub use crate::cors::{CorsError, CorsPolicy};
pub use crate::exchange::{Exchange, Told};
pub use crate::hop::HOP_BY_HOP;
pub use crate::identity::{IdentityChange, identity_changes};
pub use crate::key_header::IDEMPOTENCY_KEY;
pub use crate::key_source::{KeySource, NoKeySource};
pub use crate::layer::{IdempotencyLayer, KEYS_IN_FLIGHT};
pub use crate::outcome::{Outcome, Reason};
pub use crate::path::{PathPattern, PatternError};
pub use crate::policy::{Compare, HttpPolicy, KeyRule, Oversize};
pub use crate::principal::PrincipalRule;
pub use crate::problem::Problem;
pub use crate::route::{Route, Routes, may_be_operation};
pub use crate::service::{FreshConnection, Idempotency, Operation, SecureClient};
pub use crate::token::{ShortTokens, token_life};
