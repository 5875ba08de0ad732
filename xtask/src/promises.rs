//! What each source of messages promises, and which promise its tests showed to hold.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::run::{cargo_output, has_subcommand};
use crate::test::WITHOUT_SERVERS;
use crate::{debian, pypi};

/// The source that can show every promise: its tests are the list.
const ALL: &str = "memory::that_waits::";
/// The test of a source that shows all promises one after the other, and says which it has kept.
const IN_TURN: &str = "::every_promise_is_kept";
/// The test that says which promises a source has no tests for.
const NAMED: &str = "::what_is_not_shown_is_named";

/// What a source shows of a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    Kept,
    Failed,
    /// It has nothing to show, because of this.
    Not(String),
}

type Table = BTreeMap<String, BTreeMap<String, Shown>>;

pub(crate) fn run(rest: &[String]) -> Result<(), String> {
    if !has_subcommand("nextest") {
        return Err("the table is made of what cargo-nextest says: cargo install cargo-nextest".to_owned());
    }
    let all_brokers = rest.iter().any(|it| it == "--brokers");
    debian::need_servers()?;
    if all_brokers {
        debian::need_brokers()?;
        pypi::need_servers()?;
    }
    let names = names()?;
    // A test of another kind has the name of a promise.
    let tests = format!(
        "package(onceward-queue) & binary(it) & not test(/^in_transaction::/) \
         & (test(/::({})$/) | test(/{IN_TURN}$/) | test(/{NAMED}$/))",
        names.iter().cloned().collect::<Vec<_>>().join("|")
    );
    let some = if all_brokers { "all()" } else { WITHOUT_SERVERS };
    let mut table = Table::new();
    let lanes = [vec![], vec!["--profile", "brokers", "--test-threads", "8"]];
    for (lane, some) in lanes.into_iter().zip(["all()", some]) {
        let filter = format!("({tests}) & ({some})");
        let mut words = vec!["nextest", "run", "--workspace", "--all-features", "--locked"];
        words.extend(["--no-fail-fast", "--success-output", "immediate", "--failure-output", "immediate"]);
        words.extend(["--color", "never", "--filterset", &filter]);
        words.extend(lane);
        println!("\n$ cargo {}", words.join(" "));
        let (_, said) = cargo_output(&words)?;
        if !said.contains(" tests run:") {
            return Err(format!("the tests did not run:\n{said}"));
        }
        read(&said, &names, &mut table);
    }
    println!("\n{}", page(&table, &names));
    let failed = table.values().flat_map(BTreeMap::values).filter(|it| **it == Shown::Failed).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} promises were not kept")) }
}

/// The promises, by name.
fn names() -> Result<BTreeSet<String>, String> {
    // Of the whole workspace, as `cargo xtask test` has built it.
    let list = ["nextest", "list", "--workspace", "--all-features", "--locked"];
    let filter = format!("package(onceward-queue) & test(/^{ALL}/)");
    let words = [&list[..], &["--message-format", "json", "--filterset", &filter]].concat();
    let (_, said) = cargo_output(&words)?;
    let json = said.find('{').and_then(|it| said.get(it..)).unwrap_or_default();
    // Behind it stands what was said besides.
    let list = serde_json::Deserializer::from_str(json).into_iter::<Value>().next();
    let list = list.and_then(Result::ok).ok_or_else(|| format!("there is no list of tests:\n{said}"))?;
    let suites = list["rust-suites"].as_object().into_iter().flat_map(|it| it.values());
    let tests = suites.filter_map(|it| it["testcases"].as_object()).flat_map(|it| it.keys());
    let names: BTreeSet<_> = tests.filter_map(|it| it.strip_prefix(ALL)).map(str::to_owned).collect();
    if names.is_empty() { Err("there is no promise".to_owned()) } else { Ok(names) }
}

