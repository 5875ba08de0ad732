//! The file system below the store: what kind it is, and whether what is to be kept has room.

use onceward_admin::{Finding, Level};

use super::Facts;
use super::finding::{found, ok};
use crate::settings::{Settings, show_bytes, show_duration as shown};

/// What a kept answer takes on the disk besides the answer's own bytes.
pub const ANSWER_BYTES: u64 = 512;
/// What a tombstone takes on the disk.
pub const TOMBSTONE_BYTES: u64 = 512;
/// The files hold about twice of what lives in them, until they are compacted.
const UPKEEP: u64 = 2;
/// Less free space than this is little for any store.
const FREE_LITTLE: u64 = 256 << 20;
/// What an answer is taken to be long where none is known.
const ANSWER_GUESS: u64 = 1 << 10;

/// See the module.
pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(disk) = &facts.disk else { return Vec::new() };
    let mut findings = vec![kind(&disk.kind)];
    if disk.is_read_only {
        let says = "the file system is mounted read-only: no operation can be claimed";
        findings.push(found(
            Level::Error,
            "disk-read-only",
            "store",
            says,
            "mount it for writing, or name another place",
        ));
    }
    let free = disk.free_bytes;
    if free < FREE_LITTLE {
        let says = format!("{} are free; when nothing is, operations are refused (503)", about(free));
        findings.push(found(Level::Warning, "disk-free", "store", says, "make room, or name another place"));
    }
    findings.extend(projected(facts, free));
    findings
}

fn kind(kind: &str) -> Finding {
    let check = "disk-kind";
    let says = |what: &str| format!("the store is on {kind}: {what}");
    match kind {
        "tmpfs" | "ramfs" => {
            let remedy = "name a directory on a disk (Kubernetes: a persistent volume)";
            found(Level::Error, check, "store", says("a restart of the machine forgets every key"), remedy)
        }
        "overlay" => {
            let remedy = "mount a volume there";
            found(
                Level::Warning,
                check,
                "store",
                says("a container's own layer, gone with the container"),
                remedy,
            )
        }
        "nfs" | "smb" | "cifs" | "9p" | "fuse" | "ceph" | "afs" => {
            let what =
                "locks and syncs over a network are not tested, and a write may be told that is not kept";
            found(Level::Warning, check, "store", says(what), "name a directory on a local disk")
        }
        _ => ok(check, format!("the store is on {kind}")),
    }
}

/// What will be kept at this rate once the longest retention is full, against what is free and used by it now.
fn projected(facts: &Facts, free: u64) -> Option<Finding> {
    let check = "disk-projection";
    let counts = facts.store.counts.clone().unwrap_or_default();
    let answer = facts.answer_bytes.unwrap_or(ANSWER_GUESS);
    let (retention, tombstone) = longest(&facts.settings);
    let each = format!("each {ANSWER_BYTES} bytes and an answer of {}", about(answer));
    let Some(rate) = &facts.rate else {
        return Some(found(
            Level::Notice,
            check,
            "policy.retention",
            format!(
                "how much will be kept is not known without a rate; {each}, a tombstone {TOMBSTONE_BYTES} bytes"
            ),
            "name one: --rate 50/s",
        ));
    };
    let over = |time: std::time::Duration, bytes: u64| rate.per_second * time.as_secs_f64() * bytes as f64;
    let needed = (over(retention, ANSWER_BYTES + answer) + over(tombstone, TOMBSTONE_BYTES)) * UPKEEP as f64;
    let kept = counts.answers * (ANSWER_BYTES + answer) + counts.tombstones * TOMBSTONE_BYTES;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float saturates"
    )]
    let needed = needed as u64;
    let more = needed.saturating_sub(kept);
    let says = format!(
        "{} ({}) come to about {} with answers kept for {} and tombstones for {} ({each}, \
         twice for upkeep); {} are free",
        number(rate.per_second),
        rate.from,
        about(needed),
        shown(retention),
        shown(tombstone),
        about(free)
    );
    Some(if more > free {
        let remedy = "make room, or shorten retention or tombstone where callers retry for less";
        found(Level::Error, check, "policy.retention", says, remedy)
    } else if more > free / 2 {
        let remedy = "watch the free space; a doubled rate does not fit";
        found(Level::Warning, check, "policy.retention", says, remedy)
    } else {
        ok(check, says)
    })
}

