//! Sources by URL, for commands and settings.

use std::sync::Arc;

use onceward_core::Error;

use super::Source;

mod url;

pub use self::url::SourceUrl;

/// Why no source can be opened by a URL. Nobody was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It is no URL.
    #[error("`{0}` is no URL; write for example `redis-streams://127.0.0.1:6379/orders`")]
    NoUrl(String),
    /// There is no such source.
    #[error(
        "there is no source `{0}:`; use `kafka://…`, `sqs://…`, `nats://…`, `amqp://…` or `redis-streams://…`"
    )]
    Scheme(String),
    /// This build was made without it.
    #[error("this build has no source for `{scheme}:`; build it with `--features {feature}`")]
    NotBuilt {
        /// The scheme as written.
        scheme: String,
        /// The cargo feature that adds it.
        feature: &'static str,
    },
    /// It has more hosts than one.
    #[error("the URL names several hosts; this source takes one")]
    Several,
    /// Something that must be there is not.
    #[error("the URL does not name {0}")]
    Missing(&'static str),
    /// A parameter has a value that it cannot have.
    #[error("the parameter `{name}` cannot be `{value}`; use {wanted}")]
    Parameter {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it can be.
        wanted: String,
    },
    /// There is no such parameter.
    #[error("there is no parameter `{0}` for this source")]
    Unknown(String),
    /// The source does not take these settings.
    #[error(transparent)]
    Source(#[from] Error),
}

/// The source that a URL names, for a consumer called `group` unless the URL names another group.
///
/// # Errors
/// [`UrlError`]. Nobody was asked: a broker that is away is found out about later.
pub fn open(url: &str, group: &str) -> Result<Arc<dyn Source>, UrlError> {
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "kafka")]
        "kafka" => {
            Ok(Arc::new(super::kafka::Kafka::new(super::kafka::KafkaSettings::from_url(url, group)?)?))
        }
        #[cfg(feature = "sqs")]
        "sqs" | "sqs+http" => Ok(Arc::new(super::sqs::Sqs::new(super::sqs::SqsSettings::from_url(url)?)?)),
        #[cfg(feature = "nats")]
        "nats" => Ok(Arc::new(super::nats::Nats::new(super::nats::NatsSettings::from_url(url, group)?)?)),
        #[cfg(feature = "rabbitmq")]
        "amqp" | "amqps" => {
            let settings = super::rabbitmq::RabbitSettings::from_url(url)?;
            Ok(Arc::new(super::rabbitmq::RabbitMq::new(settings)?))
        }
        #[cfg(feature = "redis-streams")]
        "redis-streams" | "rediss-streams" => {
            let settings = super::redis_streams::RedisStreamsSettings::from_url(url, group)?;
            Ok(Arc::new(super::redis_streams::RedisStreams::new(settings)?))
        }
        _ => {
            let _ = group;
            let features = [
                ("kafka", "kafka"),
                ("sqs", "sqs"),
                ("sqs+http", "sqs"),
                ("redis-streams", "redis-streams"),
                ("rediss-streams", "redis-streams"),
                ("nats", "nats"),
                ("amqp", "rabbitmq"),
                ("amqps", "rabbitmq"),
            ];
            Err(match features.iter().find(|it| it.0 == scheme) {
                Some((_, feature)) => UrlError::NotBuilt { scheme: scheme.to_owned(), feature },
                None if url.contains("://") => UrlError::Scheme(scheme.to_owned()),
                None => UrlError::NoUrl(url.to_owned()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_source_can_be_opened_by_is_told() {
        let said = |url: &str| open(url, "billing").map(|it| it.capabilities().name).unwrap_err().to_string();
        assert_eq!(
            said("orders"),
            "`orders` is no URL; write for example `redis-streams://127.0.0.1:6379/orders`"
        );
        assert!(said("ftp://a/b").starts_with("there is no source `ftp:`"));
        #[cfg(not(feature = "kafka"))]
        assert!(said("kafka://a/b").contains("--features kafka"));
        #[cfg(not(feature = "redis-streams"))]
        assert!(said("redis-streams://a/b").contains("--features redis-streams"));
    }

    #[cfg(feature = "redis-streams")]
    #[test]
    fn a_url_says_every_setting_of_a_stream() {
        let said =
            |url: &str| open(url, "billing").map(|it| it.capabilities().name).map_err(|it| it.to_string());
        assert_eq!(said("redis-streams://127.0.0.1:6379/orders"), Ok("redis-streams"));
        let all = "redis-streams://u:p@h/orders?group=g&database=3&from=new&visible_for=2m&delete=true";
        let settings = crate::source::redis_streams::RedisStreamsSettings::from_url(all, "billing").unwrap();
        assert_eq!((&*settings.url, &*settings.stream, &*settings.group), ("redis://u:p@h/3", "orders", "g"));
        assert_eq!(
            (settings.from_first, settings.visible_for.as_secs(), settings.delete),
            (false, 120, true)
        );
        let wrong = |url: &str| said(url).unwrap_err();
        assert_eq!(wrong("redis-streams://h/"), "the URL does not name the stream");
        assert_eq!(wrong("redis-streams://h/s?gruop=g"), "there is no parameter `gruop` for this source");
        assert_eq!(
            wrong("redis-streams://h/s?visible_for=30"),
            "the parameter `visible_for` cannot be `30`; use a number with a unit: 500ms, 30s, 10m"
        );
        assert_eq!(
            wrong("redis-streams://h/s?from=last"),
            "the parameter `from` cannot be `last`; use first or new"
        );
    }
}
