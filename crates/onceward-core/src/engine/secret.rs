//! The secret of a store, from which the hash keys are derived. It is made once, by whoever comes first.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Hasher;
use crate::key::{Principal, RecordId};
use crate::policy::Policy;
use crate::record::{Answer, Listing, RULES, State};
use crate::store::browse::RESERVED_KIND;
use crate::store::{Insert, Put};

impl Inner {
    /// Reads the secret from which the hash keys are derived; inserts one if there is none.
    pub(super) async fn load_secret(&self) -> Result<Hasher> {
        let id = RecordId::reserved("hash key");
        let loaded = self.in_budget("read the hash key", self.store.load(id)).await?;
        self.heard(loaded.now);
        let record = match loaded.record {
            Some(record) => record,
            None => {
                let mut secret = [0; 32];
                self.entropy
                    .fill(&mut secret)
                    .map_err(|it| Error::new(ErrorKind::Unavailable, "make the hash key").caused_by(it))?;
                let put = Put {
                    grant: None,
                    listing: Arc::new(Listing {
                        principal: Principal::ANONYMOUS,
                        kind: RESERVED_KIND.into(),
                        host: String::new(),
                        path: String::new(),
                        key: "hash key".into(),
                    }),
                    rules: RULES,
                    fingerprint: None,
                    state: State::Done(Answer::new("hash key", secret.to_vec())),
                    policy: Policy {
                        retention: Duration::from_millis(u64::MAX),
                        tombstone: Duration::ZERO,
                        ..Policy::default()
                    },
                    checkpoint: None,
                    wake_after: None,
                    not_after: loaded.now.after(self.settings.call_budget),
                };
                match self.in_budget("keep the hash key", self.store.insert(id, &put)).await? {
                    Insert::Kept(record) | Insert::Found(record, _) => record,
                    Insert::Late(now) => {
                        self.heard(now);
                        return Err(Error::new(ErrorKind::Unavailable, "keep the hash key in time"));
                    }
                }
            }
        };
        match &record.state {
            State::Done(answer) => Ok(Hasher::new(&answer.bytes()?)),
            State::Running | State::Abandoned { .. } | State::Released | State::Tombstone => {
                Err(Error::new(ErrorKind::Corrupt, "read the hash key"))
            }
        }
    }
}
