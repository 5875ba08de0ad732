//! Publishes, and waits until every replica that counts has it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use onceward_core::Result;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::context::Outside;
use super::error;
use super::settings::KafkaSettings;
use crate::message::Message;

/// How long a place in the queue of the client is waited for.
const QUEUE_MAX: Duration = Duration::from_secs(5);

pub(super) async fn publish(
    settings: &KafkaSettings,
    kept: &Mutex<Option<FutureProducer<Outside>>>,
    message: &Message,
) -> Result<()> {
    let producer = producer(settings, kept)?;
    let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
        headers.insert(Header { key: name, value: Some(&value[..]) })
    });
    let mut record = FutureRecord::to(&message.topic).payload(&message.body[..]).headers(headers);
    record.key = message.key.as_deref();
    let Err((failed, _)) = producer.send(record, QUEUE_MAX).await else { return Ok(()) };
    if failed.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
        // A producer that lost count publishes nothing any more. Another one may.
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    Err(error::of_publish(failed))
}

fn producer(
    settings: &KafkaSettings,
    kept: &Mutex<Option<FutureProducer<Outside>>>,
) -> Result<FutureProducer<Outside>> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(producer) = &*kept {
        return Ok(producer.clone());
    }
    let made: FutureProducer<Outside> =
        settings.producer().create_with_context(Outside).map_err(error::of_client)?;
    Ok(kept.insert(made).clone())
}
