//! What the system lets this process have.

use rustix::process::{Resource, getrlimit};

use crate::doctor::Process;

/// The limits of this process; `is_gateway` says whether it is the gateway itself.
#[must_use]
pub fn process(is_gateway: bool) -> Process {
    let files = getrlimit(Resource::Nofile);
    let or_none = |it: Option<u64>| Some(it.unwrap_or(u64::MAX));
    Process { files_max: or_none(files.current), files_hard: or_none(files.maximum), is_gateway }
}
