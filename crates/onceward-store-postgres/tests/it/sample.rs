//! The records that these tests are made of.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::Put;
use onceward_core::{Policy, Record, RecordId};
use onceward_store_postgres::PostgresStore;
use onceward_testkit::server::Postgres;
pub(crate) use onceward_testkit::{claim, swapped};

use crate::support;

pub(crate) fn id(number: u64) -> RecordId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    RecordId::from_bytes(bytes)
}

pub(crate) fn completion(record: &Record) -> Put {
    onceward_testkit::completion(record, b"42")
}

/// Its answer is over at once.
pub(crate) fn brief(record: &Record) -> Put {
    let put = completion(record);
    Put { policy: Policy { retention: Duration::ZERO, ..put.policy }, ..put }
}

pub(crate) async fn inserted(store: &PostgresStore, id: RecordId) -> Arc<Record> {
    onceward_testkit::inserted(store, id, &claim(1)).await
}

/// A schema of its own on the server of this process, and a URL that leads to it.
pub(crate) async fn place(server: &Postgres) -> (String, String) {
    let name = support::name();
    support::make_schema(server, &name).await;
    let url = format!("{}?schema={name}", server.url(&name));
    (name, url)
}
