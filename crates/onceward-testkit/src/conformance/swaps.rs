//! Replaces: every change of an existing record is a compare-and-swap on its revision.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use onceward_core::store::{Insert, Put, Replace};
use onceward_core::{Record, Revision, Store, Timestamp};
use tokio::task::JoinSet;

use super::Fixture;
use super::sample::{
    HOUR, brief_completion, claim, completion, id, inserted, now, owner, pass, release, renewal, replaced,
    stored, swapped, swept, take_over,
};

/// Law 2: of any number of racing swaps on one revision exactly one is kept; the others see its record.
pub async fn racing_replaces_have_one_winner(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let beside = fixture.beside(&store).await;
    let handles: Vec<_> = std::iter::once(Arc::clone(&store)).chain(beside).collect();
    for round in 0..8 {
        let before = inserted(&store, id(&format!("swap {round}")), &claim(1)).await;
        let mut racers = JoinSet::new();
        for (number, store) in (2..=33).zip(handles.iter().cycle().cloned()) {
            let before = before.clone();
            racers.spawn(async move { replaced(&store, &before, &take_over(&before, number)).await });
        }
        let (mut kept, mut shown) = (Vec::new(), Vec::new());
        for told in crate::within(racers.join_all()).await {
            match told {
                Replace::Kept(record) => kept.push(record),
                Replace::Lost(record, _) => shown.push(record.expect("losers are shown the record")),
                Replace::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
            }
        }
        assert_eq!((kept.len(), shown.len()), (1, 31), "one of 32 is kept");
        assert!(shown.iter().all(|it| *it == kept[0]), "losers are shown the winner's record");
        assert_eq!(stored(&store, before.id).await.as_ref(), kept.first());
    }
}

/// Law 2: a swap on a revision that is not the stored one, older or never seen, changes nothing.
pub async fn a_stale_revision_changes_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let first = inserted(&store, id("stale"), &claim(1)).await;
    let second = swapped(&store, &first, &take_over(&first, 2)).await;
    for seen in [first.revision, Revision(0), Revision(second.revision.0 + 1), Revision(u64::MAX)] {
        for put in [renewal(&first), completion(&first, b"late"), release(&first), take_over(&first, 3)] {
            let told = store.replace(first.id, seen, &put).await.expect("a replace is answered");
            assert!(matches!(&told, Replace::Lost(Some(it), _) if *it == second), "{told:?}");
            assert_eq!(stored(&store, first.id).await.as_ref(), Some(&second));
        }
    }
}

/// Law 2: a swap on a record that never was creates nothing.
pub async fn a_swap_on_an_absent_record_creates_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let elsewhere = inserted(&store, id("elsewhere"), &claim(1)).await;
    for seen in [elsewhere.revision, Revision(0), Revision(u64::MAX)] {
        for put in [claim(2), renewal(&elsewhere), completion(&elsewhere, b"x")] {
            let told = store.replace(id("absent"), seen, &put).await.expect("a replace is answered");
            assert!(matches!(told, Replace::Lost(None, _)), "{told:?}");
        }
    }
    assert_eq!(stored(&store, id("absent")).await, None);
}

/// Law 2: a swap on a record that was removed creates nothing, on any revision that it ever had. A store
/// whose clock is its own cannot be made to remove within a test; there the record must still stand.
pub async fn a_swap_after_removal_creates_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let running = inserted(&store, id("removed"), &claim(1)).await;
    let ended = swapped(&store, &running, &release(&running)).await;
    if fixture.clock().is_some() {
        pass(fixture, &store, HOUR).await;
        assert_eq!(swept(&store).await.removed, 1, "a released record goes");
    }
    let stands = stored(&store, ended.id).await;
    assert_eq!(stands, fixture.clock().is_none().then(|| ended.clone()));
    // On its last revision it could be swapped where it still stands: only the older one is tried there.
    let seen = if stands.is_some() { vec![running.clone()] } else { vec![running.clone(), ended] };
    for seen in seen {
        let told = replaced(&store, &seen, &completion(&running, b"late")).await;
        assert!(matches!(&told, Replace::Lost(it, _) if *it == stands), "{told:?}");
        assert_eq!(stored(&store, running.id).await, stands);
    }
}

/// Law 7: the same swap sent twice is kept once; the second copy loses and is shown its own owner and fence.
pub async fn the_same_replace_twice_is_lost_and_shows_the_owner(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let before = inserted(&store, id("twice"), &claim(1)).await;
    let put = take_over(&before, 9);
    let after = swapped(&store, &before, &put).await;
    let told = replaced(&store, &before, &put).await;
    let Replace::Lost(Some(shown), _) = told else { panic!("the copy was answered {told:?}") };
    assert_eq!(shown, after);
    assert_eq!((shown.owner, shown.fence), (owner(9), after.fence));
}

