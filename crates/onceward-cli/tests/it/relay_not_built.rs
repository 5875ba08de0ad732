//! A build without a relay.

use std::path::Path;

use crate::process::{onceward, run};

#[test]
fn a_build_without_a_relay_names_the_feature() {
    for words in [
        &["relay", "--store", "postgres://a/b", "--send", "hooks=https:"][..],
        &["outbox", "list", "--store", "postgres://a/b"],
        &[
            "consume",
            "--from",
            "redis-streams://h/s",
            "--to",
            "http://h/",
            "--name",
            "n",
            "--key",
            "position",
            "--store",
            "memory:",
            "--send",
            "hooks=https:",
        ],
    ] {
        let ended = run(onceward(Path::new(".")).args(words)).with_code(2);
        assert!(ended.stderr.contains("--features"), "{}", ended.stderr);
    }
}
