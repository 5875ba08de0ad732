//! What arrived, where a test asks a source itself.

use onceward_queue::source::Arrival;
use onceward_queue::{Delivery, Seen, Source};
use onceward_testkit::within;

/// The next delivery, which comes alone.
pub(crate) async fn next(source: &dyn Source) -> Delivery {
    let mut arrivals = within(source.receive(1)).await.unwrap();
    match arrivals.pop() {
        Some(Arrival::Delivered(delivery)) if arrivals.is_empty() => delivery,
        other => panic!("{other:?}"),
    }
}

/// Whether it is the message with this payload, and what the broker says of it.
pub(crate) fn is(delivery: &Delivery, id: &str, seen: Seen) -> bool {
    (&delivery.message.body[..], delivery.seen) == (id.as_bytes(), seen)
}