/// Law 11: a call that arrives after its time writes nothing, and says so with the store's time.
pub async fn a_put_past_its_not_after_writes_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let before = now(&store).await;
    let past = Timestamp::from_millis(before.as_millis() - 1);
    let late = Put { not_after: past, ..claim(1) };
    let told = store.insert(id("late"), &late).await.expect("an insert is answered");
    assert!(matches!(told, Insert::Late(now) if now >= before), "{told:?}");
    assert_eq!(stored(&store, id("late")).await, None);

    let record = inserted(&store, id("kept"), &Put { not_after: before.after(HOUR), ..claim(1) }).await;
    for put in [renewal(&record), completion(&record, b"late"), take_over(&record, 2)] {
        let told = replaced(&store, &record, &Put { not_after: past, ..put }).await;
        assert!(matches!(told, Replace::Late(now) if now >= before), "{told:?}");
    }
    assert_eq!(stored(&store, record.id).await, Some(record));
}

/// A record is whole at any time, and its changes form one chain, however many write at once: the revision
/// that each kept swap had seen is the one that the kept swap before it wrote.
pub async fn hundreds_of_concurrent_calls_on_many_records_keep_every_record_whole(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let mut writers = JoinSet::new();
    for writer in 0..200_u8 {
        let store = Arc::clone(&store);
        let id = id(&format!("shared {}", writer % 20));
        writers.spawn(async move { write_some(&store, id, writer).await });
    }
    let mut successors: HashMap<_, Arc<Record>> = HashMap::new();
    let mut records: HashMap<_, u32> = HashMap::new();
    for (seen, record) in crate::within(writers.join_all()).await.into_iter().flatten() {
        *records.entry(record.id).or_default() += 1;
        let twice = successors.insert((record.id, seen), record);
        assert_eq!(twice, None, "two swaps on one revision were kept");
    }
    assert_eq!(records.len(), 20, "every record was written");
    for (id, writes) in records {
        let (mut at, mut length) = (None, 0);
        while let Some(next) = successors.get(&(id, at)) {
            at = Some(next.revision);
            length += 1;
        }
        assert_eq!(length, writes, "the kept writes form one chain");
        assert_eq!(stored(&store, id).await.map(|it| it.revision), at, "whose end is what is stored");
    }

    // A brief answer among busy records is swept and disturbs none of them.
    let other = inserted(&store, super::sample::id("other"), &claim(1)).await;
    let done = brief_completion(&other, std::time::Duration::from_millis(1), HOUR);
    swapped(&store, &other, &done).await;
    pass(fixture, &store, std::time::Duration::from_millis(10)).await;
    assert_eq!(swept(&store).await.tombstones, 1);
}

/// Writes a few times and gives back what was kept: the revision seen, and the record.
async fn write_some(
    store: &Arc<dyn Store>,
    id: onceward_core::RecordId,
    writer: u8,
) -> Vec<(Option<Revision>, Arc<Record>)> {
    let mut kept = Vec::new();
    let body = |step: u8| Some(Bytes::from(vec![writer; 100 + usize::from(step)]));
    let first = Put { checkpoint: body(0), ..claim(writer) };
    let mut seen = match store.insert(id, &first).await.expect("an insert is answered") {
        Insert::Kept(record) => {
            kept.push((None, record.clone()));
            record
        }
        Insert::Found(record, _) => record,
        Insert::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
    };
    for step in 1..6 {
        let put = Put { checkpoint: body(step), ..take_over(&seen, writer) };
        let put = Put { listing: claim(writer).listing, fingerprint: claim(writer).fingerprint, ..put };
        seen = match replaced(store, &seen, &put).await {
            Replace::Kept(record) => {
                super::sample::assert_stamped(&put, Some(&seen), &record);
                kept.push((Some(seen.revision), record.clone()));
                record
            }
            Replace::Lost(record, _) => record.expect("nobody removes it"),
            Replace::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
        };
        assert_whole(&seen);
        assert_whole(&stored(store, id).await.expect("nobody removes it"));
    }
    kept
}

/// Every part of the record comes from the same writer.
fn assert_whole(record: &Record) {
    let checkpoint = record.checkpoint.as_ref().expect("every writer saves one");
    let writer = checkpoint[0];
    assert!(checkpoint.iter().all(|it| *it == writer));
    assert_eq!(record.owner, owner(writer));
    assert_eq!((&record.listing, record.fingerprint), (&claim(writer).listing, claim(writer).fingerprint));
}