/// The longest times of all policies: nobody knows which operations take which route.
fn longest(settings: &Settings) -> (std::time::Duration, std::time::Duration) {
    let all = || settings.routes.iter().map(|it| &it.policy).chain([&settings.policy]);
    let longest =
        |of: fn(&crate::settings::Policy) -> std::time::Duration| all().map(of).max().unwrap_or_default();
    (longest(|it| it.retention), longest(|it| it.tombstone))
}

/// A rate for people.
fn number(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{per_second:.0} operations a second")
    } else {
        format!("{:.0} operations a day", per_second * 86_400.0)
    }
}

/// A size for people: two digits are enough.
fn about(bytes: u64) -> String {
    let shift = [30, 20, 10].into_iter().find(|it| bytes >> it >= 10).unwrap_or(0);
    show_bytes(bytes >> shift << shift)
}

#[cfg(test)]
mod tests {
    use super::{about, check};
    use crate::doctor::tests::{expect, facts};
    use crate::doctor::{Counts, Disk, Rate};

    #[test]
    fn a_place_that_does_not_last_is_said() {
        let mut facts = facts("");
        facts.rate = Some(Rate { per_second: 0.0, from: "here".into() });
        for (kind, expected) in [
            ("ext4", "ok disk-kind"),
            ("1234", "ok disk-kind"),
            ("tmpfs", "error disk-kind store"),
            ("overlay", "warning disk-kind store"),
            ("nfs", "warning disk-kind store"),
        ] {
            facts.disk = Some(Disk { kind: kind.into(), is_read_only: false, free_bytes: 1 << 40 });
            expect(check, &facts, &[expected, "ok disk-projection"]);
        }
        facts.disk = Some(Disk { kind: "xfs".into(), is_read_only: true, free_bytes: 1 << 20 });
        let expected =
            ["ok disk-kind", "error disk-read-only store", "warning disk-free store", "ok disk-projection"];
        expect(check, &facts, &expected);
    }

    #[test]
    fn what_is_to_be_kept_is_held_against_the_free_space() {
        // 10 s of answers of 488 + 512 bytes and no tombstones, at 1000 a second, twice: 20 MB.
        let mut facts = facts("[policy]\nretention = \"10s\"\ntombstone = \"0\"");
        let full = 20_000_000;
        facts.answer_bytes = Some(488);
        facts.store.counts = Some(Counts { answers: 1000, ..Counts::default() });
        let kept = 1000;
        for (free, expected) in [
            (full - kept - 1, "error disk-projection policy.retention"),
            (full - kept, "warning disk-projection policy.retention"),
            (2 * (full - kept) - 1, "warning disk-projection policy.retention"),
            (2 * (full - kept), "ok disk-projection"),
        ] {
            // The space that is short for any store is left out of this.
            let disk = Disk { kind: "xfs".into(), is_read_only: false, free_bytes: free * 1000 };
            facts.disk = Some(disk);
            facts.rate = Some(Rate { per_second: 1_000_000.0, from: "here".into() });
            let found: Vec<_> =
                check(&facts).into_iter().filter(|it| it.check == "disk-projection").collect();
            let rule = |_: &crate::doctor::Facts| found.clone();
            expect(rule, &facts, &[expected]);
        }
        facts.rate = None;
        expect(check, &facts, &["ok disk-kind", "notice disk-projection policy.retention"]);
    }

    #[test]
    fn the_longest_time_of_any_route_counts() {
        let mut facts = facts(
            "[policy]\nretention = \"1s\"\ntombstone = \"0\"\n[[route]]\npath = \"/a\"\nretention = \"1000d\"",
        );
        facts.disk = Some(Disk { kind: "xfs".into(), is_read_only: false, free_bytes: 1 << 30 });
        facts.rate = Some(Rate { per_second: 1.0, from: "here".into() });
        expect(check, &facts, &["ok disk-kind", "error disk-projection policy.retention"]);
    }

    #[test]
    fn sizes_are_told_with_two_digits_or_more() {
        for (bytes, expected) in
            [(0, "0B"), (1023, "1023B"), (10 << 10, "10KiB"), ((10 << 20) + 1, "10MiB"), (5 << 30, "5GiB")]
        {
            assert_eq!(about(bytes), expected);
        }
    }
}
