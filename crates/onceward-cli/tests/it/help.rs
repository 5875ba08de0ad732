//! The help texts.

use std::path::Path;

use crate::process::{onceward, run};
use crate::snapshot::assert_snapshot;

#[test]
fn the_help_of_every_verb_is_as_stored() {
    let verbs: [&[&str]; 30] = [
        &[],
        &["gateway"],
        &["keys"],
        &["keys", "list"],
        &["keys", "show"],
        &["keys", "resolve"],
        &["keys", "remove"],
        &["store"],
        &["store", "migrate"],
        &["store", "copy"],
        &["consume"],
        &["queue"],
        &["queue", "dead"],
        &["queue", "dead", "list"],
        &["queue", "dead", "show"],
        &["queue", "dead", "redrive"],
        &["queue", "dead", "drop"],
        &["relay"],
        &["outbox"],
        &["outbox", "stats"],
        &["outbox", "list"],
        &["outbox", "show"],
        &["outbox", "redrive"],
        &["outbox", "drop"],
        &["doctor"],
        &["demo"],
        &["demo", "upstream"],
        &["completions"],
        &["man"],
        &["help", "keys", "resolve"],
    ];
    for verb in verbs {
        let mut command = onceward(Path::new("."));
        command.args(verb);
        if verb.first() != Some(&"help") {
            command.arg("--help");
        }
        let ended = run(&mut command).with_code(0);
        assert_eq!(ended.stderr, "");
        let name = if verb.is_empty() { "onceward".to_owned() } else { verb.join("-") };
        assert_snapshot(&format!("help-{name}.txt"), &ended.stdout);
    }
}

#[test]
fn no_verb_or_an_unknown_one_is_a_usage_error() {
    let ended = run(&mut onceward(Path::new("."))).with_code(2);
    assert!(ended.stderr.contains("Usage: onceward <COMMAND>"), "{}", ended.stderr);
    let ended = run(onceward(Path::new(".")).arg("gatway")).with_code(2);
    assert!(ended.stderr.contains("'gateway'"), "{}", ended.stderr);
}
