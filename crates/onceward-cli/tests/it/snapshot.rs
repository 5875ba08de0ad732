//! Output that is compared, letter by letter, with what is stored in `snapshots/`.

use std::fs;
use std::path::Path;

/// Fails when `text` is not what is stored under `name`.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots").join(name);
    if fs::read_to_string(&stored).unwrap_or_default() == text {
        return;
    }
    let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&new, text).unwrap();
    panic!(
        "{name} has changed; if that is meant:\n  cp {} {}\nit is now:\n{text}",
        new.display(),
        stored.display()
    );
}

/// Replaces the digits after each `prefix` by `#`.
pub(crate) fn without_number_after(prefix: &str, text: &str) -> String {
    masked_after(prefix, text, |it| it.is_ascii_digit())
}

/// Replaces the run of characters after each `prefix` that `belongs` accepts by `#`.
pub(crate) fn masked_after(prefix: &str, text: &str, belongs: impl Fn(char) -> bool) -> String {
    let mut pieces = text.split(prefix);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(&belongs);
        out.push_str(prefix);
        if rest.len() < piece.len() {
            out.push('#');
        }
        out.push_str(rest);
    }
    out
}
