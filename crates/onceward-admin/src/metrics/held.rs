//! Series that were counted in before, at hand.
//!
//! A family finds a series by a keyed hash of all its labels, which took some 450 instructions, several times a request.
//! Here the few words of a label are compared by where they stand in the code; what is new is asked of its family.

use std::sync::{PoisonError, RwLock};

/// A word of the code. The same text from two places of the code is two words: both lead to the same series.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word(pub(super) &'static str);

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

/// Some series of a family, by the words that name them. There are as many as the code has combinations.
#[derive(Debug)]
pub(super) struct Held<K, M>(RwLock<Vec<(K, M)>>);

impl<K, M> Default for Held<K, M> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: PartialEq, M: Clone> Held<K, M> {
    /// The series of `key`; the first time, `find` asks its family for it.
    pub(super) fn get(&self, key: K, find: impl FnOnce() -> M) -> M {
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, series)) = held.iter().find(|it| it.0 == key) {
            return series.clone();
        }
        drop(held);
        let series = find();
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been here meanwhile, with the same series.
        if !held.iter().any(|it| it.0 == key) {
            held.push((key, series.clone()));
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_series_and_is_looked_up_once() {
        let held = Held::default();
        assert_eq!(held.get(Word("a"), || 1), 1);
        assert_eq!(held.get(Word("b"), || 2), 2);
        for word in ["a", "b"] {
            let expected = if word == "a" { 1 } else { 2 };
            assert_eq!(held.get(Word(word), || expected), expected);
        }
        let word = "c";
        held.get(Word(word), || 3);
        assert_eq!(held.get(Word(word), || unreachable!("it is held")), 3);
    }
}
