//! Operations that nobody asked for, of the size that the gateway's have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use onceward_core::record::RULES;
use onceward_core::store::{Grant, Put};
use onceward_core::{Answer, Fingerprint, Listing, Owner, Policy, Principal, RecordId, State, Timestamp};

/// How long the body of a made-up answer is.
pub const BODY_BYTES: usize = 300;

/// A record id like any other: a hash.
pub fn id() -> RecordId {
    RecordId::from_bytes(bytes())
}

/// What a `begin` with a new key asks the store to keep.
pub fn claim(key: String) -> Put {
    Put {
        grant: Some(Grant { owner: Owner::from_bytes(bytes()), new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::from_bytes(bytes()),
            kind: "POST".to_owned(),
            host: "bench.test".to_owned(),
            path: "/charges".to_owned(),
            key,
        }),
        rules: RULES,
        fingerprint: Some(Fingerprint::from_bytes(bytes())),
        state: State::Running,
        policy: Policy::default(),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    }
}

/// The put that completes what `claim` began.
pub fn completion(claim: Put, answer: Answer) -> Put {
    Put { grant: None, state: State::Done(answer), ..claim }
}

/// The same in one put, for a record that nobody saw running.
pub fn done(key: String, answer: Answer, retention: Duration) -> Put {
    let claim = claim(key);
    Put { policy: Policy { retention, ..claim.policy }, state: State::Done(answer), ..claim }
}

/// An answer as the gateway stores it, with a body that does not compress.
pub fn answer() -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("server", "nginx/1.22.1"),
        ("date", "Sun, 22 Nov 2026 05:38:13 GMT"),
        ("content-type", "application/json"),
        ("content-length", "300"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let text: Vec<u8> = std::iter::repeat_with(|| u8::try_from(fastrand::alphanumeric()).unwrap_or(b'x'))
        .take(BODY_BYTES)
        .collect();
    onceward_http::stored_answer(StatusCode::CREATED, headers, Bytes::from(text))
}

fn bytes<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    fastrand::fill(&mut bytes);
    bytes
}
