//! A claim to test stores with.

use std::sync::Arc;

use onceward_core::store::{Grant, Put};
use onceward_core::{Fingerprint, Listing, Owner, Policy, Principal, State, Timestamp};

/// A claim, never too late, under the policy that is the default. Owner, principal, fingerprint and key are made of
/// `number`. Tests change the fields that they are about: `Put { policy, ..claim(1) }`.
#[must_use]
pub fn claim(number: u8) -> Put {
    claim_with_key(number, format!("key-{number}"))
}

/// The same with a key of its own. Stores know records by their ids: the key is only shown.
#[must_use]
pub fn claim_with_key(number: u8, key: String) -> Put {
    Put {
        grant: Some(Grant { owner: Owner::from_bytes([number; 16]), new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::from_bytes([number; 16]),
            kind: "POST".into(),
            host: "shop.example".into(),
            path: "/payments".into(),
            key,
        }),
        rules: onceward_core::record::RULES,
        fingerprint: Some(Fingerprint::from_bytes([number; 32])),
        state: State::Running,
        policy: Policy::default(),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    }
}
