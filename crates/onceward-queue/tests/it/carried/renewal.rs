//! A renewal that nobody waits for any more, because the effect went out meanwhile, and that is written all the same.

use std::sync::atomic::AtomicU32;

use onceward_core::Revision;
use onceward_core::store::{Put, Replace};
use onceward_testkit::{Wrapped, Wrapper};

use super::*;

/// The second swap, which is the first renewal, is written and never answered.
#[derive(Debug)]
struct Silent {
    inside: Arc<dyn Store>,
    swaps: AtomicU32,
    written: Arc<Notify>,
}

#[async_trait]
impl Wrapper for Silent {
    fn inside(&self) -> &Arc<dyn Store> {
        &self.inside
    }

    async fn replace(&self, id: RecordId, seen: Revision, put: &Put) -> onceward_core::Result<Replace> {
        let told = self.inside.replace(id, seen, put).await;
        if self.swaps.fetch_add(1, Ordering::SeqCst) == 1 {
            self.written.notify_one();
            std::future::pending::<()>().await;
        }
        told
    }
}

#[tokio::test]
async fn what_was_sent_while_its_renewal_was_on_its_way_is_noted_and_goes_out_once() {
    let mut place = Place::new();
    place.done("order", "log", &["paid", "shipped"]).await;
    let written = Arc::new(Notify::new());
    let silent = Silent {
        inside: Arc::<FaultyStore>::clone(&place.store),
        swaps: AtomicU32::new(0),
        written: Arc::clone(&written),
    };
    place.store = Arc::new(FaultyStore::new(Arc::new(Wrapped(silent))).shared());
    let go = Arc::new(Notify::new());
    let script: Script = {
        let go = Arc::clone(&go);
        Arc::new(move |effect| {
            let (go, waits) = (Arc::clone(&go), effect.body == "paid");
            Box::pin(async move {
                if waits {
                    go.notified().await;
                }
                Ok(())
            })
        })
    };
    let relay = place.relay(script);
    place.until(async || place.sent.all().len() == 1).await;
    let mut landed = std::pin::pin!(written.notified());
    place.until(async || futures_util::poll!(&mut landed).is_ready()).await;
    go.notify_one();
    place.until(async || place.sent.all().len() == 2).await;
    place.clock.advance(LEASE * 2);
    place.until(async || place.events.count(&RelayEvent::Sent(1)) == 2).await;
    relay.stop().await;
    assert_eq!(place.sent.texts(), ["paid", "shipped"]);
    place.nothing_is_carried().await;
}
