//! Which queue is read.

use std::fmt;
use std::path::PathBuf;

use onceward_core::{Error, ErrorKind, Result};

use crate::source::open::{SourceUrl, UrlError};

/// Which queue is read. All who read it share its messages.
#[derive(Clone)]
pub struct RabbitSettings {
    /// `amqp://[user:password@]host[:port][/virtual host]`, or `amqps://…` for TLS.
    pub url: String,
    /// The queue.
    pub queue: String,
    /// Whether the queue is made if there is none: a durable quorum queue on the default exchange. One that is there is used as
    /// it is; what is delivered for the first time is only certain in a queue that is as it would be made. Default: it is.
    pub make: bool,
    /// Whether a queue that is made has one active consumer at a time. Default: it has not.
    pub single_active: bool,
    /// How many messages the broker sends ahead, at least as many as handlers shall run at a time. Default 256.
    pub prefetch: u16,
    /// What messages are ordered by. Default: the header `key`.
    pub order_by: OrderBy,
    /// The exchange to publish to, the topic being the routing key. Default: the one that routes to the queue of that name.
    pub exchange: String,
    /// A PEM file of certificates to trust instead of those of the machine.
    pub ca: Option<PathBuf>,
}

/// What messages are ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBy {
    /// The value of a header. What is published has the key there.
    Header(String),
    /// The routing key.
    RoutingKey,
}

impl RabbitSettings {
    /// The defaults for a queue.
    #[must_use]
    pub fn new(url: &str, queue: &str) -> Self {
        Self {
            url: url.to_owned(),
            queue: queue.to_owned(),
            make: true,
            single_active: false,
            prefetch: 256,
            order_by: OrderBy::Header("key".to_owned()),
            exchange: String::new(),
            ca: None,
        }
    }

    /// Reads `amqp[s]://[user:password@]host[:port][/VIRTUAL HOST]?queue=QUEUE`, and `&make=true`, `&single_active=false`,
    /// `&prefetch=256`, `&order_by=HEADER` or `&order_by=routing-key`, `&exchange=NAME`, `&ca=FILE`. A virtual host that has a
    /// slash in its name is written with `%2f`.
    ///
    /// # Errors
    /// What is wrong, by the name of its parameter.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        let mut url = SourceUrl::parse(url)?;
        let path = url.url().path();
        let path = if path == "/" { "" } else { path };
        let server = format!("{}://{}{path}", url.url().scheme(), url.authority());
        let queue: Option<String> = url.take("queue", "the name of a queue")?;
        let defaults = Self::new(&server, &queue.ok_or(UrlError::Missing("the queue: write ?queue=NAME"))?);
        let order_by = match url.take::<String>("order_by", "the name of a header")? {
            Some(it) if it == "routing-key" => OrderBy::RoutingKey,
            Some(it) => OrderBy::Header(it),
            None => defaults.order_by.clone(),
        };
        let it = Self {
            make: url.take("make", "true or false")?.unwrap_or(defaults.make),
            single_active: url.take("single_active", "true or false")?.unwrap_or(defaults.single_active),
            prefetch: url.take("prefetch", "1 to 65535")?.unwrap_or(defaults.prefetch),
            order_by,
            exchange: url.take("exchange", "the name of an exchange")?.unwrap_or_default(),
            ca: url.take("ca", "a file")?,
            ..defaults
        };
        url.end()?;
        Ok(it)
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what| Err(Error::new(ErrorKind::Invalid, what));
        if self.queue.is_empty() || self.queue.len() > 255 || self.exchange.len() > 255 {
            return wrong("read a queue: names have 1 to 255 bytes");
        }
        if self.prefetch == 0 {
            return wrong("read a queue: prefetch must be at least 1");
        }
        match self.url.parse::<lapin::uri::AMQPUri>() {
            Ok(_) => Ok(()),
            Err(cause) => {
                Err(Error::new(ErrorKind::Invalid, "read the URL of a RabbitMQ server").caused_by(cause))
            }
        }
    }
}

impl fmt::Debug for RabbitSettings {
    /// The URL may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitSettings")
            .field("queue", &self.queue)
            .field("prefetch", &self.prefetch)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_every_setting() {
        let all = "amqps://u:p@h:5671/%2fx?queue=orders&make=false&single_active=true&prefetch=7\
            &order_by=routing-key&exchange=e&ca=/ca";
        let it = RabbitSettings::from_url(all).unwrap();
        assert_eq!((&*it.url, &*it.queue, &*it.exchange), ("amqps://u:p@h:5671/%2fx", "orders", "e"));
        assert_eq!((it.make, it.single_active, it.prefetch), (false, true, 7));
        assert_eq!((it.order_by, it.ca), (OrderBy::RoutingKey, Some("/ca".into())));
        let it = RabbitSettings::from_url("amqp://h/?queue=orders").unwrap();
        assert_eq!((&*it.url, it.make, it.prefetch, it.check().is_ok()), ("amqp://h", true, 256, true));
        assert_eq!(it.order_by, OrderBy::Header("key".into()));
        let wrong = |url| RabbitSettings::from_url(url).unwrap_err().to_string();
        assert_eq!(wrong("amqp://h/orders"), "the URL does not name the queue: write ?queue=NAME");
        assert_eq!(wrong("amqp://h?queue=q&x=1"), "there is no parameter `x` for this source");
    }
}
