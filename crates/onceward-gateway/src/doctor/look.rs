//! Gathering of facts: what a running gateway and the command look at in the same way.

mod disk;
mod process;
mod upstream;

pub use self::disk::disk;
pub use self::process::process;
pub use self::upstream::upstreams;
