//! Records to test stores with, and calls that must succeed.

use std::sync::Arc;

use onceward_core::store::{Grant, Insert, Put, Replace};
use onceward_core::{
    Answer, Attempt, Fingerprint, InFlight, Key, Listing, Owner, Policy, Principal, Record, RecordId, Scope,
    State, Store, Timestamp,
};

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

/// An attempt of nobody in particular at `POST shop.example/payments`, under the policy that is the default. Tests change the
/// fields that they are about: `Attempt { policy, ..attempt("k-1", asked) }`.
///
/// # Panics
/// When `key` is none.
#[must_use]
pub fn attempt(key: &str, fingerprint: Fingerprint) -> Attempt {
    Attempt {
        scope: Scope {
            principal: Principal::ANONYMOUS,
            kind: "POST".into(),
            host: "shop.example".into(),
            path: "/payments".into(),
        },
        key: Key::parse(key).expect("the test names a key"),
        fingerprint,
        policy: Policy::default(),
        in_flight: InFlight::Reject,
    }
}

/// The put that stores an answer of kind `test`, to be kept for the policy's times.
#[must_use]
pub fn completion(record: &Record, bytes: &'static [u8]) -> Put {
    Put { state: State::Done(Answer::new("test", bytes)), ..Put::keep(record, Timestamp::MAX) }
}

/// Inserts where nothing is.
///
/// # Panics
/// When the insert is not kept.
pub async fn inserted(store: &dyn Store, id: RecordId, put: &Put) -> Arc<Record> {
    match store.insert(id, put).await.expect("the store answers an insert") {
        Insert::Kept(record) => record,
        other => panic!("the place is vacant, but the insert was not kept: {other:?}"),
    }
}

/// Swaps on the revision of `seen`.
///
/// # Panics
/// When the swap is not kept.
pub async fn swapped(store: &dyn Store, seen: &Record, put: &Put) -> Arc<Record> {
    match store.replace(seen.id, seen.revision, put).await.expect("the store answers a replace") {
        Replace::Kept(record) => record,
        other => panic!("the revision is the stored one, but the swap was not kept: {other:?}"),
    }
}

/// What is stored.
///
/// # Panics
/// When the store does not say.
pub async fn stored(store: &dyn Store, id: RecordId) -> Option<Arc<Record>> {
    store.load(id).await.expect("the store answers a load").record
}
