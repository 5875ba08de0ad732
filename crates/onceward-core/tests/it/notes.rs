//! Notes beside operations.

use std::time::Duration;

use bytes::Bytes;
use onceward_core::store::Filter;
use onceward_core::{Note, Noted};

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

fn kept(noted: Noted) -> Note {
    match noted {
        Noted::Kept(note) => note,
        Noted::Lost(stands) => panic!("{stands:?} stands"),
    }
}

#[tokio::test]
async fn a_note_is_changed_only_by_whoever_saw_what_stands() {
    let world = World::new().await;
    assert_eq!(world.engine.note("tries of m-1").await.unwrap().0, None);
    let first =
        kept(world.engine.set_note("tries of m-1", None, Bytes::from_static(b"1"), HOUR).await.unwrap());
    assert_eq!(world.engine.note("tries of m-1").await.unwrap().0, Some(first.clone()));
    assert_eq!(world.engine.note("tries of m-2").await.unwrap().0, None);

    let stale = world.engine.set_note("tries of m-1", None, Bytes::from_static(b"x"), HOUR).await.unwrap();
    assert_eq!(stale, Noted::Lost(Some(first.clone())));
    let second = Bytes::from_static(b"2");
    let second =
        kept(world.engine.set_note("tries of m-1", Some(first.revision), second, HOUR).await.unwrap());
    let third = Bytes::from_static(b"3");
    let stale = world.engine.set_note("tries of m-1", Some(first.revision), third, HOUR).await.unwrap();
    assert_eq!(stale, Noted::Lost(Some(second)));
}

#[tokio::test]
async fn a_note_that_is_over_counts_as_none() {
    let world = World::new().await;
    let first = kept(world.engine.set_note("n", None, Bytes::from_static(b"1"), HOUR).await.unwrap());
    world.clock.advance(HOUR);
    assert_eq!(world.engine.note("n").await.unwrap().0, None);
    let second = kept(world.engine.set_note("n", None, Bytes::from_static(b"2"), HOUR).await.unwrap());
    assert!(second.revision > first.revision);
    while world.engine.maintain().await.unwrap().more {}
    assert_eq!(world.engine.note("n").await.unwrap().0, Some(second));
}

#[tokio::test]
async fn no_listing_shows_a_note_and_it_goes_by_itself() {
    let world = World::new().await;
    kept(world.engine.set_note("n", None, Bytes::from_static(b"1"), HOUR).await.unwrap());
    assert_eq!(world.engine.list(&Filter::default(), None, 10).await.unwrap().records, []);
    world.clock.advance(HOUR);
    assert_eq!(world.engine.maintain().await.unwrap().removed, 0, "it settles first");
    world.clock.advance(HOUR);
    assert_eq!(world.engine.maintain().await.unwrap().removed, 1);
}
