//! Effects that an answer carries: they are stored in one swap with it, in whatever store has it, and go out from there.

mod broken;
mod cargo;
mod deliver;
mod look;
mod relay;
mod unread;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use self::cargo::{Cargo, Item};
use super::{Effect, EffectId};

pub use self::look::AnswerOutbox;
pub use self::relay::AnswerRelay;

/// How many effects an answer may carry.
pub const CARRIED_MAX: usize = 1000;

/// How many bytes of kinds, destinations, keys, headers and bodies an answer may carry, all effects together: 1 MiB. They are read and
/// written with its record.
pub const CARRIED_BYTES_MAX: usize = 1 << 20;

/// What is to happen elsewhere once an answer is stored. Clones are of one and the same list.
///
/// In a handler it is [`Handling::effects`](crate::Handling::effects). Whoever has a permit in the hand stores them with
/// [`Permit::complete_with`](onceward_core::Permit::complete_with):
///
/// ```
/// # async fn example(permit: onceward_core::Permit, mail: onceward_queue::outbox::Effect) -> Result<(), Box<dyn std::error::Error>> {
/// use onceward_core::Answer;
/// use onceward_queue::outbox::Effects;
///
/// let effects = Effects::default();
/// effects.add(mail)?;
/// let answer = Answer::new("text", "paid");
/// match effects.carried() {
///     Some(carried) => permit.complete_with(answer, carried).await?,
///     None => permit.complete(answer).await?,
/// };
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Effects(Option<Arc<Mutex<List>>>);

#[derive(Default)]
struct List {
    items: Vec<Item>,
    /// Whether they were taken: what is added after that would never go out.
    is_sealed: bool,
}

/// Why an effect was not added. Those that were added before are still there.
#[derive(Debug, thiserror::Error)]
pub enum NotAdded {
    /// The effect breaks a rule.
    #[error("the effect cannot be added: {0}")]
    Invalid(&'static str),
    /// The answer carries so much already that this one has no room.
    #[error(
        "the effect cannot be added: an answer carries at most {CARRIED_MAX} effects, and {CARRIED_BYTES_MAX} bytes of them"
    )]
    TooMuch,
    /// The handler has ended, and what goes out because of it was taken: this one came too late and will not go out.
    #[error("the effect cannot be added: its handler has ended")]
    Sealed,
    /// Effects of a transaction belong into the outbox of its database.
    #[error("the effect cannot be added here: add it to an `Outbox`, in the transaction of the handler")]
    InTransaction,
    /// The system has no random bytes for an id.
    #[error("an id cannot be made")]
    NoId(#[source] std::io::Error),
}

impl Default for Effects {
    fn default() -> Self {
        Self(Some(Arc::default()))
    }
}

impl Effects {
    /// Those of a handler that has a transaction.
    #[cfg(feature = "postgres")]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Adds one. It goes out once the answer is stored, under the id that is given back, and not if it never is. Effects of one
    /// answer go out one after the other, in the order in which they were added; those of two answers in any order.
    ///
    /// # Errors
    /// [`NotAdded`]. Once they are [taken](Self::carried), as they are when a handler ends, always.
    pub fn add(&self, effect: Effect) -> Result<EffectId, NotAdded> {
        let Some(list) = &self.0 else { return Err(NotAdded::InTransaction) };
        effect.check().map_err(NotAdded::Invalid)?;
        let id = EffectId::random().map_err(NotAdded::NoId)?;
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.is_sealed {
            return Err(NotAdded::Sealed);
        }
        let bytes: usize = list.items.iter().map(|it| it.effect.bytes()).sum();
        if list.items.len() >= CARRIED_MAX || bytes + effect.bytes() > CARRIED_BYTES_MAX {
            return Err(NotAdded::TooMuch);
        }
        list.items.push(Item { id, effect });
        Ok(id)
    }

    /// Takes them: what an answer has to carry so that they go out; `None` where there are none. None can be added from then on, by no
    /// clone. Asking again gives the same.
    #[must_use]
    pub fn carried(&self) -> Option<Bytes> {
        let mut list = self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        list.is_sealed = true;
        (!list.items.is_empty()).then(|| Cargo::new(list.items.clone()).write())
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects").finish_non_exhaustive()
    }
}
