//! Effects that answers name: what they are called, and whether they are out.

mod judge;

use std::fmt;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use onceward::Engine;
use onceward::queue::outbox::AnswerOutbox;
use serde_json::json;

pub(super) use self::judge::{Counts, judge};
use super::receiver::Receiver;
use super::{Field, PATIENCE};
use crate::Result;
use crate::time::{ms, now, until};

/// The media type of an answer that names effects.
pub(super) const MEDIA_TYPE: &str = "application/vnd.onceward.effects+json";
/// What sends them.
pub(super) const KIND: &str = "hooks";
/// For how long nothing arrives once all is out, where the store is not asked: longer than the pauses after failures.
const QUIET: Duration = ms(15_000);

/// The name of an effect: the answer that names it, and its place there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Label {
    answer: String,
    nth: u64,
    of: u64,
}

impl Label {
    /// Those of so many effects, in their order.
    pub(super) fn all(answer: &str, of: u64) -> Vec<Self> {
        (0..of).map(|nth| Self { answer: answer.to_owned(), nth, of }).collect()
    }

    /// Whether it goes out only once `other` did.
    fn is_behind(&self, other: &Self) -> bool {
        self.answer == other.answer && self.nth > other.nth
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.answer, self.nth, self.of)
    }
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.rsplitn(3, '.');
        let mut number = || parts.next().and_then(|it| it.parse().ok());
        let (of, nth) = (number(), number());
        let (Some(of), Some(nth), Some(answer)) = (of, nth, parts.next()) else {
            return Err(format!("no effect is called {text}"));
        };
        Ok(Self { answer: answer.to_owned(), nth, of })
    }
}

/// An answer that names them; empty where there are none.
pub(super) fn written(named: &[Label]) -> String {
    let effect = |it: &Label| {
        let label = it.to_string();
        json!({ "kind": KIND, "destination": label, "headers": [["content-type", "text/plain"]], "body": label })
    };
    if named.is_empty() {
        return String::new();
    }
    json!({ "effects": named.iter().map(effect).collect::<Vec<_>>() }).to_string()
}

/// What did not go out.
#[derive(Debug, Default)]
pub(super) struct Left {
    unsent: u64,
    parked: Vec<Label>,
}

impl Left {
    /// As a store has it.
    pub(super) async fn of(engine: &Engine) -> Result<Self> {
        let outbox = AnswerOutbox::new(engine.clone());
        let mut left = Self { unsent: outbox.stats().await?.unsent, parked: Vec::new() };
        let mut cursor = None;
        loop {
            let (page, next) = outbox.parked(cursor).await?;
            for parked in page {
                left.parked.push(parked.effect.destination.parse()?);
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(left);
            }
        }
    }

    /// So many are not parked, nor behind one that is.
    fn on_its_way(&self) -> u64 {
        let waits: u64 = self.parked.iter().map(|it| it.of - it.nth).sum();
        self.unsent.abs_diff(waits)
    }
}

/// Waits until nothing is to go out any more, for as long as the healing may take. Gives when that was.
pub(super) fn until_all_is_out(field: &Field<'_>, receiver: &Receiver) -> Result<Option<Duration>> {
    let began = now();
    if !field.store.is_server() {
        // Its directory is the consumer's.
        let last = || receiver.last().unwrap_or(began);
        let is_quiet = || (now() > last().max(began) + QUIET).then(last);
        return Ok(until(PATIENCE, is_quiet));
    }
    let store = field.runtime.block_on(onceward::open_to_look(&field.store.url()))?;
    let engine = Engine::new(store);
    let is_out = || {
        thread::sleep(ms(250));
        let left = field.runtime.block_on(Left::of(&engine)).ok()?;
        (left.on_its_way() == 0).then(now)
    };
    Ok(until(PATIENCE, is_out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_named_by_its_answer_and_its_place() {
        let all = Label::all("m12.345", 2);
        let names: Vec<_> = all.iter().map(Label::to_string).collect();
        assert_eq!(names, ["m12.345.0.2", "m12.345.1.2"]);
        assert_eq!(names.iter().map(|it| it.parse().unwrap()).collect::<Vec<Label>>(), all);
        assert!(all[1].is_behind(&all[0]) && !all[0].is_behind(&all[1]));
        for wrong in ["", "m12", "m12.x.2", "1.2"] {
            assert!(wrong.parse::<Label>().is_err(), "{wrong}");
        }
    }
}
