//! Something that is said once and that one task waits for.
//!
//! Each request makes one or waits on one, so it is an allocation and an atomic pointer: a `CancellationToken`, which
//! many can wait for, takes two allocations and a lock at each look.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// A word that is said once. Clones are the same.
#[derive(Debug)]
pub(crate) struct Notice<T>(Arc<Inner<T>>);

#[derive(Debug)]
struct Inner<T> {
    said: OnceLock<T>,
    waiting: AtomicWaker,
}

impl<T> Clone for Notice<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Notice<T> {
    fn default() -> Self {
        Self(Arc::new(Inner { said: OnceLock::new(), waiting: AtomicWaker::new() }))
    }
}

impl<T: Copy> Notice<T> {
    /// Says it; the first word stands.
    pub(crate) fn say(&self, word: T) {
        let _ = self.0.said.set(word);
        self.0.waiting.wake();
    }

    pub(crate) fn said(&self) -> Option<T> {
        self.0.said.get().copied()
    }

    /// Waits until it is said; for ever if it never is. One task at a time may wait: the last one is woken.
    ///
    /// # Cancel safety
    /// Dropping this loses nothing.
    pub(crate) async fn wait(&self) -> T {
        poll_fn(|cx| {
            if let Some(word) = self.said() {
                return Poll::Ready(word);
            }
            self.0.waiting.register(cx.waker());
            // It may have been said just before.
            self.said().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Says `word` when it is dropped.
    pub(crate) fn say_on_drop(&self, word: T) -> SayOnDrop<T> {
        SayOnDrop(self.clone(), word)
    }
}

/// Says its word when it is dropped.
#[derive(Debug)]
pub(crate) struct SayOnDrop<T: Copy>(Notice<T>, T);

impl<T: Copy> Drop for SayOnDrop<T> {
    fn drop(&mut self) {
        self.0.say(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_hears_the_first_word() {
        let notice = Notice::default();
        let say = async {
            assert_eq!(notice.said(), None);
            drop(notice.say_on_drop(1));
            notice.say(2);
        };
        let (heard, ()) = tokio::join!(biased; notice.wait(), say);
        assert_eq!((heard, notice.wait().await), (1, 1));
    }
}
