//! One line per change and per refused attempt to change.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use http::Extensions;
use onceward_core::{RecordId, Revision};

use crate::operator::Operator;

/// The target of audit lines.
pub const AUDIT: &str = "onceward::audit";

/// What an attempt to change something was, filled in as it becomes known, written once at its end: also when
/// the future that carries it out is dropped.
#[derive(Debug)]
pub(crate) struct Audit {
    action: &'static str,
    peer: Option<SocketAddr>,
    pub(crate) operator: Option<Operator>,
    pub(crate) record: Option<RecordId>,
    pub(crate) verdict: Option<&'static str>,
    pub(crate) answer_digest: Option<String>,
    pub(crate) forced: Option<String>,
    pub(crate) revision_before: Option<Revision>,
    pub(crate) revision_after: Option<Revision>,
    outcome: &'static str,
}

impl Audit {
    pub(crate) fn new(action: &'static str, extensions: &Extensions) -> Self {
        Self {
            action,
            peer: extensions.get::<ConnectInfo<SocketAddr>>().map(|it| it.0),
            operator: None,
            record: None,
            verdict: None,
            answer_digest: None,
            forced: None,
            revision_before: None,
            revision_after: None,
            outcome: "unfinished",
        }
    }

    /// Writes the line: `done`, or the code of the refusal.
    pub(crate) fn write(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        tracing::info!(
            target: AUDIT,
            action = self.action,
            outcome = self.outcome,
            record = self.record.map(display),
            verdict = self.verdict,
            answer_digest = self.answer_digest.as_deref(),
            forced = self.forced.as_deref(),
            revision_before = self.revision_before.map(display),
            revision_after = self.revision_after.map(display),
            operator = self.operator.as_ref().map(Operator::as_str),
            peer = self.peer.map(display),
            "an operator asked for a change"
        );
    }
}
