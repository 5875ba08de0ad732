//! In which order the upstreams are wanted for a request, before their health and limits have a say.

use super::rendezvous::rendezvous;
use super::settings::Balance;

/// What the order depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) balance: Balance,
    /// The record of an operation; None: the request is none.
    pub(super) record: Option<&'a [u8; 32]>,
    /// A number that grows with each request.
    pub(super) turn: usize,
}

/// The order as indices into the upstreams, given each one's label and its requests in flight.
pub(super) fn order(wish: Wish<'_>, upstreams: &[(&str, usize)]) -> Vec<usize> {
    let count = upstreams.len().max(1);
    let mut turns: Vec<usize> = (0..upstreams.len()).map(|it| (it + wish.turn) % count).collect();
    match (wish.balance, wish.record) {
        (Balance::RoundRobin, _) | (Balance::KeyHash, None) => turns,
        (Balance::LeastBusy, _) => {
            // Equals stay in turn.
            turns.sort_by_key(|&it| upstreams[it].1);
            turns
        }
        (Balance::KeyHash, Some(record)) => rendezvous(upstreams.iter().map(|it| it.0), record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(balance: Balance, in_flight: [usize; 3], turn: usize, expected: [usize; 3]) {
        let upstreams: Vec<_> = ["a", "b", "c"].into_iter().zip(in_flight).collect();
        assert_eq!(order(Wish { balance, record: None, turn }, &upstreams), expected);
    }

    #[test]
    fn round_robin_takes_each_in_turn() {
        for (turn, expected) in [(0, [0, 1, 2]), (1, [1, 2, 0]), (2, [2, 0, 1]), (3, [0, 1, 2])] {
            check(Balance::RoundRobin, [9, 0, 0], turn, expected);
            check(Balance::KeyHash, [9, 0, 0], turn, expected);
        }
    }

    #[test]
    fn least_busy_takes_the_one_with_least_in_flight_and_equals_in_turn() {
        check(Balance::LeastBusy, [2, 1, 0], 0, [2, 1, 0]);
        check(Balance::LeastBusy, [0, 5, 0], 0, [0, 2, 1]);
        check(Balance::LeastBusy, [0, 5, 0], 1, [2, 0, 1]);
        check(Balance::LeastBusy, [0, 0, 0], 1, [1, 2, 0]);
    }

    #[test]
    fn key_hash_depends_on_the_record_alone() {
        let wish = |turn| Wish { balance: Balance::KeyHash, record: Some(&[7; 32]), turn };
        let first = order(wish(0), &[("a", 0), ("b", 9), ("c", 3)]);
        assert_eq!(order(wish(5), &[("a", 8), ("b", 0), ("c", 0)]), first);
    }
}
