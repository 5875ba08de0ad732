//! Stores records in Redis or Valkey: many processes, one server or a cluster.

mod cluster;
mod courier;
mod fault;
mod inspect;
mod keys;
mod layout;
mod link;
mod look;
mod node;
mod open;
mod reply;
mod route;
mod script;
mod settings;
mod store;
mod tls;
mod value;
mod wire;

pub use crate::open::OpenError;
#[doc(hidden)]
pub use crate::settings::TimeSource;
pub use crate::settings::{Address, Durability, Password, RedisSettings, SettingsError};
pub use crate::store::RedisStore;
