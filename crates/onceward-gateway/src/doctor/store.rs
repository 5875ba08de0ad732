//! Whether the store can be used, and whether it keeps what it promises.

use std::time::Duration;

use onceward_admin::{Finding, Level};
use onceward_core::moving::Place;

use super::finding::{found, ok};
use super::{Facts, State};
use crate::settings::show_duration as shown;

const REPAIR: &str =
    "stop the gateway, keep a copy of the directory, and see what `onceward doctor --repair` would do";
/// For a store that several gateways share.
const AT_SERVER: &str = "change what that names, at the server or in the URL";

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = opened(facts).into_iter().collect();
    findings.extend(durability(facts));
    findings.extend(hints(facts));
    findings.extend(held(facts));
    findings.extend(moving(facts));
    findings.extend(moved_away(facts));
    if let Some(mode) = facts.store.mode.filter(|it| it & 0o077 != 0) {
        let says =
            format!("the directory has mode {mode:o}: others on this machine can get at stored answers");
        let remedy = format!("chmod 700 {}", place(facts));
        findings.push(found(Level::Warning, "store-mode", "store", says, remedy));
    }
    findings
}

fn place(facts: &Facts) -> String {
    let directory = facts.store.directory.as_ref();
    directory.map_or_else(|| facts.settings.store.to_string(), |it| it.display().to_string())
}

fn opened(facts: &Facts) -> Option<Finding> {
    let (check, place) = ("store-open", place(facts));
    let error = |says: String, remedy: &str| found(Level::Error, check, "store", says, remedy);
    let is_directory = facts.store.directory.is_some();
    Some(match &facts.store.state {
        State::Unknown => return None,
        State::Memory => error(
            "the store is in memory: a restart forgets every key, and retries run again".into(),
            "set it to embedded:PATH, on a disk that stays",
        ),
        State::New => {
            let remedy =
                "check that this is the path you mean: a store elsewhere has the keys, this one has none";
            found(
                Level::Notice,
                check,
                "store",
                format!("there is no store at {place} yet; the first start makes it"),
                remedy,
            )
        }
        State::Closed => ok(check, format!("the store at {place} can be read; no gateway uses it")),
        State::Serving => ok(check, format!("the store at {place} answers")),
        State::Down { reason } => error(
            format!("the store at {place} does not answer: {reason}"),
            if is_directory {
                "look at the free space and the permissions there; the gateway's log says more"
            } else {
                "look at that server and the network to it; the gateway's log says more"
            },
        ),
        State::InUse { holder } => error(
            format!("the store at {place} is in use by {holder}: a second gateway cannot have it"),
            "stop that process, or ask it: name its admin listener with --admin",
        ),
        State::NotLooked { reason, remedy } => {
            let says = format!("the store at {place} was looked at from outside only: {reason}");
            found(Level::Notice, check, "store", says, remedy.clone())
        }
        State::Refused { reason } => {
            let remedy = if is_directory { REPAIR } else { AT_SERVER };
            error(format!("the store at {place} cannot be opened: {reason}"), remedy)
        }
    })
}

fn moving(facts: &Facts) -> Option<Finding> {
    let from = facts.settings.store_from.as_ref()?;
    let says = format!("records are moved from {from}: each new key costs a write there, too");
    let remedy =
        "when all are moved (the log says so; `onceward store copy` makes sure), take store_from out";
    Some(found(Level::Notice, "store-moving", "store_from", says, remedy))
}

fn moved_away(facts: &Facts) -> Option<Finding> {
    let (level, says, remedy) = match &facts.store.place {
        Place::Here => return None,
        Place::Leaving => (
            Level::Warning,
            "the records of this store are being moved to another one; those that were, are unresolved here".to_owned(),
            "name both: `store` is the new one, `store_from` this one; what is unresolved is resolved in the new one"
                .to_owned(),
        ),
        Place::Left { to } => {
            let to = if to.is_empty() { "another store" } else { to };
            (
                Level::Error,
                format!("the records of this store were moved to {to}: no gateway starts on this one alone"),
                format!(
                    "set store to {to}, with its user and password; what is unresolved is resolved there. To come back \
                     on purpose, move the records here"
                ),
            )
        }
    };
    Some(found(level, "store-moved", "store", says, remedy))
}

fn durability(facts: &Facts) -> Option<Finding> {
    if facts.store.state == State::Memory {
        return None;
    }
    Some(match facts.store.durable? {
        true => ok("store-durability", "a write is told only once it is on the disk"),
        false => {
            let (says, remedy) = if facts.store.directory.is_some() {
                (
                    "a power cut can take the last second of writes: operations whose callers have their answer can \
                     run again",
                    "remove durability=relaxed from the URL",
                )
            } else {
                (
                    "the server tells of writes before they are on its disk: what it loses in a crash runs again, \
                     also where callers have their answer",
                    "have it sync each write: see docs/guide/store-postgres.md or docs/guide/store-redis.md",
                )
            };
            found(Level::Warning, "store-durability", "store", says, remedy)
        }
    })
}

