//! (to come)

pub mod settings;

mod forward;
mod upgrade;
mod upstream;

pub use crate::forward::ClientAddr;
pub use crate::upstream::{
    Fault, FreshConnection, HostMode, InvalidSetting, PassThrough, Protocol, Upstream, UpstreamSettings,
};
