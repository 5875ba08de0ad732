//! What the answers that stand name, against what arrived.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::Left;
use crate::consume::consumers::Fault;
use crate::consume::handler::{Call, End};
use crate::consume::judge::{AROUND, Violation};
use crate::consume::receiver::{Arrival, Told};
use crate::time::ms;

/// The ledger in numbers.
#[derive(Debug, Default)]
pub(in crate::consume) struct Counts {
    pub(in crate::consume) answers: usize,
    pub(in crate::consume) named: usize,
    /// Named by answers that do not stand.
    pub(in crate::consume) void: usize,
    pub(in crate::consume) arrivals: usize,
    pub(in crate::consume) ids: usize,
    pub(in crate::consume) again: usize,
    pub(in crate::consume) ended: usize,
    pub(in crate::consume) unexplained: usize,
    pub(in crate::consume) parked: u64,
    pub(in crate::consume) lost: usize,
    pub(in crate::consume) invented: usize,
    pub(in crate::consume) renamed: usize,
    pub(in crate::consume) disordered: usize,
    pub(in crate::consume) stuck: u64,
}

/// Why an effect came again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Who sent it was not told that it is here.
    NotConfirmed,
    /// Who sent it was killed or stopped before it could note that, or the store was away.
    Ended,
    Unknown,
}

/// Holds what the answers of `done` messages name against what arrived. An answer stands if it is its message's last.
pub(in crate::consume) fn judge(
    done: &HashSet<&str>,
    calls: &[Call],
    arrivals: &[Arrival],
    left: &Left,
    faults: &[Fault],
) -> (Counts, Vec<Violation>) {
    let last: HashMap<&str, &Call> = calls.iter().map(|it| (it.id.as_str(), it)).collect();
    let stands = |it: &Call| it.end == End::Done && it.answered.is_some() && done.contains(it.id.as_str());
    let standing: Vec<&Call> =
        last.values().copied().filter(|it| stands(it) && !it.named.is_empty()).collect();
    let mut counts = Counts {
        answers: standing.len(),
        named: standing.iter().map(|it| it.named.len()).sum(),
        arrivals: arrivals.len(),
        ids: arrivals.iter().map(|it| &it.id).collect::<HashSet<_>>().len(),
        stuck: left.on_its_way(),
        ..Counts::default()
    };
    counts.parked = left.unsent - left.unsent.min(counts.stuck);
    counts.void = calls.iter().map(|it| it.named.len()).sum::<usize>() - counts.named;
    let mut violations = Vec::new();
    if counts.stuck > 0 {
        violations.push(("stuck", format!("{} effects are neither out nor parked: {left:?}", counts.stuck)));
    }
    let mut by_label: HashMap<&str, Vec<&Arrival>> = HashMap::new();
    for arrival in arrivals {
        by_label.entry(&arrival.label).or_default().push(arrival);
    }
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for call in standing {
        // When the one before it was confirmed, for the first time.
        let mut before = Some(Duration::ZERO);
        for label in &call.named {
            let name = label.to_string();
            let (name, got) = by_label.remove_entry(name.as_str()).unwrap_or_default();
            let story = || format!("{label}: {call:#?}, {}", shown(&got, faults));
            let is_parked = left.parked.contains(label);
            let waits = left.parked.iter().any(|it| label.is_behind(it));
            if is_parked && got.last().is_none_or(|it| it.told != Told::Refused) {
                counts.stuck += 1;
                violations.push(("parked", story()));
            }
            let confirmed = got.iter().filter(|it| it.is_confirmed()).filter_map(|it| it.answered).min();
            if confirmed.is_none() && !is_parked && !waits {
                counts.lost += 1;
                violations.push(("lost", story()));
            }
            if got.first().is_some_and(|it| before.is_none_or(|before| it.arrived < before)) {
                counts.disordered += 1;
                violations.push(("order", story()));
            }
            before = confirmed;
            if got.iter().any(|it| it.id.is_empty() || *owners.entry(&it.id).or_insert(name) != name)
                || got.iter().any(|it| it.id != got[0].id)
            {
                counts.renamed += 1;
                violations.push(("id", story()));
            }
            for (first, second) in got.iter().zip(got.iter().skip(1)) {
                match why(first, second, faults) {
                    Why::NotConfirmed => counts.again += 1,
                    Why::Ended => counts.ended += 1,
                    Why::Unknown => {
                        counts.unexplained += 1;
                        violations.push(("repeats", story()));
                    }
                }
            }
        }
    }
    for (label, got) in by_label {
        counts.invented += 1;
        violations
            .push(("invented", format!("{label}: no answer that stands names it; {}", shown(&got, faults))));
    }
    (counts, violations)
}

