//! Rendezvous hashing: which upstream a key belongs to.
//!
//! Every upstream draws a weight for every key, and the key belongs to the heaviest. When an upstream leaves,
//! its keys go to their second heaviest and no other key moves; when it comes back, they return.

/// The weight of the upstream called `label` for the record `record`: the same in every process and version.
pub(super) fn weight(label: &str, record: &[u8; 32]) -> u64 {
    let mut hash = blake3::Hasher::new_derive_key("onceward 2026 upstream of a record");
    // The record has a fixed length, so no two pairs are the same bytes.
    hash.update(record).update(label.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// The upstreams in the order in which `record` belongs to them, as indices into `labels`.
#[must_use]
pub fn rendezvous<'a>(labels: impl IntoIterator<Item = &'a str>, record: &[u8; 32]) -> Vec<usize> {
    let weights = labels.into_iter().map(|it| weight(it, record));
    let mut order: Vec<_> = weights.enumerate().collect();
    order.sort_by_key(|&(index, weight)| (std::cmp::Reverse(weight), index));
    order.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: [&str; 3] = ["http://a:80", "http://b:80", "http://c:80"];

    fn record(number: u32) -> [u8; 32] {
        *blake3::hash(&number.to_be_bytes()).as_bytes()
    }

    #[test]
    fn weights_never_change_between_versions() {
        let found: Vec<_> = THREE.map(|it| [0, 1].map(|number| weight(it, &record(number)))).concat();
        assert_eq!(
            found,
            [
                0x9B93_552D_B50D_9E8B,
                0x4556_0E51_793B_C9BE,
                0x3DD9_1ACA_E6B2_1E10,
                0xAB13_71E7_C9D8_17E3,
                0xC904_6530_30D5_9053,
                0xB4BF_0D7D_8296_D73A
            ]
        );
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        for number in 0..100 {
            let order = rendezvous(THREE, &record(number));
            let turned = [THREE[2], THREE[0], THREE[1]];
            let other = rendezvous(turned, &record(number));
            assert_eq!(
                order.into_iter().map(|it| THREE[it]).collect::<Vec<_>>(),
                other.into_iter().map(|it| turned[it]).collect::<Vec<_>>(),
            );
        }
    }

    #[test]
    fn keys_are_shared_within_5_percent_and_only_those_of_one_that_leaves_move() {
        const KEYS: u32 = 100_000;
        let mut counts = [0_u32; 3];
        let mut moved = [0_u32; 3];
        for number in 0..KEYS {
            let before = rendezvous(THREE, &record(number))[0];
            let after = rendezvous([THREE[0], THREE[1]], &record(number))[0];
            counts[before] += 1;
            moved[before] += u32::from(before != after);
        }
        let share = KEYS / 3;
        assert!(counts.iter().all(|it| it.abs_diff(share) < share / 20), "{counts:?}");
        assert_eq!(moved, [0, 0, counts[2]]);
    }
}
