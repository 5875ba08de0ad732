//! Programs that `cargo xtask servers` installs from PyPI.

use std::path::{Path, PathBuf};

/// The program `name`.
///
/// # Panics
/// When it is not installed: with the command that installs it.
pub(super) fn program(name: &str) -> PathBuf {
    installed(name).unwrap_or_else(|| panic!("{name} is missing: `cargo xtask servers` installs it"))
}

/// The program `name`, where it is installed.
pub(super) fn installed(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = root.join("target/tools").join(name).join("bin").join(name);
    program.is_file().then_some(program)
}
