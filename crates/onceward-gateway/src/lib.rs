//! A reverse proxy that makes any HTTP API safe to repeat.
//!
//! It puts the layer of [`onceward_http`] in front of an API in any language, on one or several machines, and
//! serves health, metrics and the records on a second listener.
//!
//! # What is promised, and what is not
//! An operation is sent to the upstream once. No caller sees a byte of its answer before it is stored. What
//! is no operation streams through untouched.
//!
//! # When it is told to stop
//! [`Gateway::stop`] lets everything finish that finishes in time and leaves the rest visible as unresolved.

mod access;
pub mod doctor;
mod examine;
mod gateway;
pub mod listen;
pub mod network;
mod notice;
mod reload;
mod routes;
pub mod settings;

mod forward;
mod to_upstream;
mod upgrade;
mod upkeep;
mod upstream;
mod watch;
mod workers;

pub use crate::examine::StoreLook;
pub use crate::forward::{ClientAddr, SecureClient};
pub use crate::gateway::{AtWork, Ended, Gateway, Listeners, Process, StartError};
pub use crate::reload::SettingsSource;
pub use crate::routes::SecretFileError;
pub use crate::workers::Workers;
pub use onceward_http::FreshConnection;

pub use crate::upstream::{
    Balance, Fault, HostMode, InvalidSetting, Names, PassThrough, Protocol, Surroundings, Upstream,
    UpstreamEvent, UpstreamObserver, UpstreamOutcome, UpstreamSettings, UpstreamState, rendezvous,
};
