//! A build without an outbox.

use std::path::Path;

use crate::process::{onceward, run};

#[test]
fn a_build_without_an_outbox_names_the_feature() {
    for words in [
        &["relay", "--store", "postgres://a/b", "--send", "hooks=https:"][..],
        &["outbox", "list", "--store", "postgres://a/b"],
    ] {
        let ended = run(onceward(Path::new(".")).args(words)).with_code(2);
        assert!(ended.stderr.contains("--features outbox"), "{}", ended.stderr);
    }
}
