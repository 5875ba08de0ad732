//! What operators see and do: health pages, metrics, and a JSON API over the records.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use std::sync::atomic::AtomicBool;
//! use onceward_admin::{
//!     AdminState, AnswerWriter, Doctor, Metrics, Reload, Token, Upstreams, router, serve,
//! };
//! use onceward_core::store::memory::MemoryStore;
//! use onceward_core::{Answer, Engine, SystemClock};
//!
//! let engine = Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))));
//! let router = router(AdminState {
//!     engine,
//!     metrics: Metrics::new(["/payments"]),
//!     token: Token::parse("correct horse battery staple".replace(' ', "-").as_str())?,
//!     draining: Arc::new(AtomicBool::new(false)),
//!     ready_requires_store: false,
//!     // The door whose answers are stored knows how to write one.
//!     answers: AnswerWriter::new(|answer| Ok(Answer::new("text", answer.body))),
//!     reload: Reload::none(),
//!     doctor: Doctor::none(),
//!     upstreams: Upstreams::none(),
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! serve(listener, router, async { /* until told to stop */ }).await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # Pages
//! | request | token | answer |
//! |---|---|---|
//! | `GET /healthz` | no | 200 while the process lives; never asks the store |
//! | `GET /readyz` | no | 200 while serving, with `"store": "up" \| "down"`; 503 from drain on, and while the store is down if [`AdminState::ready_requires_store`] |
//! | `GET /metrics` | no | OpenMetrics text |
//! | `GET /api/v1/openapi.json` | no | this API as an OpenAPI document |
//! | `GET /api/v1/records` | yes | a page of records; `principal`, `method`, `path`, `key`, `state`, `older_than`, `limit`, `cursor` |
//! | `GET /api/v1/records/{id}` | yes | one record, by its 64 hexadecimal digits |
//! | `POST /api/v1/records/{id}/resolve` | yes | `{"outcome": "rerun" \| "answer", "revision", "answer"?, "force"?}` |
//! | `DELETE /api/v1/records/{id}` | yes | `?revision=` and, to overrule a live lease, `&force=reason` |
//! | `GET /api/v1/upstreams` | yes | the upstreams as they are now |
//! | `GET /api/v1/doctor` | yes | what should be put right |
//! | `POST /api/v1/reload` | yes | takes over changed settings |
//!
//! Revisions and fences are strings in JSON: they have 64 bits, and JavaScript would round what exceeds 2^53.
//! A request may give a revision as a string or as a number. Refusals are `application/problem+json`.
//!
//! # What is promised, and what is not
//! A change swaps on the revision that the operator was shown; anything else changes nothing. Every change,
//! and every change that was refused, is one line with the target [`AUDIT`]. No page, log line, label or
//! message holds a body or a credential, and none but the records themselves holds a key.
//!
//! # When a future is dropped
//! A change whose client leaves may have been made or not, like one whose reply was lost; the audit says
//! `unfinished`. Looking never changes anything.
//!
//! # Time
//! Records are shown by the store's own clock. The engine's clock measures durations and bounds how long a
//! health page waits for the store.

mod answer;
mod audit;
mod auth;
mod body;
mod built;
mod change;
mod doctor;
mod health;
mod metered;
mod metrics;
mod openapi;
mod operator;
mod pages;
mod params;
mod problem;
mod records;
mod reload;
mod router;
mod serve;
mod token;
mod upstreams;
mod view;

pub use crate::answer::{AnswerWriter, HttpAnswer};
pub use crate::audit::AUDIT;
pub use crate::built::Build;
pub use crate::doctor::{Doctor, Finding, Findings, Level};
pub use crate::metered::MeteredStore;
pub use crate::metrics::{ListenerView, Metrics, ReloadResult, Served};
pub use crate::reload::{Refusal, Reload, ReloadRefused, Reloaded};
pub use crate::router::{AdminState, router};
pub use crate::serve::serve;
pub use crate::token::{Created, TOKEN_CHARS_MIN, Token, TokenError};
pub use crate::upstreams::{UpstreamState, UpstreamView, Upstreams};
