//! Which stream is read, by which durable.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use onceward_core::{Error, ErrorKind, Result};

use crate::source::open::{SourceUrl, UrlError};

/// Which stream is read, and by which durable consumer.
#[derive(Clone)]
pub struct NatsSettings {
    /// `nats://[user:password@]host[:port]`, or `nats://token@host`; several servers of a cluster with commas between.
    pub url: String,
    /// The stream. It must be there: what it keeps, and for how long, is for its owner to say.
    pub stream: String,
    /// The durable consumer: all who share the work. It is made if there is none; one that is there must acknowledge explicitly,
    /// wait for at least `visible_for` and set no limit to deliveries.
    pub durable: String,
    /// The subjects of the stream that a new durable reads, `*` and `>` allowed. Default: all.
    pub subject: Option<String>,
    /// Where a new durable begins: at the first message of the stream, or with those that come after it was made. Default: at
    /// the first.
    pub from_first: bool,
    /// For how long a delivery is a consumer's unless it is kept, at least 500 ms: `ack_wait` of a new durable. Default 30 s.
    pub visible_for: Duration,
    /// How many messages of a new durable may be delivered and not acknowledged, those that wait for another try included, over
    /// all its consumers. Default 10,000.
    pub max_ack_pending: i64,
    /// A header whose value is sent as `Nats-Msg-Id` with what is published, so that the stream drops what it has already seen
    /// within its duplicate window. Default: none; a message that has the header `Nats-Msg-Id` keeps it.
    pub id_header: Option<String>,
    /// A `.creds` file of a user with an nkey. Default: none.
    pub credentials: Option<PathBuf>,
    /// Whether nothing is said without TLS. Default: it is spoken where the server asks for it.
    pub tls: bool,
    /// A PEM file of certificates to trust instead of those of the machine.
    pub ca: Option<PathBuf>,
}

impl NatsSettings {
    /// The defaults for a stream and a durable.
    #[must_use]
    pub fn new(url: &str, stream: &str, durable: &str) -> Self {
        Self {
            url: url.to_owned(),
            stream: stream.to_owned(),
            durable: durable.to_owned(),
            subject: None,
            from_first: true,
            visible_for: Duration::from_secs(30),
            max_ack_pending: 10_000,
            id_header: None,
            credentials: None,
            tls: false,
            ca: None,
        }
    }

    /// Reads `nats://[user:password@]host[:port][,host[:port]…]/STREAM?durable=NAME`, and `&subject=orders.*`, `&from=first|new`,
    /// `&visible_for=30s`, `&max_ack_pending=10000`, `&id_header=event-id`, `&credentials=FILE`, `&tls=true`, `&ca=FILE`.
    ///
    /// # Errors
    /// What is wrong, by the name of its parameter.
    pub fn from_url(url: &str, group: &str) -> Result<Self, UrlError> {
        let mut url = SourceUrl::parse_several(url)?;
        let stream = url.name("the stream")?;
        let defaults = Self::new(&format!("nats://{}", url.authority()), &stream, group);
        let it = Self {
            durable: url.take("durable", "a name")?.unwrap_or_else(|| group.to_owned()),
            subject: url.take("subject", "a subject")?,
            from_first: url.choose("from", &[("first", true), ("new", false)])?.unwrap_or(true),
            visible_for: url.duration("visible_for")?.unwrap_or(defaults.visible_for),
            max_ack_pending: url.take("max_ack_pending", "a number")?.unwrap_or(defaults.max_ack_pending),
            id_header: url.take("id_header", "the name of a header")?,
            credentials: url.take("credentials", "a file")?,
            tls: url.take("tls", "true or false")?.unwrap_or(false),
            ca: url.take("ca", "a file")?,
            ..defaults
        };
        url.end()?;
        Ok(it)
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what| Err(Error::new(ErrorKind::Invalid, what));
        let is_name = |it: &str| {
            !it.is_empty()
                && !it.contains(|it: char| it.is_whitespace() || ".*>/\\".contains(it) || it.is_control())
        };
        if !is_name(&self.stream) || !is_name(&self.durable) {
            return wrong(
                "read a stream: names of streams and durables have no white space and none of . * > / \\",
            );
        }
        if self.visible_for < Duration::from_millis(500) {
            return wrong("read a stream: visible_for must be at least 500 ms");
        }
        if self.max_ack_pending < 1 {
            return wrong("read a stream: max_ack_pending must be at least 1");
        }
        Ok(())
    }
}

impl fmt::Debug for NatsSettings {
    /// The URL may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsSettings")
            .field("stream", &self.stream)
            .field("durable", &self.durable)
            .field("subject", &self.subject)
            .field("visible_for", &self.visible_for)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_every_setting() {
        let all = "nats://u:p@h:4222/ORDERS?durable=d&subject=orders.*&from=new&visible_for=2m&max_ack_pending=7\
            &id_header=event-id&credentials=/c&tls=true&ca=/ca";
        let it = NatsSettings::from_url(all, "billing").unwrap();
        assert_eq!((&*it.url, &*it.stream, &*it.durable), ("nats://u:p@h:4222", "ORDERS", "d"));
        assert_eq!((it.subject.as_deref(), it.from_first, it.tls), (Some("orders.*"), false, true));
        assert_eq!((it.visible_for.as_secs(), it.max_ack_pending), (120, 7));
        assert_eq!((it.credentials, it.ca), (Some("/c".into()), Some("/ca".into())));
        assert_eq!(it.id_header.as_deref(), Some("event-id"));
        let it = NatsSettings::from_url("nats://h/ORDERS", "billing").unwrap();
        assert_eq!((&*it.durable, it.from_first, it.tls, it.check().is_ok()), ("billing", true, false, true));
        let wrong = |url| NatsSettings::from_url(url, "billing").unwrap_err().to_string();
        assert_eq!(wrong("nats://h"), "the URL does not name the stream");
        assert_eq!(wrong("nats://h/s?name=x"), "there is no parameter `name` for this source");
    }

    #[test]
    fn what_cannot_be_is_refused_before_anybody_is_asked() {
        let good = NatsSettings::new("nats://h", "ORDERS", "billing");
        for wrong in [
            NatsSettings { stream: "a.b".into(), ..good.clone() },
            NatsSettings { durable: String::new(), ..good.clone() },
            NatsSettings { visible_for: Duration::from_millis(499), ..good.clone() },
            NatsSettings { max_ack_pending: 0, ..good },
        ] {
            assert_eq!(wrong.check().unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        }
    }
}
