//! SQS: one queue, standard or FIFO.
//!
//! Headers are message attributes, of which SQS takes ten. The group of a FIFO message is its [`key`](Message::key); a standard
//! queue has none. A body that is no text goes as Base64, under the attribute `body-encoding`.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    Message as Native, MessageSystemAttributeName as System,
};
use onceward_core::{Error, ErrorKind, Result};

use self::error::translate;
use super::{Arrival, Capabilities, Source};
use crate::message::{Delivery, Lane, Message, Receipt, Seen};
use crate::windows::{Kept, Windows};

mod credentials;
mod error;
mod message;
mod settings;

pub use self::settings::SqsSettings;

/// How many messages a call may name.
const BATCH: usize = 10;

/// The longest that SQS waits before it delivers again: 12 h since it was received, less what its handler may have taken.
const DELAYS: Duration = Duration::from_secs(11 * 3600);

/// The longest that SQS keeps a delivery for its consumer, all extensions included.
const VISIBLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// What SQS says of a queue, as far as it does.
struct Attributes {
    kept: Option<Kept>,
    /// The queue of dead letters, and after how many deliveries a message goes there.
    redrive: Option<(String, u32)>,
    /// How many messages wait or are in hand.
    messages: Option<u64>,
}

/// Reads a redrive policy. The count is a number or a text, as whoever set it wrote it.
fn redrive(policy: &str) -> Option<(String, u32)> {
    let policy: serde_json::Value = serde_json::from_str(policy).ok()?;
    let queue = policy["deadLetterTargetArn"].as_str()?.rsplit(':').next()?.to_owned();
    let most = &policy["maxReceiveCount"];
    let most = most.as_u64().or_else(|| most.as_str()?.parse().ok())?;
    Some((queue, u32::try_from(most).unwrap_or(u32::MAX)))
}

/// A consumer of a queue.
pub struct Sqs {
    settings: SqsSettings,
    client: Client,
    topic: Arc<str>,
    lane: Lane,
    next: AtomicU64,
    /// What is in hand, for `close`.
    in_hand: Mutex<HashMap<u64, Receipt>>,
}

impl Sqs {
    /// A consumer of the queue. Asks nobody yet.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub fn new(settings: SqsSettings) -> Result<Self> {
        let client = settings.client();
        Self::with_client(client, settings)
    }

    /// The same with a client of the caller's.
    ///
    /// # Errors
    /// `Invalid`: the settings cannot be.
    pub fn with_client(client: Client, settings: SqsSettings) -> Result<Self> {
        settings.check()?;
        Ok(Self {
            topic: settings.name().into(),
            lane: Lane(settings.name().into()),
            settings,
            client,
            next: AtomicU64::new(0),
            in_hand: Mutex::default(),
        })
    }

    fn is_fifo(name: &str) -> bool {
        name.ends_with(".fifo")
    }

    fn in_hand(&self) -> MutexGuard<'_, HashMap<u64, Receipt>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL of the queue that a topic is: of the same account, unless it is a URL itself.
    fn url(&self, topic: &str) -> String {
        if topic.contains("://") {
            return topic.to_owned();
        }
        let account = self.settings.queue.strip_suffix(self.settings.name()).unwrap_or_default();
        format!("{account}{topic}")
    }

    /// What SQS says of a queue.
    async fn attributes(&self, queue: &str) -> Result<Attributes> {
        use aws_sdk_sqs::types::QueueAttributeName as Name;
        let names = [
            Name::MessageRetentionPeriod,
            Name::RedrivePolicy,
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
        ];
        let call =
            self.client.get_queue_attributes().queue_url(queue).set_attribute_names(Some(names.to_vec()));
        let told = call.send().await.map_err(|it| translate("ask for the attributes of a queue", it))?;
        let value = |name: Name| told.attributes().and_then(|it| it.get(&name));
        let number = |name: Name| value(name).and_then(|it| it.parse::<u64>().ok());
        let waiting = number(Name::ApproximateNumberOfMessages);
        Ok(Attributes {
            kept: number(Name::MessageRetentionPeriod).map(|it| Kept::For(Duration::from_secs(it))),
            redrive: value(Name::RedrivePolicy).and_then(|it| redrive(it)),
            messages: waiting
                .map(|it| it + number(Name::ApproximateNumberOfMessagesNotVisible).unwrap_or_default()),
        })
    }

    fn delivery(&self, native: &Native) -> Option<Delivery> {
        let handle = native.receipt_handle()?;
        let count = native.attributes().and_then(|it| it.get(&System::ApproximateReceiveCount));
        let receipt = Receipt {
            lane: self.lane.clone(),
            // A handle belongs to no connection.
            session: 0,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            token: handle.into(),
        };
        self.in_hand().insert(receipt.number, receipt.clone());
        Some(Delivery {
            message: Arc::new(message::read(&self.topic, native)),
            position: native.message_id().map(|it| format!("{}/{it}", self.topic).into()),
            receipt,
            seen: match count.and_then(|it| it.parse::<u32>().ok()) {
                Some(count) if count > 1 => Seen::Before(Some(count)),
                // It is called approximate, and a standard queue may deliver twice.
                _ => Seen::Perhaps,
            },
        })
    }

    /// Lets these be seen again after `pause`; gives back those whose handle is no longer of use.
    async fn show_after(
        &self,
        doing: &'static str,
        receipts: &[Receipt],
        pause: Duration,
    ) -> Result<Vec<Receipt>> {
        let mut lost = Vec::new();
        for some in receipts.chunks(BATCH) {
            let entries = some.iter().enumerate().map(|(number, it)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(number.to_string())
                    .receipt_handle(&*it.token)
                    .visibility_timeout(seconds(pause))
                    .build()
                    .expect("it has an id and a handle")
            });
            let call = self.client.change_message_visibility_batch().queue_url(&self.settings.queue);
            let told = call.set_entries(Some(entries.collect())).send().await;
            let told = told.map_err(|it| translate(doing, it))?;
            lost.extend(failed(doing, some, told.failed())?);
        }
        let mut in_hand = self.in_hand();
        for receipt in &lost {
            in_hand.remove(&receipt.number);
        }
        Ok(lost)
    }
}