fn why(first: &Arrival, second: &Arrival, faults: &[Fault]) -> Why {
    if !first.is_confirmed() {
        return Why::NotConfirmed;
    }
    let of_first = |it: &Fault| it.process.is_none_or(|it| it == first.process);
    let between = |it: &Fault| it.from <= second.arrived && it.to + AROUND >= first.arrived;
    // One that was stopped with it in hand lets go what it had begun to send.
    let let_go = |it: &Fault| {
        it.process == Some(second.process) && it.from <= second.arrived && it.to + AROUND >= second.arrived
    };
    let is_known = faults.iter().any(|it| (of_first(it) && between(it)) || let_go(it));
    if is_known { Why::Ended } else { Why::Unknown }
}

fn shown(arrivals: &[&Arrival], faults: &[Fault]) -> String {
    let of_senders = faults.iter().filter(|fault| {
        arrivals.iter().any(|it| {
            fault.process.is_none_or(|process| process == it.process)
                && fault.to + ms(5_000) > it.arrived
                && fault.from < it.answered.unwrap_or(it.arrived) + ms(5_000)
        })
    });
    format!("arrivals {arrivals:#?}, faults of their senders {:#?}", of_senders.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::LEASE;
    use crate::consume::carried::Label;

    fn call(id: &str, end: End, effects: u64) -> Call {
        Call {
            id: id.into(),
            process: 0,
            attempt: 1,
            fence: 1,
            arrived: ms(0),
            end,
            named: Label::all(id, effects),
            effect: None,
            answered: Some(ms(1)),
        }
    }

    /// One that is confirmed 10 ms after it arrived.
    fn arrival(label: &str, id: &str, process: u64, at: u64) -> Arrival {
        Arrival {
            label: label.into(),
            id: id.into(),
            process,
            arrived: ms(at),
            told: Told::Taken,
            answered: Some(ms(at + 10)),
        }
    }

    #[test]
    fn each_effect_of_an_answer_that_stands_arrives_under_one_id_and_again_only_for_a_reason() {
        let seen = |calls: &[Call], arrivals: &[Arrival], left: &Left, faults: &[Fault]| {
            let (_, violations) = judge(&HashSet::from(["a"]), calls, arrivals, left, faults);
            violations.into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        let calls = [call("a", End::Released, 1), call("a", End::Done, 2), call("b", End::Done, 1)];
        let (first, second) = (arrival("a.0.2", "x", 1, 10), arrival("a.1.2", "y", 1, 30));
        let none = Left::default();
        let check = |arrivals: &[&Arrival], left: &Left, faults: &[Fault], wanted: &[&str]| {
            let arrivals: Vec<_> = arrivals.iter().map(|it| (*it).clone()).collect();
            assert_eq!(seen(&calls, &arrivals, left, faults), wanted, "{arrivals:#?} {left:?} {faults:?}");
        };
        check(&[&first, &second], &none, &[], &[]);
        check(&[&first], &none, &[], &["lost"]);
        check(&[&second, &first], &none, &[], &[]);
        check(&[&first, &arrival("a.1.2", "y", 1, 15)], &none, &[], &["order"]);
        check(&[&first, &arrival("a.1.2", "x", 1, 30)], &none, &[], &["id"]);
        check(&[&first, &second, &arrival("b.0.1", "z", 1, 50)], &none, &[], &["invented"]);
        check(&[&first, &second, &arrival("a.0.1", "z", 1, 50)], &none, &[], &["invented"]);
        check(&[&first, &second], &Left { unsent: 1, ..Left::default() }, &[], &["stuck"]);

        let silent = Arrival { told: Told::Silence, answered: None, ..first.clone() };
        let slow = Arrival { answered: Some(ms(10) + LEASE / 3), ..first.clone() };
        let again = arrival("a.0.2", "x", 2, 5_000);
        let after = arrival("a.1.2", "y", 1, 6_000);
        check(&[&silent, &after], &none, &[], &["lost", "order"]);
        check(&[&silent, &again, &after], &none, &[], &[]);
        check(&[&slow, &again, &after], &none, &[], &["repeats"]);
        check(&[&first, &again, &after], &none, &[], &["repeats"]);
        check(&[&first, &arrival("a.0.2", "other", 2, 5_000), &after], &none, &[], &["id", "repeats"]);
        let kill = |process, at| Fault { process, from: ms(at), to: ms(at) };
        for (fault, wanted) in [
            (kill(Some(1), 12), &[][..]),
            (kill(None, 2_000), &[]),
            (kill(Some(2), 4_900), &[]),
            (kill(Some(2), 2_000), &["repeats"]),
            (kill(Some(3), 2_000), &["repeats"]),
            (kill(Some(1), 6_000), &["repeats"]),
        ] {
            check(&[&first, &again, &after], &none, &[fault], wanted);
        }

        let refused = Arrival { told: Told::Refused, ..first.clone() };
        let parked = Left { unsent: 2, parked: Label::all("a", 2)[..1].to_vec() };
        check(&[&refused], &parked, &[], &[]);
        check(&[&first], &parked, &[], &["parked"]);
        check(&[&refused], &none, &[], &["lost", "lost"]);
    }
}
