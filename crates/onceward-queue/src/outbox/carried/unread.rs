//! Answers whose effects this build cannot read: nothing is written to them, and they are told of once.

use std::collections::HashSet;

use onceward_core::{Record, RecordId};

use super::cargo::Unread;
use crate::handler::with_causes;
use crate::outbox::{RelayEvent, RelayObserver};

/// How many damaged ones are remembered, so that each is told of once. Of others nothing is told.
const TOLD_MAX: usize = 10_000;

/// What a relay has told of what it cannot read.
#[derive(Debug, Default)]
pub(super) struct Told {
    newer: bool,
    corrupt: HashSet<RecordId>,
}

impl Told {
    /// Tells why what `record` carries cannot be read, unless that was told.
    pub(super) fn tell(&mut self, record: &Record, why: &Unread, observer: &dyn RelayObserver) {
        let newer = matches!(why, Unread::Newer(_));
        let is_new = match why {
            Unread::Newer(_) => !std::mem::replace(&mut self.newer, true),
            Unread::Corrupt(_) => self.corrupt.len() < TOLD_MAX && self.corrupt.insert(record.id),
        };
        if !is_new {
            return;
        }
        observer.on(&RelayEvent::Unreadable { newer });
        let (record, why) = (record.id.prefix(), with_causes(why));
        if newer {
            tracing::warn!(record, why, "effects that answers carry are left to the relays of a newer build");
        } else {
            tracing::error!(
                record,
                why,
                "the effects that an answer carries cannot be read; they are left as they are"
            );
        }
    }
}
