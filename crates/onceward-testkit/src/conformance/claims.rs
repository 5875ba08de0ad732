//! Inserts: one is kept, and whoever loses is told by whom.

use std::sync::Arc;

use onceward_core::Store;
use onceward_core::store::Insert;
use tokio::task::JoinSet;

use super::Fixture;
use super::sample::{claim, completion, id, inserted, owner, stored, swapped};

/// Every handle that there is on the data of `store`.
async fn handles(fixture: &impl Fixture, store: &Arc<dyn Store>) -> Vec<Arc<dyn Store>> {
    std::iter::once(Arc::clone(store)).chain(fixture.beside(store).await).collect()
}

/// Law 1: of any number of racing inserts exactly one is kept, and the others get the winner's record.
pub async fn of_racing_inserts_one_is_kept(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let handles = handles(fixture, &store).await;
    for round in 0..8 {
        let id = id(&format!("race {round}"));
        let mut racers = JoinSet::new();
        for (number, store) in (1..=32).zip(handles.iter().cycle().cloned()) {
            racers
                .spawn(async move { store.insert(id, &claim(number)).await.expect("an insert is answered") });
        }
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        for told in crate::within(racers.join_all()).await {
            match told {
                Insert::Kept(record) => kept.push(record),
                Insert::Found(record, _) => found.push(record),
                Insert::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
            }
        }
        assert_eq!((kept.len(), found.len()), (1, 31), "one of 32 is kept");
        assert!(found.iter().all(|it| *it == kept[0]), "losers get the winner's record");
        assert_eq!(stored(&store, id).await.as_ref(), kept.first(), "and it is what is stored");
    }
}

/// Law 1: a loser changes nothing: no field, no time, no place in a listing.
pub async fn a_loser_writes_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let first = inserted(&store, id("one"), &claim(1)).await;
    let mut second = claim(2);
    second.wake_after = Some(std::time::Duration::ZERO);
    for _ in 0..3 {
        let told = store.insert(first.id, &second).await.expect("an insert is answered");
        let Insert::Found(found, _) = told else { panic!("a second insert was answered {told:?}") };
        assert_eq!(found, first);
    }
    assert_eq!(stored(&store, first.id).await, Some(first.clone()));
    let page = store.list(&Default::default(), None, 10).await.expect("a listing is answered");
    assert_eq!(page.records, [first]);
    let due = store
        .due(onceward_core::store::Due::Wake.start(), 10)
        .await
        .expect("what is due is answered")
        .records;
    assert_eq!(due, []);
}

/// Law 7: the same insert sent twice is kept once; the second copy is shown its own record.
pub async fn the_same_insert_twice_finds_the_first(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let put = claim(7);
    let first = inserted(&store, id("twice"), &put).await;
    let told = store.insert(first.id, &put).await.expect("an insert is answered");
    let Insert::Found(found, now) = told else { panic!("the copy was answered {told:?}") };
    assert_eq!(found, first);
    assert_eq!(found.owner, owner(7), "the caller knows it by its token");
    assert!(now >= first.updated);
}

/// An insert never covers what is there, whatever has become of it.
pub async fn an_insert_on_a_finished_record_finds_it(fixture: &impl Fixture) {
    let store = fixture.open().await;
    let running = inserted(&store, id("done"), &claim(1)).await;
    let done = swapped(&store, &running, &completion(&running, b"42")).await;
    let told = store.insert(done.id, &claim(2)).await.expect("an insert is answered");
    assert!(matches!(&told, Insert::Found(found, _) if *found == done), "{told:?}");
}
