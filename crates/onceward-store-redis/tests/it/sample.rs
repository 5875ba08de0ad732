//! The stores and records of these tests.

use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Grant, Put};
use onceward_core::{Clock as _, Error, Listing, Owner, Policy, Record, RecordId};
use onceward_store_redis::{RedisSettings, RedisStore, TimeSource};
use onceward_testkit::HandClock;
use onceward_testkit::server::RedisServer;
pub(crate) use onceward_testkit::{inserted, stored, swapped};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn settings(server: &RedisServer, more: &str) -> RedisSettings {
    RedisSettings::from_url(&format!("{}{more}", server.url())).unwrap()
}

pub(crate) async fn open(server: &RedisServer, more: &str) -> RedisStore {
    RedisStore::open(settings(server, more)).await.unwrap()
}

/// The same on a clock in the hand.
pub(crate) async fn open_at(server: &RedisServer, clock: &HandClock) -> RedisStore {
    let clock = clock.clone();
    let time = Some(TimeSource(Arc::new(move || clock.wall())));
    RedisStore::open(RedisSettings { time, ..settings(server, "") }).await.unwrap()
}

pub(crate) fn id(number: u16) -> RecordId {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// The key of the record `id` in a store with the usual prefix and 64 buckets.
pub(crate) fn key(id: RecordId) -> String {
    let bytes = id.as_bytes();
    let bucket = u16::from_be_bytes([bytes[0], bytes[1]]) % 64;
    let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
    format!("onceward:{{b{bucket}}}:r:{hex}")
}

pub(crate) fn claim() -> Put {
    let policy = Policy { lease: HOUR, run_max: HOUR, retention: HOUR, tombstone: HOUR, ..Policy::default() };
    Put { policy, ..onceward_testkit::claim(1) }
}

/// A claim that says whose call it was.
pub(crate) fn claim_of(number: u64) -> Put {
    let mut listing = Listing::clone(&claim().listing);
    listing.key = number.to_string();
    let mut owner = [0; 16];
    owner[..8].copy_from_slice(&number.to_be_bytes());
    let grant = Some(Grant { owner: Owner::from_bytes(owner), new_life: false });
    Put { grant, listing: listing.into(), ..claim() }
}

pub(crate) fn completion(record: &Record) -> Put {
    onceward_testkit::completion(record, b"42")
}

/// Everything that an error says.
pub(crate) fn said(error: &Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {cause}")
}
