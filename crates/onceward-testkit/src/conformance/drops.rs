//! Callers that go away: a dropped call was carried out wholly or not at all.

use onceward_core::store::{Insert, Put};

use super::Fixture;
use super::sample::{assert_stamped, claim, completion, id, inserted, stored, swapped, take_over};
use crate::patience::for_polls;

/// However often a call was polled before it was dropped, the record is then the old one or the new one, and
/// the store goes on working.
pub async fn a_dropped_call_leaves_all_or_nothing(fixture: &impl Fixture) {
    let store = fixture.open().await;
    for polls in 0..12 {
        let (insert, swap) = (id(&format!("insert {polls}")), id(&format!("swap {polls}")));
        let put = claim(1);
        let told = for_polls(polls, store.insert(insert, &put)).await;
        let found = stored(&store, insert).await;
        if let Some(found) = &found {
            assert_stamped(&put, None, found);
        }
        if let Some(told) = told {
            let Ok(Insert::Kept(kept)) = told else { panic!("the place is vacant, but: {told:?}") };
            assert_eq!(found, Some(kept), "what was answered is so");
        }
        // It may still land; whoever comes now and whatever was dropped, one of the two is kept for good.
        let stands = match store.insert(insert, &claim(2)).await.expect("the store goes on") {
            Insert::Kept(record) => record,
            Insert::Found(record, _) => {
                assert_stamped(&put, None, &record);
                record
            }
            Insert::Late(now) => panic!("there was no limit, but it is late at {now:?}"),
        };
        assert_eq!(stored(&store, insert).await, Some(stands));

        let old = inserted(&store, swap, &claim(1)).await;
        let put = Put { checkpoint: Some("new".into()), ..completion(&old, b"new") };
        let told = for_polls(polls, store.replace(swap, old.revision, &put)).await;
        let found = stored(&store, swap).await.expect("a swap removes nothing");
        if found != old {
            assert_stamped(&put, Some(&old), &found);
        }
        assert!(told.is_none() || found != old, "what was answered is so");
    }
    let last = inserted(&store, id("afterwards"), &claim(1)).await;
    swapped(&store, &last, &take_over(&last, 2)).await;
}
