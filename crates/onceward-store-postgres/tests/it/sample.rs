//! The records that these tests are made of.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Grant, Insert, Put, Replace, Store};
use onceward_core::{
    Answer, Fingerprint, Listing, Owner, Policy, Principal, Record, RecordId, State, Timestamp,
};
use onceward_store_postgres::PostgresStore;
use onceward_testkit::server::Postgres;

use crate::support;

pub(crate) fn id(number: u64) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn claim(owner: u8) -> Put {
    Put {
        grant: Some(Grant { owner: Owner::from_bytes([owner; 16]), new_life: false }),
        listing: Arc::new(Listing {
            principal: Principal::from_bytes([1; 16]),
            kind: "POST".into(),
            host: "shop.example".into(),
            path: "/payments".into(),
            key: "key".into(),
        }),
        rules: onceward_core::record::RULES,
        fingerprint: Some(Fingerprint::from_bytes([2; 32])),
        state: State::Running,
        policy: Policy::default(),
        checkpoint: None,
        wake_after: None,
        not_after: Timestamp::MAX,
    }
}

pub(crate) fn completion(record: &Record) -> Put {
    Put { state: State::Done(Answer::new("test", "42")), ..Put::keep(record, Timestamp::MAX) }
}

/// Its answer is over at once.
pub(crate) fn brief(record: &Record) -> Put {
    let put = completion(record);
    Put { policy: Policy { retention: Duration::ZERO, ..put.policy }, ..put }
}

pub(crate) async fn inserted(store: &PostgresStore, id: RecordId) -> Arc<Record> {
    match store.insert(id, &claim(1)).await.unwrap() {
        Insert::Kept(record) => record,
        other => panic!("the place is vacant, but: {other:?}"),
    }
}

pub(crate) async fn swapped(store: &PostgresStore, record: &Record, put: &Put) -> Arc<Record> {
    match store.replace(record.id, record.revision, put).await.unwrap() {
        Replace::Kept(record) => record,
        other => panic!("the revision is the stored one, but: {other:?}"),
    }
}

/// A schema of its own on the server of this process, and a URL that leads to it.
pub(crate) async fn place(server: &Postgres) -> (String, String) {
    let name = support::name();
    support::make_schema(server, &name).await;
    let url = format!("{}?schema={name}", server.url(&name));
    (name, url)
}
