//! Lanes that are taken away: from hands that are full, and for so short a time that what ran has not ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use onceward_core::store::memory::MemoryStore;
use onceward_core::{Engine, Result, SystemClock};
use onceward_queue::source::{Arrival, Capabilities};
use onceward_queue::{
    Consumer, ConsumerSettings, Delivery, Failure, Handling, Identity, Lane, Message, Receipt, Seen, Source,
};
use onceward_testkit::within;
use tokio::sync::{Mutex, Notify, mpsc};

/// A source that delivers what a test says.
#[derive(Debug)]
struct Script {
    arrivals: Mutex<mpsc::UnboundedReceiver<Arrival>>,
    revocations: Mutex<mpsc::UnboundedReceiver<Arrival>>,
    acknowledged: mpsc::UnboundedSender<Receipt>,
    drained: mpsc::UnboundedSender<Lane>,
}

/// What a test tells a script, and hears of it.
struct Hand {
    arrive: mpsc::UnboundedSender<Arrival>,
    revoke: mpsc::UnboundedSender<Arrival>,
    done: mpsc::UnboundedReceiver<Receipt>,
    let_go: mpsc::UnboundedReceiver<Lane>,
}

impl Script {
    fn new() -> (Self, Hand) {
        let (arrive, arrivals) = mpsc::unbounded_channel();
        let (revoke, revocations) = mpsc::unbounded_channel();
        let (acknowledged, done) = mpsc::unbounded_channel();
        let (drained, let_go) = mpsc::unbounded_channel();
        let (arrivals, revocations) = (Mutex::new(arrivals), Mutex::new(revocations));
        (Self { arrivals, revocations, acknowledged, drained }, Hand { arrive, revoke, done, let_go })
    }
}

#[async_trait]
impl Source for Script {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "script",
            ordered: true,
            visible_for: None,
            delays: Duration::ZERO,
            tells_redelivery: false,
            stable_position: true,
        }
    }

    async fn receive(&self, _max: usize) -> Result<Vec<Arrival>> {
        match self.arrivals.lock().await.recv().await {
            Some(arrival) => Ok(vec![arrival]),
            None => std::future::pending().await,
        }
    }

    async fn revoked(&self) -> Vec<Arrival> {
        match self.revocations.lock().await.recv().await {
            Some(revoked) => vec![revoked],
            None => std::future::pending().await,
        }
    }

    async fn drained(&self, lane: &Lane) {
        self.drained.send(lane.clone()).unwrap();
    }

    async fn extend(&self, _receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        for receipt in receipts {
            self.acknowledged.send(receipt.clone()).unwrap();
        }
        Ok(())
    }

    async fn give_back(&self, _receipts: &[Receipt], _pause: Duration) -> Result<()> {
        Ok(())
    }

    async fn publish(&self, _message: &Message) -> Result<()> {
        Ok(())
    }

    async fn close(&self) {}
}

fn delivery(id: &str, session: u64) -> Arrival {
    let id = Bytes::copy_from_slice(id.as_bytes());
    let headers = vec![("event-id".into(), id.clone())];
    Arrival::Delivered(Delivery {
        message: Arc::new(Message { topic: "orders".into(), key: None, headers, body: id }),
        receipt: Receipt { lane: Lane("orders/0".into()), session, number: 0, token: "".into() },
        position: None,
        seen: Seen::Perhaps,
    })
}

fn engine() -> Engine {
    Engine::new(Arc::new(MemoryStore::new(Arc::new(SystemClock))))
}

#[tokio::test]
async fn full_hands_still_hear_which_lane_is_taken_away() {
    let (source, mut hand) = Script::new();
    let hangs = Arc::new(Notify::new());
    let hung = Arc::clone(&hangs);
    let settings = ConsumerSettings { parallel: 1, in_hand_max: 1, ..ConsumerSettings::default() };
    let consumer = Consumer::new("billing", source, engine())
        .key(Identity::header("event-id"))
        .settings(settings)
        .handler(move |_| {
            hangs.notify_one();
            std::future::pending()
        });
    let script = async {
        hand.arrive.send(delivery("hangs", 1)).unwrap();
        hung.notified().await;
        let lane = Lane("orders/1".into());
        hand.revoke.send(Arrival::Revoked { lane, lost: false }).unwrap();
        hand.let_go.recv().await.unwrap()
    };
    let lane = within(async {
        tokio::select! {
            ended = consumer.run(std::future::pending()) => panic!("{ended:?}"),
            lane = script => lane,
        }
    })
    .await;
    assert_eq!(&*lane.0, "orders/1");
}

#[tokio::test]
async fn what_a_lane_delivers_once_it_is_back_is_not_forgotten_with_what_it_had() {
    let (source, mut hand) = Script::new();
    let engine = engine();
    let (hangs, tries) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let hung = Arc::clone(&hangs);
    let consumer = Consumer::new("billing", source, engine).key(Identity::header("event-id")).handler(
        move |it: Handling| {
            let (hangs, tries) = (Arc::clone(&hangs), Arc::clone(&tries));
            async move {
                match it.key.as_str() {
                    "hangs" => {
                        hangs.notify_one();
                        std::future::pending().await
                    }
                    _ if tries.fetch_add(1, Ordering::SeqCst) == 0 => Err(Failure::retry("once more")),
                    _ => Ok(()),
                }
            }
        },
    );
    let script = async {
        hand.arrive.send(delivery("hangs", 1)).unwrap();
        hung.notified().await;
        // The broker does not wait for it as long as the consumer would.
        hand.arrive.send(Arrival::Revoked { lane: Lane("orders/0".into()), lost: false }).unwrap();
        hand.arrive.send(delivery("again", 2)).unwrap();
        hand.done.recv().await.unwrap()
    };
    let receipt = within(async {
        tokio::select! {
            ended = consumer.run(std::future::pending()) => panic!("{ended:?}"),
            receipt = script => receipt,
        }
    })
    .await;
    assert_eq!(receipt.session, 2);
}