/// Those of a batch that were refused because of what they are: their handle is too old.
///
/// # Errors
/// One failed for another reason.
fn failed(doing: &'static str, asked: &[Receipt], failed: &[BatchResultErrorEntry]) -> Result<Vec<Receipt>> {
    if failed.iter().any(|it| !it.sender_fault()) {
        return Err(Error::new(ErrorKind::Unavailable, doing));
    }
    let of = |it: &BatchResultErrorEntry| asked.get(it.id().parse::<usize>().ok()?).cloned();
    Ok(failed.iter().filter_map(of).collect())
}

/// Whole seconds, rounded up: nothing is seen too early.
fn seconds(it: Duration) -> i32 {
    i32::try_from(it.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

#[async_trait]
impl Source for Sqs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "sqs",
            ordered: Self::is_fifo(&self.topic),
            visible_for: Some(self.settings.visible_for),
            delays: DELAYS,
            tells_redelivery: true,
            stable_position: true,
        }
    }

    async fn receive(&self, max: usize) -> Result<Vec<Arrival>> {
        loop {
            let call = self.client.receive_message().queue_url(&self.settings.queue);
            let told = call
                .max_number_of_messages(i32::try_from(max.clamp(1, BATCH)).unwrap_or(1))
                .wait_time_seconds(seconds(self.settings.wait))
                .visibility_timeout(seconds(self.settings.visible_for))
                .message_system_attribute_names(System::ApproximateReceiveCount)
                .message_system_attribute_names(System::MessageGroupId)
                .message_attribute_names("All")
                .send()
                .await
                .map_err(|it| translate("receive messages", it))?;
            let arrivals: Vec<_> = told.messages().iter().filter_map(|it| self.delivery(it)).collect();
            if !arrivals.is_empty() {
                return Ok(arrivals.into_iter().map(Arrival::Delivered).collect());
            }
        }
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<Vec<Receipt>> {
        self.show_after("extend deliveries", receipts, self.settings.visible_for).await
    }

    async fn acknowledge(&self, receipts: &[Receipt]) -> Result<()> {
        let doing = "acknowledge deliveries";
        let mut late = false;
        for receipt in receipts {
            self.in_hand().remove(&receipt.number);
        }
        for some in receipts.chunks(BATCH) {
            let entries = some.iter().enumerate().map(|(number, it)| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(number.to_string())
                    .receipt_handle(&*it.token)
                    .build()
                    .expect("it has an id and a handle")
            });
            let call = self.client.delete_message_batch().queue_url(&self.settings.queue);
            let told = call.set_entries(Some(entries.collect())).send().await;
            let told = told.map_err(|it| translate(doing, it))?;
            late |= !failed(doing, some, told.failed())?.is_empty();
        }
        if late {
            // Somebody else has it by now, or will; it is known by then.
            return Err(Error::new(ErrorKind::Unavailable, "acknowledge deliveries whose time is over"));
        }
        Ok(())
    }

    async fn give_back(&self, receipts: &[Receipt], pause: Duration) -> Result<()> {
        self.show_after("give deliveries back", receipts, pause.min(DELAYS)).await?;
        let mut in_hand = self.in_hand();
        for receipt in receipts {
            in_hand.remove(&receipt.number);
        }
        Ok(())
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let sent = message::write(message)?;
        let mut call = self
            .client
            .send_message()
            .queue_url(self.url(&message.topic))
            .message_body(sent.body)
            .set_message_attributes(Some(sent.attributes));
        if Self::is_fifo(&message.topic) {
            let (group, repeats) = message::order(message, &self.settings.repeats_by)?;
            call = call.message_group_id(group).message_deduplication_id(repeats);
        }
        call.send().await.map(drop).map_err(|it| translate("publish a message", it))
    }

    async fn windows(&self) -> Result<Windows> {
        let own = self.attributes(&self.settings.queue).await?;
        let mut windows = Windows { kept: own.kept, held_max: Some(VISIBLE_MAX), ..Windows::default() };
        if let Some((queue, most)) = own.redrive {
            windows.deliveries_max = Some(most);
            // Whoever may not ask of that queue is told of this one.
            if let Ok(Attributes { kept: Some(Kept::For(dead)), .. }) =
                self.attributes(&self.url(&queue)).await
            {
                let from_now = Self::is_fifo(&queue);
                windows.dead_letters_kept = match windows.kept {
                    // In a standard queue the time runs on from when the message was sent first.
                    Some(Kept::For(kept)) if !from_now => Some(Kept::For(dead.saturating_sub(kept))),
                    _ => Some(Kept::For(dead)),
                };
            }
        }
        Ok(windows)
    }

    async fn lag(&self) -> Result<Option<u64>> {
        Ok(self.attributes(&self.settings.queue).await?.messages)
    }

    async fn close(&self) {
        let left: Vec<Receipt> = self.in_hand().drain().map(|it| it.1).collect();
        // What cannot be told now is seen by others once its time is over.
        let _ = self.show_after("leave a queue", &left, Duration::ZERO).await;
    }
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqs").field("settings", &self.settings).finish_non_exhaustive()
    }
}
