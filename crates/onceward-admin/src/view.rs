//! A record as JSON, for people and scripts: when, what, whose; never a body.

use std::time::{Duration, UNIX_EPOCH};

use onceward_core::{Record, State, Timestamp, Unresolved};
use serde::Serialize;

/// The last moment that RFC 3339 can name.
const RFC_3339_MAX_MS: u64 = 253_402_300_799_999;

/// A record at a time of its store.
#[derive(Debug, Serialize)]
pub(crate) struct View<'a> {
    id: String,
    state: &'static str,
    principal: String,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    key: &'a str,
    attempt: u32,
    /// A string: 64 bits do not fit into a number of JavaScript.
    fence: String,
    /// A string: 64 bits do not fit into a number of JavaScript.
    revision: String,
    created: Option<String>,
    updated: Option<String>,
    lease_until: Option<String>,
    lease_remaining_seconds: Option<f64>,
    run_until: Option<String>,
    answer_until: Option<String>,
    answer_remaining_seconds: Option<f64>,
    gone_until: Option<String>,
    gone_remaining_seconds: Option<f64>,
    policy: PolicyView,
    answer: Option<AnswerView<'a>>,
    reason: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PolicyView {
    lease_seconds: f64,
    run_max_seconds: f64,
    retention_seconds: f64,
    tombstone_seconds: f64,
    unresolved: &'static str,
}

#[derive(Debug, Serialize)]
struct AnswerView<'a> {
    kind: &'a str,
    bytes: usize,
}

impl<'a> View<'a> {
    /// `record` as it is at `now`. Times that say nothing in its state are `null`.
    pub(crate) fn of(record: &'a Record, now: Timestamp) -> Self {
        let running = record.state == State::Running;
        let over = matches!(record.state, State::Done(_) | State::Tombstone);
        let lease = running.then_some(record.lease_until);
        let answer = over.then_some(record.answer_until);
        let gone = over.then_some(record.gone_until);
        let left = |until: Option<Timestamp>| {
            until.filter(|it| *it < Timestamp::MAX).map(|it| now.until(it).as_secs_f64())
        };
        let policy = &record.policy;
        Self {
            id: record.id.to_string(),
            state: record.status_at(now).as_str(),
            principal: record.listing.principal.to_string(),
            method: &record.listing.kind,
            host: &record.listing.host,
            path: &record.listing.path,
            key: &record.listing.key,
            attempt: record.attempt,
            fence: record.fence.to_string(),
            revision: record.revision.to_string(),
            created: rfc_3339(record.created),
            updated: rfc_3339(record.updated),
            lease_until: lease.and_then(rfc_3339),
            lease_remaining_seconds: left(lease),
            run_until: running.then_some(record.run_until).and_then(rfc_3339),
            answer_until: answer.and_then(rfc_3339),
            answer_remaining_seconds: left(answer),
            gone_until: gone.and_then(rfc_3339),
            gone_remaining_seconds: left(gone),
            policy: PolicyView {
                lease_seconds: policy.lease.as_secs_f64(),
                run_max_seconds: policy.run_max.as_secs_f64(),
                retention_seconds: policy.retention.as_secs_f64(),
                tombstone_seconds: policy.tombstone.as_secs_f64(),
                unresolved: match policy.unresolved {
                    Unresolved::Hold => "hold",
                    Unresolved::Rerun => "rerun",
                },
            },
            answer: match &record.state {
                State::Done(answer) if now < record.answer_until => {
                    Some(AnswerView { kind: &answer.kind, bytes: answer.len() })
                }
                State::Running
                | State::Abandoned { .. }
                | State::Released
                | State::Done(_)
                | State::Tombstone => None,
            },
            reason: match &record.state {
                State::Abandoned { reason } => Some(reason),
                State::Running if now >= record.lease_until => Some(LEASE_OVER),
                State::Running | State::Released | State::Done(_) | State::Tombstone => None,
            },
        }
    }
}

/// Why a record is unresolved whose holder said nothing.
const LEASE_OVER: &str = "its lease ended without a word of its holder: that was killed, or cut off from the store, or ran for too long";

/// UTC with milliseconds; `None` for "never" and for what lies past the year 9999.
pub(crate) fn rfc_3339(time: Timestamp) -> Option<String> {
    let millis = time.as_millis();
    (millis <= RFC_3339_MAX_MS)
        .then(|| humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc_as_far_as_there_are_names_for_them() {
        let check = |millis, expected: Option<&str>| {
            assert_eq!(rfc_3339(Timestamp::from_millis(millis)).as_deref(), expected, "{millis}");
        };
        check(0, Some("1970-01-01T00:00:00.000Z"));
        check(1_709_210_096_789, Some("2024-02-29T12:34:56.789Z"));
        check(RFC_3339_MAX_MS, Some("9999-12-31T23:59:59.999Z"));
        check(RFC_3339_MAX_MS + 1, None);
        check(u64::MAX, None);
    }
}
