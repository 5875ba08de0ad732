//! The promises, checked at the very moment when something happens.

use onceward_core::{Record, State};

use super::{Effect, FarSide, FirstOutcome, Reply, Violation, World};
use crate::plan::Way;

impl World {
    // === The far side ===

    /// A request of an operation has arrived at an upstream. Tells what the far side remembers.
    pub(crate) fn arrived(&self, intent: usize, fence: u64) -> FarSide {
        let mut inner = self.inner();
        let far = inner.far.entry(intent).or_default();
        let again = !far.fences.insert(fence);
        let before = far.clone();
        far.fence_max = far.fence_max.max(fence);
        drop(inner);
        if again {
            self.violated(Violation::SentTwice, format!("key-{intent} arrived twice under fence {fence}"));
        }
        before
    }

    /// The effect happens now. Under `rerun` the far side has made sure before that it is the first.
    pub(crate) fn effect(&self, who: &str, intent: usize, fence: u64) -> usize {
        let mut inner = self.inner();
        let number = inner.effects.len();
        inner.effects.push(Effect { intent, fence });
        let count = inner.effects.iter().filter(|it| it.intent == intent).count();
        let released = inner.released.contains(&(intent, fence));
        drop(inner);
        self.note(who, || format!("EFFECT {number} of key-{intent}, fence {fence}"));
        self.count("effects");
        if count > 1 {
            self.violated(Violation::TwoEffects, format!("key-{intent} had {count} effects"));
        }
        if released {
            let why = format!("key-{intent} was freed before fence {fence} had its effect");
            self.violated(Violation::ReleasedWithEffect, why);
        }
        number
    }

    pub(crate) fn has_effect(&self, intent: usize) -> bool {
        self.inner().effects.iter().any(|it| it.intent == intent)
    }

    /// What the far side of a `rerun` intent says from now on; the first outcome stands.
    pub(crate) fn first_outcome(&self, intent: usize, outcome: FirstOutcome) {
        self.inner().far.entry(intent).or_default().first.get_or_insert(outcome);
    }

    pub(crate) fn far_side(&self, intent: usize) -> FarSide {
        self.inner().far.get(&intent).cloned().unwrap_or_default()
    }

    // === Callers ===

    /// A caller was told something.
    pub(crate) fn told(&self, who: &str, intent: usize, payload: &str, reply: &Reply) {
        let kind = match (reply.problem(), reply.header("x-outcome")) {
            (Some(problem), _) => format!("{} {problem}", reply.status),
            (None, Some(outcome)) if reply.replayed => format!("replay, {outcome}"),
            (None, Some(outcome)) => format!("first answer, {outcome}"),
            (None, None) => format!("{} from nobody", reply.status),
        };
        self.note(who, || format!("told {kind} for key-{intent} {payload}: {}", reply.body));
        self.count(&format!("told: {kind}"));
        match reply.header("x-outcome") {
            None => {}
            Some("final") => self.told_final(intent, payload, reply),
            Some("fenced") => {
                self.violated(Violation::OldHolder, format!("key-{intent}: told what the far side refused"));
            }
            Some(other) if reply.replayed => {
                self.violated(Violation::TwoAnswers, format!("key-{intent}: {other} was replayed"));
            }
            Some(outcome) => self.told_open(intent, outcome, reply),
        }
    }

    /// An answer that is not kept is told once the record says what it means.
    fn told_open(&self, intent: usize, outcome: &str, reply: &Reply) {
        let fence = reply.header("x-fence").and_then(|it| it.parse().ok()).unwrap_or(0);
        let inner = self.inner();
        // Nothing happened, but an earlier attempt is unresolved: that is how the record stays.
        let written = inner.abandoned.contains(&(intent, fence))
            || (outcome == "released" && inner.released.contains(&(intent, fence)));
        drop(inner);
        if !written {
            let why = format!("key-{intent}: told {outcome} of fence {fence}");
            self.violated(Violation::ToldNotStored, why);
        }
    }

    fn told_final(&self, intent: usize, payload: &str, reply: &Reply) {
        if !reply.body.contains(&format!("\"{payload}\"")) {
            let why = format!("key-{intent} asked with {payload} and was told {}", reply.body);
            self.violated(Violation::WrongAnswer, why);
        }
        let first = self.inner().told.entry(intent).or_insert_with(|| reply.clone()).clone();
        if (first.status, &first.headers, &first.body) != (reply.status, &reply.headers, &reply.body) {
            let why = format!("key-{intent}: first told {first:?}, now {reply:?}");
            self.violated(Violation::TwoAnswers, why);
        }
        let stored = self.records().into_iter().any(|it| {
            let State::Done(answer) = &it.state else { return false };
            let bytes = answer.bytes().unwrap_or_default();
            self.intent_of(&it) == Some(intent) && bytes.ends_with(reply.body.as_bytes())
        });
        if !stored {
            self.violated(Violation::ToldNotStored, format!("key-{intent}: told {}", reply.body));
        }
    }

    // === The store ===

    /// Judges one change of a record, as the store carried it out.
    pub(crate) fn changed(&self, before: Option<&Record>, after: &Record) {
        let Some(intent) = self.intent_of(after) else { return };
        let granted = before.is_none_or(|it| it.fence != after.fence);
        if let Some(before) = before {
            if after.revision <= before.revision || after.fence < before.fence {
                let why = format!("key-{intent}: {before:?} then {after:?}");
                self.violated(Violation::NotGrown, why);
            }
            match (&before.state, &after.state) {
                (State::Done(_), State::Tombstone) => {}
                (State::Done(_) | State::Tombstone, _) => {
                    self.violated(Violation::Overwritten, format!("key-{intent}: {after:?}"));
                }
                _ => {}
            }
            let hold = self.0.plan.intents[intent].way != Way::Rerun;
            let held = matches!(before.state, State::Running | State::Abandoned { .. });
            if granted
                && held
                && before.owner != after.owner
                && (hold || before.lease_alive_at(after.updated))
            {
                self.violated(Violation::Granted, format!("key-{intent}: {before:?} then {after:?}"));
            }
        }
        if matches!(after.state, State::Abandoned { .. }) {
            self.inner().abandoned.insert((intent, after.fence.0));
        }
        if after.state == State::Released {
            let mut inner = self.inner();
            inner.released.insert((intent, after.fence.0));
            let had = inner.effects.iter().any(|it| it.intent == intent && it.fence == after.fence.0);
            drop(inner);
            if had {
                let why = format!("key-{intent}: fence {} had its effect", after.fence);
                self.violated(Violation::ReleasedWithEffect, why);
            }
        }
    }
}
