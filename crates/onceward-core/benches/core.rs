//! The parts of core that every request pays for: fingerprint, stored bytes, the decision.

use std::time::Duration;

use bytes::Bytes;
use divan::{Bencher, black_box};
use onceward_core::decide::{Claim, decide};
use onceward_core::record::encode::{decode, encode};
use onceward_core::store::Put;
use onceward_core::{
    Answer, Fingerprint, Hasher, Key, Owner, Policy, Principal, Record, RecordId, Scope, State, Timestamp,
};

fn main() {
    divan::main();
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// A body of so many bytes, with method, path, query and media type.
#[divan::bench(args = [40, 1024, 65_536])]
fn fingerprint(bencher: Bencher<'_, '_>, body: usize) {
    let (hasher, body) = (Hasher::new(b"a secret of thirty-two bytes, sure"), vec![b'x'; body]);
    bencher.counter(divan::counter::BytesCount::from(body.len())).bench(|| {
        let parts: [&[u8]; 5] = [b"POST", b"/charges", b"", b"application/json", &body];
        black_box(&hasher).fingerprint(black_box(parts))
    });
}

/// The hash of a credential, which names the caller.
#[divan::bench]
fn principal(bencher: Bencher<'_, '_>) {
    let hasher = Hasher::new(b"a secret of thirty-two bytes, sure");
    bencher.bench(|| {
        hasher.principal("header:authorization", black_box(b"Bearer sk_test_4eC39HqLyjWDarjtT1zdp7dc"))
    });
}

/// Scope and key become the name of the record.
#[divan::bench]
fn record_id(bencher: Bencher<'_, '_>) {
    let scope = Scope {
        principal: Principal::from_bytes([7; 16]),
        kind: "POST".to_owned(),
        host: "bench.test".to_owned(),
        path: "/charges".to_owned(),
    };
    let key = Key::parse("r00001-0-123456").expect("a key of plain characters");
    bencher.bench(|| RecordId::of(black_box(&scope), black_box(&key)));
}

/// A claim becomes a record.
#[divan::bench]
fn stamp(bencher: Bencher<'_, '_>) {
    let (id, put) = (RecordId::from_bytes([1; 32]), claim());
    bencher.bench(|| black_box(&put).stamp(id, None, NOW));
}

/// A record with an answer of so many bytes; 0 is a running one.
#[divan::bench(args = [0, 300, 65_536])]
fn encode_record(bencher: Bencher<'_, '_>, answer: usize) {
    let record = record(answer);
    bencher.bench(|| encode(black_box(&record)));
}

/// The same back.
#[divan::bench(args = [0, 300, 65_536])]
fn decode_record(bencher: Bencher<'_, '_>, answer: usize) {
    let record = record(answer);
    let stored = Bytes::from(encode(&record));
    bencher.bench(|| decode(record.id, black_box(&stored)));
}

/// What to do about a record that was found.
#[divan::bench(args = ["busy", "replay", "mismatch", "gone"])]
fn decision(bencher: Bencher<'_, '_>, case: &str) {
    let found = record(if case == "busy" { 0 } else { 300 });
    let asked = if case == "mismatch" { [9; 32] } else { [3; 32] };
    let claim = Claim {
        owner: Owner::from_bytes([8; 16]),
        fingerprint: Fingerprint::from_bytes(asked),
        policy: Policy::default(),
    };
    let now = NOW.after(Duration::from_secs(if case == "gone" { 25 * 3600 } else { 1 }));
    bencher.bench(|| decide(black_box(&found), black_box(&claim), now));
}

/// What was asked is what [`decision`] asks again, but for a mismatch.
fn claim() -> Put {
    onceward_testkit::claim_with_key(3, "r00001-0-123456".to_owned())
}

/// A running record, or one that is done with an answer of so many bytes.
fn record(answer: usize) -> Record {
    let put = match answer {
        0 => claim(),
        len => Put { state: State::Done(Answer::new("http", vec![b'x'; len])), ..claim() },
    };
    put.stamp(RecordId::from_bytes([1; 32]), None, NOW)
}