fn hints(facts: &Facts) -> Option<Finding> {
    let check = "store-hints";
    Some(match facts.store.hints? {
        true => ok(check, "those who wait for an operation of another process are told when it ends"),
        false => {
            let says = "the server does not let this user subscribe, or does not answer: those who wait for an operation of \
                        another process find out by looking now and then";
            let remedy =
                "give the user the rights for hints in docs/guide/store-redis.md, or write hints=off";
            found(Level::Notice, check, "store", says, remedy)
        }
    })
}

fn held(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.store.left_abruptly && facts.store.state == State::Closed {
        let says = "the last gateway did not close it (it crashed, was killed or lost power); the next start puts \
                    it in order by itself";
        let remedy = "nothing; look at the log of that gateway if you do not know why";
        findings.push(found(Level::Notice, "store-closed", "store", says, remedy));
    }
    let Some(counts) = &facts.store.counts else { return findings };
    if counts.unreadable > 0 {
        let says = format!(
            "{} cannot be read: repeats of their operations are refused, all others go on",
            several(counts.unreadable, "record or part of the files", "records or parts of the files")
        );
        findings.push(found(Level::Error, "store-damage", "store", says, REPAIR));
    } else {
        findings.push(ok(
            "store-damage",
            format!(
                "{} and {}{} are readable",
                several(counts.answers, "answer", "answers"),
                several(counts.tombstones, "tombstone", "tombstones"),
                if counts.more { " and more" } else { "" }
            ),
        ));
    }
    // Where records were moved away, those are marks: to resolve one would free its key here.
    if counts.unresolved > 0 && facts.store.place == Place::Here {
        let oldest = counts.oldest_unresolved.as_ref().map_or(String::new(), |(record, age)| {
            format!(" (the oldest, {record}, for {})", shown(Duration::from_secs(age.as_secs())))
        });
        let says = format!(
            "{} an operator{oldest}: nobody knows whether the effect happened",
            several(counts.unresolved, "operation waits for", "operations wait for")
        );
        let remedy = "onceward keys list --state unresolved; ask the upstream, then onceward keys resolve";
        findings.push(found(Level::Notice, "store-unresolved", "policy.unresolved", says, remedy));
    }
    findings
}

fn several(count: u64, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
}

#[cfg(test)]
mod tests {
    use onceward_core::moving::Place;

    use super::check;
    use crate::doctor::tests::{expect, facts};
    use crate::doctor::{Counts, State};

    #[test]
    fn a_store_that_cannot_be_used_is_an_error() {
        let mut facts = facts("");
        for (state, expected) in [
            (State::Unknown, vec![]),
            (State::New, vec!["notice store-open store"]),
            (State::Closed, vec!["ok store-open"]),
            (State::Serving, vec!["ok store-open"]),
            (State::Memory, vec!["error store-open store"]),
            (
                State::NotLooked { reason: "of another user".into(), remedy: "ask as that user".into() },
                vec!["notice store-open store"],
            ),
            (State::Down { reason: "no space".into() }, vec!["error store-open store"]),
            (State::InUse { holder: "process 7".into() }, vec!["error store-open store"]),
            (State::Refused { reason: "damaged".into() }, vec!["error store-open store"]),
        ] {
            facts.store.state = state;
            expect(check, &facts, &expected);
        }
    }

    #[test]
    fn what_the_store_does_not_keep_is_said() {
        let mut facts = facts("");
        facts.store.state = State::Closed;
        facts.store.durable = Some(false);
        facts.store.mode = Some(0o750);
        facts.store.left_abruptly = true;
        let found = [
            "ok store-open",
            "warning store-durability store",
            "notice store-closed store",
            "warning store-mode store",
        ];
        expect(check, &facts, &found);
        facts.store.durable = Some(true);
        facts.store.mode = Some(0o700);
        facts.store.left_abruptly = false;
        facts.store.counts = Some(Counts { unreadable: 1, unresolved: 1, ..Counts::default() });
        let found = [
            "ok store-open",
            "ok store-durability",
            "error store-damage store",
            "notice store-unresolved policy.unresolved",
        ];
        expect(check, &facts, &found);
        facts.store.counts = Some(Counts::default());
        expect(check, &facts, &["ok store-open", "ok store-durability", "ok store-damage"]);
    }

    #[test]
    fn a_store_that_its_records_leave_is_not_one_to_resolve_them_in() {
        let mut facts = facts("");
        facts.store.state = State::Closed;
        facts.store.counts = Some(Counts { unresolved: 2, ..Counts::default() });
        for (place, expected) in [
            (Place::Here, "notice store-unresolved policy.unresolved"),
            (Place::Leaving, "warning store-moved store"),
            (Place::Left { to: "redis://there".into() }, "error store-moved store"),
        ] {
            facts.store.place = place;
            expect(check, &facts, &["ok store-open", "ok store-damage", expected]);
        }
        let said = check(&facts).pop().unwrap();
        assert!(said.says.contains("were moved to redis://there"), "{said:?}");
        assert!(said.remedy.unwrap().contains("set store to redis://there"));
    }

    #[test]
    fn a_server_that_hints_to_nobody_is_worth_knowing() {
        let mut facts = facts("");
        facts.store.state = State::Serving;
        facts.store.hints = Some(false);
        expect(check, &facts, &["ok store-open", "notice store-hints store"]);
        facts.store.hints = Some(true);
        expect(check, &facts, &["ok store-open", "ok store-hints"]);
    }
}
