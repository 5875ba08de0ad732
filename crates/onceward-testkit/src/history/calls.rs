//! Calls as they were noted: when each began, and when it ended and with what.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::one_record::{Ask, Told};

/// One call in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called<A, T> {
    /// Who called.
    pub who: u64,
    /// What was asked.
    pub ask: A,
    /// Its place in time.
    pub began: usize,
    /// When it had ended for certain, told or not; `None` when it may still take effect.
    pub ended: Option<usize>,
    /// What came back, if anything.
    pub told: Option<T>,
}

impl<A: fmt::Debug, T: fmt::Debug> fmt::Display for Called<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, ask, began, ended, told } = self;
        let ended = ended.map_or("…".to_owned(), |it| it.to_string());
        write!(f, "{began:>6}–{ended:<6} client {who}: {ask:?} ")?;
        match told {
            Some(told) => write!(f, "told {told:?}"),
            None => f.write_str("untold"),
        }
    }
}

/// Something that was noted at one moment. Whoever notes events keeps their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which client. It makes one call at a time.
    pub who: u64,
    /// What happened.
    pub what: What,
}

/// What happened to a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// It is about to ask this of this record.
    Asks(u8, Ask),
    /// It was told this.
    Heard(Told),
    /// It will never hear what became of its call, which may still take effect.
    Left,
    /// It is dead, and so is its call: what did not take effect by now never will.
    Died,
}

/// Where events are noted.
pub trait Log: Send + Sync {
    /// Notes `event`, after all that were noted before.
    fn note(&self, event: Event);
}

impl Log for Mutex<Vec<Event>> {
    fn note(&self, event: Event) {
        self.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// The calls to each record, in the order in which they began.
#[must_use]
pub fn histories(events: &[Event]) -> BTreeMap<u8, Vec<Called<Ask, Told>>> {
    let mut histories: BTreeMap<u8, Vec<Called<Ask, Told>>> = BTreeMap::new();
    // The place of the call that each client has under way.
    let mut under_way: BTreeMap<u64, (u8, usize)> = BTreeMap::new();
    for (now, Event { who, what }) in events.iter().enumerate() {
        match what {
            What::Asks(record, ask) => {
                let history = histories.entry(*record).or_default();
                under_way.insert(*who, (*record, history.len()));
                history.push(Called { who: *who, ask: ask.clone(), began: now, ended: None, told: None });
            }
            What::Left => drop(under_way.remove(who)),
            What::Heard(_) | What::Died => {
                let call = under_way.remove(who);
                let call = call.and_then(|(record, at)| histories.get_mut(&record)?.get_mut(at));
                if let Some(call) = call {
                    call.ended = Some(now);
                    call.told = if let What::Heard(told) = what { Some(told.clone()) } else { None };
                }
            }
        }
    }
    histories
}
