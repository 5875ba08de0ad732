//! What a reload finds changed, and what of it needs a restart.

use super::{UPSTREAM, accepted, with_upstream};
use crate::settings::Changes;

fn check(text: &str, changed: &[&str], needs_restart: &[&str]) {
    let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let expected = Changes { changed: owned(changed), needs_restart: owned(needs_restart) };
    assert_eq!(with_upstream().changes(&accepted(text)), expected, "{text}");
}

#[test]
fn a_change_is_named_and_so_is_what_needs_a_restart() {
    let top = |text: &str| format!("{text}\n{UPSTREAM}");
    let more = |text: &str| format!("{UPSTREAM}{text}\n");
    check(UPSTREAM, &[], &[]);
    check(&top("drain = \"1s\""), &["drain"], &[]);
    check(&top("listen = \"127.0.0.1:1\""), &["listen"], &["listen"]);
    check(&top("store = \"memory:\""), &["store"], &["store"]);
    check(&top("idle_timeout = \"1s\""), &["idle_timeout"], &["idle_timeout"]);
    check(&more("[admin]\nhide_keys = true"), &["admin.hide_keys"], &["admin.hide_keys"]);
    check(&more("balance = \"key-hash\""), &["upstream.balance"], &[]);
    check(&more("[limits]\nstreams = 7"), &["limits.streams"], &["limits.streams"]);
    check(&more("[cors]\norigins = [\"*\"]"), &["cors.origins"], &[]);
    check(&more("[[route]]\npath = \"/a\""), &["route"], &[]);
    check(
        &more("[policy]\nlease = \"31s\"\nreplay_drop = [\"Server\"]"),
        &["policy.lease", "policy.replay_drop"],
        &[],
    );
}

#[test]
fn other_tls_files_are_taken_up_but_turning_tls_on_needs_a_restart() {
    let with = |cert: &str| accepted(&format!("{UPSTREAM}[tls]\ncert = \"{cert}\"\nkey = \"k\"\n"));
    assert_eq!(with("a").changes(&with("b")).needs_restart, Vec::<String>::new());
    assert_eq!(with("a").changes(&with("b")).changed, ["tls.cert"]);
    assert_eq!(with_upstream().changes(&with("b")).needs_restart, ["tls.cert", "tls.key"]);
}
