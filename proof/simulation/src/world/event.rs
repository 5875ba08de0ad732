//! What a run says of itself: its trace, and the promises that it broke.

use std::fmt;
use std::time::Duration;

/// One line of the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, since the simulation began.
    pub at: Duration,
    /// On which host.
    pub who: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3} ms  {:<8} {}", self.at.as_secs_f64() * 1000.0, self.who, self.what)
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A key had two effects.
    TwoEffects,
    /// One permit reached the far side twice.
    SentTwice,
    /// Two callers were told two answers of one key, or a replay differs from the first answer.
    TwoAnswers,
    /// An answer was told that the store does not have.
    ToldNotStored,
    /// A caller was told the answer of another request.
    WrongAnswer,
    /// A caller was told what only an old holder may hear.
    OldHolder,
    /// A key was freed though its permit had an effect.
    ReleasedWithEffect,
    /// A fence or a revision did not grow.
    NotGrown,
    /// A final answer was overwritten.
    Overwritten,
    /// A permit was granted that the rules forbid.
    Granted,
    /// A key did not come to an end after everything had healed.
    Stuck,
    /// A gateway holds on to something after everybody has gone.
    Leaked,
    /// A gateway did not stop cleanly, or not at all.
    NotStopped,
    /// Something panicked.
    Panicked,
}
