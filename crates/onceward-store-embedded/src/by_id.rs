//! Tables by record id.
//!
//! An id is a hash already, but a public one of what a caller sends. Somebody could try keys until he has many whose ids
//! agree in the bits that a table looks at, and then make every call walk through them. So what an id gives to a hasher
//! (its first 8 bytes) is hashed once more, with a seed that is drawn for each table and never leaves it. XXH3 does that
//! in a tenth of the standard hasher's time.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use onceward_core::RecordId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) type ById<T> = HashMap<RecordId, T, Seed>;

#[derive(Debug, Clone)]
pub(crate) struct Seed(u64);

pub(crate) struct IdHasher(u64);

impl Default for Seed {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for Seed {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0)
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_table_hashes_otherwise_and_each_of_eight_bytes_counts() {
        let (one, other) = (Seed::default(), Seed::default());
        let zero = RecordId::from_bytes([0; 32]);
        assert_ne!(one.hash_one(zero), other.hash_one(zero));
        assert_eq!(one.hash_one(zero), one.clone().hash_one(zero));
        for at in 0..8 {
            let mut bytes = [0; 32];
            bytes[at] = 1;
            assert_ne!(one.hash_one(zero), one.hash_one(RecordId::from_bytes(bytes)), "byte {at}");
        }
    }

    /// What somebody could craft who knows the ids of his keys: all agree in the bits that a table looks at first.
    #[test]
    fn ids_that_agree_in_most_bytes_are_spread() {
        let seed = Seed::default();
        let low = (0..=u8::MAX).map(|it| {
            let mut bytes = [7; 32];
            bytes[7] = it;
            seed.hash_one(RecordId::from_bytes(bytes)) & 0xff
        });
        let places: std::collections::BTreeSet<_> = low.collect();
        assert!(places.len() > 100, "256 ids lie in {} of 256 places", places.len());
    }
}
