//! Those who wait for a permit of this process, and the permit's end.

use std::sync::Arc;

use loom::future::block_on;
use loom::thread;
use onceward_core::RecordId;

use crate::every_interleaving;
use crate::flight::Flights;

const ONE: RecordId = RecordId::from_bytes([1; 32]);

fn spawn<T: 'static>(
    flights: &Arc<Flights>,
    run: impl FnOnce(Arc<Flights>) -> T + 'static,
) -> thread::JoinHandle<T> {
    let flights = Arc::clone(flights);
    thread::spawn(move || run(flights))
}

/// Loom ends a model in which a thread sleeps that nobody will wake, and says so.
#[test]
fn whoever_waits_for_a_permit_is_woken_by_its_end() {
    every_interleaving(3, || {
        let flights = Arc::new(Flights::default());
        let permit = flights.take_off(ONE);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                spawn(&flights, |flights| {
                    // Whoever comes too late to see the permit asks the store again.
                    if let Some(landing) = flights.landing(ONE) {
                        block_on(landing);
                    }
                })
            })
            .collect();
        drop(permit);
        waiters.into_iter().for_each(|it| it.join().unwrap());
        assert!(flights.landing(ONE).is_none(), "nothing of it is left");
    });
}

#[test]
fn an_end_between_the_look_and_the_first_poll_is_not_missed() {
    every_interleaving(3, || {
        let flights = Arc::new(Flights::default());
        let permit = flights.take_off(ONE);
        let landing = flights.landing(ONE).unwrap();
        let ends = thread::spawn(move || drop(permit));
        block_on(landing);
        ends.join().unwrap();
    });
}

#[test]
fn the_end_of_a_permit_leaves_its_successor_alone() {
    every_interleaving(3, || {
        let flights = Arc::new(Flights::default());
        let first = flights.take_off(ONE);
        let waiter = flights.landing(ONE).unwrap();
        let successor = spawn(&flights, |flights| flights.take_off(ONE));
        drop(first);
        // Who waited for the first is woken by its end, whoever came after it.
        block_on(waiter);
        let second = successor.join().unwrap();
        let landing = flights.landing(ONE).expect("the successor is out");
        drop(second);
        block_on(landing);
        assert!(flights.landing(ONE).is_none());
    });
}

#[test]
fn so_many_wait_at_once_and_never_more_and_each_gives_its_place_back() {
    const MAX: usize = 2;
    every_interleaving(2, || {
        let flights = Arc::new(Flights::default());
        let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let inside = Arc::clone(&inside);
                spawn(&flights, move |flights| {
                    use std::sync::atomic::Ordering::SeqCst;
                    let place = flights.wait(ONE, MAX);
                    if place.is_some() {
                        assert!(inside.fetch_add(1, SeqCst) < MAX, "more wait than may");
                        thread::yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                    place.is_some()
                })
            })
            .collect();
        let waited = waiters.into_iter().map(|it| it.join().unwrap()).filter(|it| *it).count();
        assert!(waited >= MAX, "places were left empty");
        // All of them are free again.
        let places: Vec<_> = (0..MAX).map(|_| flights.wait(ONE, MAX).expect("a place is free")).collect();
        assert!(flights.wait(ONE, MAX).is_none());
        drop(places);
    });
}
