//! Words on stdout and stderr. A reader that has left (`| head`) is no failure, so none of this can panic.

use std::io::{Write as _, stderr, stdout};

/// Writes `text` as it is.
pub(crate) fn say(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to stderr that begins with the name of the command.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(stderr().lock(), "onceward: {text}");
}