/// Takes down what the tests said: `PASS […] … SOURCE::PROMISE`, and after that what it printed.
fn read(said: &str, names: &BTreeSet<String>, table: &mut Table) {
    // Whose lines these are.
    let mut source = String::new();
    for line in said.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let status = words.first().copied().unwrap_or_default();
        let passed = status == "PASS";
        if passed || ["FAIL", "TIMEOUT", "SIGABRT", "SIGSEGV"].contains(&status) {
            let Some((of, name)) = words.last().and_then(|it| it.rsplit_once("::")) else { continue };
            of.clone_into(&mut source);
            let row = table.entry(source.clone()).or_default();
            if names.contains(name) {
                let shown = if passed { Shown::Kept } else { Shown::Failed };
                // What failed is said twice.
                row.entry(name.to_owned()).or_insert(shown);
            } else if IN_TURN.ends_with(name) && !passed {
                // Those that were kept are named among what it printed.
                for name in names {
                    row.entry(name.clone()).or_insert(Shown::Failed);
                }
            }
        } else if let Some(name) = line.trim().strip_prefix("kept: ") {
            let row = table.entry(source.clone()).or_default();
            let shown = row.entry(name.to_owned()).or_insert(Shown::Kept);
            if *shown == Shown::Failed {
                *shown = Shown::Kept;
            }
        } else if let Some((name, reason)) =
            line.trim().strip_prefix("not shown: ").and_then(|it| it.split_once(": "))
        {
            let row = table.entry(source.clone()).or_default();
            row.insert(name.to_owned(), Shown::Not(reason.to_owned()));
        }
    }
}

/// A table with a line for each promise and a column for each source, and why places are empty.
fn page(table: &Table, names: &BTreeSet<String>) -> String {
    let mut page = String::new();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    for (number, source) in table.keys().enumerate() {
        page += &format!("{:>4} {source}\n", number + 1);
    }
    page += &format!("\n{:width$}", "");
    for number in 1..=table.len() {
        page += &format!(" {number:>4}");
    }
    let mut reasons = BTreeMap::<&str, BTreeSet<(usize, &str)>>::new();
    for name in names {
        page += &format!("\n{name:width$}");
        for (number, row) in table.values().enumerate() {
            let shown = match row.get(name) {
                Some(Shown::Kept) => "pass",
                Some(Shown::Failed) => "FAIL",
                Some(Shown::Not(reason)) => {
                    reasons.entry(reason).or_default().insert((number + 1, name));
                    "—"
                }
                None => "?",
            };
            page += &format!(" {shown:>4}");
        }
    }
    page += "\n";
    for (reason, places) in reasons {
        let numbers: BTreeSet<_> = places.iter().map(|it| it.0.to_string()).collect();
        let promises: BTreeSet<_> = places.iter().map(|it| it.1).collect();
        let numbers = numbers.into_iter().collect::<Vec<_>>().join(", ");
        page += &format!("\n— in {numbers}: {reason}\n");
        for promise in promises {
            page += &format!("    {promise}\n");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_say_becomes_a_table() {
        let names: BTreeSet<String> = ["is_kept", "is_ordered", "survives"].map(str::to_owned).into();
        let said = "\
        PASS [   0.249s] ( 1/17) onceward-queue::it memory::plain::is_kept
  stdout ───
    running 1 test
        FAIL [   0.249s] ( 2/17) onceward-queue::it memory::plain::survives
        PASS [   0.249s] ( 3/17) onceward-queue::it memory::plain::is_ordered
    not shown: is_ordered: it has: no order
        FAIL [   9.249s] (17/17) onceward-queue::it slow::every_promise_is_kept
    kept: is_kept
    not shown: is_ordered: it has: no order
    kept: is_ordered
        FAIL [   0.249s] ( 2/17) onceward-queue::it memory::plain::survives
";
        let mut table = Table::new();
        read(said, &names, &mut table);
        let not = Shown::Not("it has: no order".to_owned());
        for source in ["memory::plain", "slow"] {
            let row = &table[source];
            assert_eq!((&row["is_kept"], &row["is_ordered"]), (&Shown::Kept, &not), "{source}");
            assert_eq!(row["survives"], Shown::Failed, "{source}");
        }
        let page = page(&table, &names);
        assert!(page.contains("   1 memory::plain\n   2 slow\n"), "{page}");
        assert!(page.contains("\nis_ordered    —    —\nsurvives   FAIL FAIL\n"), "{page}");
        assert!(page.contains("\n— in 1, 2: it has: no order\n    is_ordered\n"), "{page}");
    }
}
