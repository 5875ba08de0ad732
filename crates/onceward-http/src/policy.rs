//! What a route chooses, and how the outcome of an answer follows from it.

use http::{HeaderName, StatusCode};
use onceward_core::{InFlight, Policy};
use onceward_webhook::Verifier;

use crate::key_source::KeySource;
use crate::outcome::Outcome;
use crate::principal::PrincipalRule;

/// Whether requests of a route carry a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyRule {
    /// A request without a key is refused.
    Required,
    /// A request without a key passes through unprotected.
    #[default]
    Optional,
    /// Keys mean nothing here: everything passes through.
    Ignored,
}

/// What happens to an answer that is longer than `max_answer`, or that streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Oversize {
    /// It is passed to the first caller; the record is finished without it, and repeats are told so.
    #[default]
    Pass,
    /// The first caller gets 502; the record is finished the same way.
    Refuse,
}

/// What a repeat has to have in common with the first request, beside its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compare {
    /// Query, media type and body: a key that comes with others is refused as reused.
    #[default]
    Request,
    /// Nothing: who has the same key has sent the same. For senders whose repeats differ in what does not matter, such as a count
    /// of deliveries in the body.
    Nothing,
}

/// Everything that a route may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPolicy {
    /// Whether a key is needed.
    pub key: KeyRule,
    /// Where the key stands.
    pub key_from: KeySource,
    /// What a repeat has to have in common with the first request.
    pub compare: Compare,
    /// Whose signature every operation has to have. What is not signed is refused before anything is asked or written.
    pub verify: Option<Verifier>,
    /// What the claim stores.
    pub policy: Policy,
    /// What a duplicate does while the first runs.
    pub in_flight: InFlight,
    /// How callers are told apart.
    pub principal: PrincipalRule,
    /// The longest request body of an operation, in bytes.
    pub max_request_bytes: u64,
    /// The longest answer that is kept, in bytes.
    pub max_answer_bytes: u64,
    /// Statuses that mean: nothing happened. 503 with `Retry-After` always does.
    pub release_on: Vec<u16>,
    /// Statuses that mean: nobody knows.
    pub unknown_on: Vec<u16>,
    /// What happens to longer answers.
    pub oversize: Oversize,
    /// Runs operations unprotected while the store cannot be asked.
    pub fail_open: bool,
    /// Header lines that go stale and are left out of replays.
    pub replay_drop: Vec<HeaderName>,
}

impl Default for HttpPolicy {
    /// Key optional, answers of any status kept except the usual releases and unknowns, 1 MiB each way.
    fn default() -> Self {
        Self {
            key: KeyRule::Optional,
            key_from: KeySource::IdempotencyKey,
            compare: Compare::Request,
            verify: None,
            policy: Policy::default(),
            in_flight: InFlight::Reject,
            principal: PrincipalRule::Auto,
            max_request_bytes: 1 << 20,
            max_answer_bytes: 1 << 20,
            release_on: vec![401, 403, 407, 425, 429],
            unknown_on: vec![408, 502, 503, 504],
            oversize: Oversize::Pass,
            fail_open: false,
            replay_drop: Vec::new(),
        }
    }
}

impl HttpPolicy {
    /// Whether a request without a key is refused: where the route says so, where only the body can tell whether there is a key,
    /// and where what passes through would not be verified.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        match self.key {
            KeyRule::Required => true,
            KeyRule::Optional => matches!(self.key_from, KeySource::Json(_)) || self.verify.is_some(),
            KeyRule::Ignored => false,
        }
    }

    /// What an answer that came back whole means. What the application itself said overrules the lists.
    #[must_use]
    pub fn outcome(&self, status: StatusCode, has_retry_after: bool, said: Option<Outcome>) -> Outcome {
        let listed = |list: &[u16]| list.contains(&status.as_u16());
        match said {
            Some(said) => said,
            None if status == StatusCode::SERVICE_UNAVAILABLE && has_retry_after => Outcome::Release,
            None if listed(&self.release_on) => Outcome::Release,
            None if listed(&self.unknown_on) => Outcome::Unknown,
            None => Outcome::Store,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_follows_the_contract() {
        let policy = HttpPolicy::default();
        #[rustfmt::skip]
        let table = [
            (200, false, None, Outcome::Store),
            (201, false, None, Outcome::Store),
            (302, false, None, Outcome::Store),
            (400, false, None, Outcome::Store),
            (402, false, None, Outcome::Store),
            (404, false, None, Outcome::Store),
            (409, true,  None, Outcome::Store),
            (500, false, None, Outcome::Store),
            (401, false, None, Outcome::Release),
            (403, false, None, Outcome::Release),
            (407, false, None, Outcome::Release),
            (425, false, None, Outcome::Release),
            (429, false, None, Outcome::Release),
            (503, true,  None, Outcome::Release),
            (503, false, None, Outcome::Unknown),
            (408, false, None, Outcome::Unknown),
            (502, false, None, Outcome::Unknown),
            (504, true,  None, Outcome::Unknown),
            (200, false, Some(Outcome::Release), Outcome::Release),
            (200, false, Some(Outcome::Unknown), Outcome::Unknown),
            (502, false, Some(Outcome::Store),   Outcome::Store),
            (503, true,  Some(Outcome::Unknown), Outcome::Unknown),
        ];
        for (status, retry_after, said, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                policy.outcome(status, retry_after, said),
                expected,
                "{status} {retry_after} {said:?}"
            );
        }
    }
}
