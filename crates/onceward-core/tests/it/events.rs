//! What whoever counts is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use onceward_core::{Engine, Event, Observer};
use onceward_testkit::{Fault, Op, SeededEntropy};

use crate::world::{SECOND, World, answer, ask, begin, granted, pay, waiting, word};

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Event>>);

impl Observer for Heard {
    fn on(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Heard {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn listening(world: &World) -> (Engine, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let store: Arc<dyn onceward_core::Store> = world.store.clone();
    let (clock, entropy) = (Arc::new(world.clock.clone()), Arc::new(SeededEntropy::new(9)));
    let observer: Arc<dyn Observer> = heard.clone();
    (Engine::with(store, Default::default(), clock, entropy, observer), heard)
}

#[tokio::test]
async fn each_outcome_is_told_once() {
    let world = World::new().await;
    let (engine, heard) = listening(&world);
    let attempt = pay(&engine).await;
    let permit = granted(&engine, &attempt).await;
    begin(&engine, &attempt).await;
    begin(&engine, &ask(&engine, "k-1", "other").await).await;
    assert_eq!(heard.take(), [Event::Granted { attempt: 1 }, Event::Busy, Event::Mismatch]);
    permit.complete(answer("paid")).await.unwrap();
    begin(&engine, &attempt).await;
    assert_eq!(heard.take(), [Event::Completed { answer_bytes: 4 }, Event::Replayed { cached: true }]);
    world.clock.advance(attempt.policy.retention);
    begin(&engine, &attempt).await;
    assert_eq!(heard.take(), [Event::Gone]);

    let other = ask(&engine, "k-2", "x").await;
    granted(&engine, &other).await.release().await.unwrap();
    granted(&engine, &other).await.abandon("x").await.unwrap();
    begin(&engine, &other).await;
    let [first, second] = [1, 2].map(|attempt| Event::Granted { attempt });
    assert_eq!(heard.take(), [first, Event::Released, second, Event::Abandoned, Event::Unresolved]);
}

#[tokio::test]
async fn a_completion_whose_reply_was_lost_is_counted() {
    let world = World::new().await;
    let (engine, heard) = listening(&world);
    let permit = granted(&engine, &pay(&engine).await).await;
    heard.take();
    world.store.cue(Op::Replace, 1, Fault::ReplyLost);
    world.drive(Duration::from_millis(10), permit.complete(answer("paid"))).await.unwrap();
    assert_eq!(heard.take(), [Event::FinishRetried, Event::Completed { answer_bytes: 4 }]);
}

#[tokio::test]
async fn a_wait_is_told_however_it_ends() {
    let world = World::new().await;
    let (engine, heard) = listening(&world);
    let attempt = pay(&engine).await;
    let _permit = granted(&engine, &attempt).await;
    heard.take();
    let told = world.drive(SECOND, engine.begin(&waiting(&attempt, 3 * SECOND))).await.unwrap();
    assert_eq!(word(&told), "busy");
    assert_eq!(heard.take(), [Event::Waited(3 * SECOND), Event::Busy]);
}
