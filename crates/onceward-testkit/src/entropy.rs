//! Randomness that repeats itself.

use std::sync::{Mutex, PoisonError};

use onceward_core::Entropy;

/// The same bytes for the same seed (SplitMix64). Two engines in one test need two seeds, or they make the
/// same owner tokens.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    /// A source that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = *state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            chunk.copy_from_slice(&mixed.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_bytes_again_and_another_seed_gives_others() {
        let of = |seed| {
            let mut bytes = [0; 20];
            SeededEntropy::new(seed).fill(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
