//! Each fault does what its name says, once and at its place.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::clock::HandClock;
use crate::conformance::{Memory, Wrapping};
use crate::patience::within;
use onceward_core::store::memory::MemoryStore;

mod without_a_cue {
    use super::*;
    crate::store_conformance!(Wrapping::new(Memory::default(), |it| Arc::new(FaultyStore::new(it))));
}

mod yielding {
    use super::*;
    crate::store_conformance!(Wrapping::new(Memory::default(), |it| Arc::new(FaultyStore::yielding(it))));
    crate::store_reference!(
        Wrapping::new(Memory::default(), |it| Arc::new(FaultyStore::yielding(it))),
        runs = 50
    );
}

const ID: RecordId = RecordId::from_bytes([1; 32]);

fn put() -> Put {
    crate::claim(1)
}

fn store() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(Arc::new(HandClock::new())))))
}

async fn is_there(store: &FaultyStore) -> bool {
    store.store.load(ID).await.unwrap().record.is_some()
}

#[tokio::test]
async fn a_fault_tells_its_kind_and_writes_what_it_says() {
    for (fault, kind, written) in [
        (Fault::Refused, ErrorKind::Unavailable, false),
        (Fault::CallLost, ErrorKind::Uncertain, false),
        (Fault::ReplyLost, ErrorKind::Uncertain, true),
        (Fault::Late, ErrorKind::Uncertain, false),
        (Fault::Corrupt, ErrorKind::Corrupt, false),
    ] {
        let store = store();
        store.cue(Op::Insert, 1, fault.clone());
        assert_eq!(store.insert(ID, &put()).await.unwrap_err().kind(), kind, "{fault:?}");
        assert_eq!(is_there(&store).await, written, "{fault:?}");
        assert!(store.load(ID).await.is_ok(), "the cue is spent");
    }
}

#[tokio::test]
async fn the_nth_call_is_counted_from_the_cue() {
    let store = store();
    store.load(ID).await.unwrap();
    store.cue(Op::Load, 2, Fault::Refused);
    store.cue(Op::Load, 3, Fault::CallLost);
    store.insert(ID, &put()).await.unwrap();
    assert!(store.load(ID).await.is_ok());
    assert_eq!(store.load(ID).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.load(ID).await.unwrap_err().kind(), ErrorKind::Uncertain);
    assert!(store.load(ID).await.is_ok());
    assert_eq!(store.ops(), [Op::Load, Op::Insert, Op::Load, Op::Load, Op::Load, Op::Load]);
}

#[tokio::test]
async fn a_late_write_lands_when_it_is_delivered() {
    let store = store();
    store.cue(Op::Insert, 1, Fault::Late);
    store.insert(ID, &put()).await.unwrap_err();
    let landed = store.deliver_late().await.unwrap();
    assert!(matches!(landed[..], [Landed::Insert(Insert::Kept(_))]), "{landed:?}");
    assert!(is_there(&store).await);
    assert!(store.deliver_late().await.unwrap().is_empty(), "once");
}

#[tokio::test]
async fn a_gate_holds_the_call_or_its_reply() {
    for after in [false, true] {
        let store = store();
        let gate = if after { store.gate_after(Op::Insert, 1) } else { store.gate_before(Op::Insert, 1) };
        let mut calls = JoinSet::new();
        let caller = Arc::clone(&store);
        calls.spawn(async move { caller.insert(ID, &put()).await });
        gate.reached().await;
        assert_eq!(is_there(&store).await, after);
        gate.open();
        within(calls.join_next()).await.unwrap().unwrap().unwrap();
        assert!(is_there(&store).await);
    }
}

#[tokio::test]
async fn a_doubled_call_tells_the_first_reply_or_the_second() {
    let first = store();
    first.cue(Op::Insert, 1, Fault::Twice);
    assert!(matches!(first.insert(ID, &put()).await.unwrap(), Insert::Kept(_)));
    let second = store();
    second.cue(Op::Insert, 1, Fault::Repeated);
    assert!(matches!(second.insert(ID, &put()).await.unwrap(), Insert::Found(..)));
}

#[tokio::test]
async fn a_store_that_is_down_fails_every_call_until_it_is_up() {
    let store = store();
    store.down(Fault::Refused);
    assert!(store.check().await.is_err() && store.load(ID).await.is_err() && store.sweep(1).await.is_err());
    store.up();
    assert!(store.check().await.is_ok());
}
