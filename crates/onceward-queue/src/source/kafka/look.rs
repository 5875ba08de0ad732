//! What Kafka says of a topic and of a group, asked by a client that is no member.

use std::time::Duration;

use onceward_core::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::KafkaSettings;
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

/// How many messages of the topics the group has not committed. Blocks.
pub(super) fn lag(settings: &KafkaSettings) -> Result<u64> {
    let doing = "ask how far a group is behind";
    let client: BaseConsumer = settings.consumer().create().map_err(failed(doing))?;
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
