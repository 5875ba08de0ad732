//! What Kafka says of a topic and of a group, asked by a client that is no member.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use onceward_core::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::KafkaSettings;
use super::context::Outside;
use crate::windows::{Kept, Windows};

/// How long a broker may take for one question.
const PATIENCE: Duration = Duration::from_secs(4);

fn failed(doing: &'static str) -> impl Fn(KafkaError) -> Error {
    move |it| Error::new(ErrorKind::Unavailable, doing).caused_by(it)
}

/// For how long the topics keep messages: that which keeps them for longest.
pub(super) async fn windows(settings: &KafkaSettings) -> Result<Windows> {
    let doing = "ask for how long a topic keeps messages";
    let client: AdminClient<DefaultClientContext> = settings.producer().create().map_err(failed(doing))?;
    let topics: Vec<_> = settings.topics.iter().map(|it| ResourceSpecifier::Topic(it)).collect();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let told = client.describe_configs(&topics, &options).await.map_err(failed(doing))?;
    let mut longest = None;
    for topic in told {
        let topic = topic.map_err(|it| failed(doing)(KafkaError::AdminOp(it)))?;
        let Some(kept) = kept(&topic) else { return Ok(Windows::default()) };
        longest = Some(match (longest, kept) {
            (Some(Kept::WithoutEnd), _) | (_, Kept::WithoutEnd) => Kept::WithoutEnd,
            (Some(Kept::For(one)), Kept::For(other)) => Kept::For(one.max(other)),
            (None, kept) => kept,
        });
    }
    Ok(Windows { kept: longest, ..Windows::default() })
}

fn kept(topic: &ConfigResource) -> Option<Kept> {
    let all = topic.entry_map();
    let value = |name| all.get(name).and_then(|it| it.value.as_deref());
    // What is only compacted has no age.
    if value("cleanup.policy").is_some_and(|it| !it.contains("delete")) {
        return Some(Kept::WithoutEnd);
    }
    let millis: i64 = value("retention.ms")?.parse().ok()?;
    Some(u64::try_from(millis).map_or(Kept::WithoutEnd, |it| Kept::For(Duration::from_millis(it))))
}

/// Asks how far the group is behind. Its client is made for the first question, and kept: one that is made anew connects to each
/// broker anew.
#[derive(Default)]
pub(super) struct Behind(Mutex<Option<BaseConsumer<Outside>>>);

impl Behind {
    /// How many messages of the topics the group has not committed. Blocks.
    pub(super) fn lag(&self, settings: &KafkaSettings) -> Result<u64> {
        let doing = "ask how far a group is behind";
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &mut *kept {
            Some(client) => client,
            kept => {
                let made = settings.consumer().create_with_context(Outside).map_err(failed(doing))?;
                kept.insert(made)
            }
        };
        // It is in no group, and so gets no messages; what it has to tell would pile up.
        while client.poll(Duration::ZERO).is_some() {}
        let mut asked = TopicPartitionList::new();
        for topic in &settings.topics {
            let told = client.fetch_metadata(Some(topic), PATIENCE).map_err(failed(doing))?;
            for partition in told.topics().iter().flat_map(|it| it.partitions()) {
                asked.add_partition(topic, partition.id());
            }
        }
        let committed = client.committed_offsets(asked, PATIENCE).map_err(failed(doing))?;
        let mut behind = 0;
        for it in committed.elements() {
            let (first, end) =
                client.fetch_watermarks(it.topic(), it.partition(), PATIENCE).map_err(failed(doing))?;
            let at = match it.offset() {
                Offset::Offset(at) => at.max(first),
                _ if settings.from_first => first,
                _ => end,
            };
            behind += u64::try_from(end - at).unwrap_or_default();
        }
        Ok(behind)
    }

    /// Lets go of the client. Blocks until it has ended.
    pub(super) fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
