//! Which topics are read, by which group, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use onceward_core::{Error, ErrorKind, Result};
use rdkafka::ClientConfig;

use crate::source::open::{SourceUrl, UrlError};

/// What this source decides; nobody else may.
const OURS: [&str; 9] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "message.timeout.ms",
];

/// Which topics are read, and by whom.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Brokers to ask first: `host:port,host:port`.
    pub bootstrap: String,
    /// The topics. They are not made.
    pub topics: Vec<String>,
    /// The consumer group: all who share the work.
    pub group: String,
    /// Where a new group begins: at the first message of each partition, or with those that come after its first consumer did.
    /// What was committed always goes before. Default: at the first.
    pub from_first: bool,
    /// How far beyond what is committed messages of a partition are handed over, in offsets. A message that stays undone stops
    /// its partition after so many. All consumers of a group have the same: the first `window` messages of an assignment may
    /// have been another's, and cost a look into the store. Default 5,000; at least 1.
    pub window: u32,
    /// How often commits are sent at most. A consumer that dies leaves at most so much work to be recognized by the next.
    /// Default 100 ms.
    pub commit_every: Duration,
    /// How long a partition that is taken away is kept at most for handlers that run. It goes as soon as they have ended, and
    /// when the consumer's [`drain`](crate::ConsumerSettings::drain) is over. Default 30 s, so that this is what decides; at
    /// most 4 min.
    pub revoke_max: Duration,
    /// How long a consumer may be silent before its partitions go to others. Default 45 s; at least 1 s.
    pub session: Duration,
    /// How long a publish may take, tries included. Default 30 s; at least 1 s.
    pub publish_max: Duration,
    /// More settings, by their names in librdkafka: TLS (`security.protocol`, `ssl.ca.location`), credentials
    /// (`sasl.mechanism`, `sasl.username`, `sasl.password`), `group.instance.id`, `client.rack`,
    /// `partition.assignment.strategy` (default `cooperative-sticky`).
    pub more: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// The defaults for a topic and a group.
    #[must_use]
    pub fn new(bootstrap: &str, topic: &str, group: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            topics: vec![topic.to_owned()],
            group: group.to_owned(),
            from_first: true,
            window: 5000,
            commit_every: Duration::from_millis(100),
            revoke_max: Duration::from_secs(30),
            session: Duration::from_secs(45),
            publish_max: Duration::from_secs(30),
            more: BTreeMap::new(),
        }
    }

    /// With one more setting of librdkafka.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Reads `kafka://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/TOPIC[,TOPIC…]?group=GROUP`, and `&from=first|new`,
    /// `&window=5000`, `&commit_every=100ms`, `&revoke_max=30s`, `&session=45s`, `&publish_max=30s`. A parameter with a dot in
    /// its name is a setting of librdkafka. A user means `security.protocol=SASL_SSL` and `sasl.mechanism=PLAIN`, unless
    /// something else is said.
    ///
    /// # Errors
    /// What is wrong, by the name of its parameter.
    pub fn from_url(url: &str, group: &str) -> Result<Self, UrlError> {
        let mut url = SourceUrl::parse_several(url)?;
        let with_port = |it: &str| {
            let has_port = it.rsplit(']').next().is_some_and(|it| it.contains(':'));
            if has_port { it.to_owned() } else { format!("{it}:9092") }
        };
        let bootstrap: Vec<_> = url.hosts().split(',').map(with_port).collect();
        let topics = url.name("the topic")?;
        let mut more = BTreeMap::new();
        if let Some((user, password)) = url.login()? {
            more.extend([
                ("security.protocol".to_owned(), "SASL_SSL".to_owned()),
                ("sasl.mechanism".to_owned(), "PLAIN".to_owned()),
                ("sasl.username".to_owned(), user),
                ("sasl.password".to_owned(), password),
            ]);
        }
        more.extend(url.take_all(|name| name.contains('.')));
        // The same by its other name; librdkafka would take one or the other.
        if let Some(said) = more.remove("sasl.mechanisms") {
            more.insert("sasl.mechanism".to_owned(), said);
        }
        let defaults = Self::new(&bootstrap.join(","), "", group);
        let it = Self {
            topics: topics.split(',').map(str::to_owned).collect(),
            group: url.take("group", "a name")?.unwrap_or_else(|| group.to_owned()),
            from_first: url.choose("from", &[("first", true), ("new", false)])?.unwrap_or(true),
            window: url.take("window", "a number")?.unwrap_or(defaults.window),
            commit_every: url.duration("commit_every")?.unwrap_or(defaults.commit_every),
            revoke_max: url.duration("revoke_max")?.unwrap_or(defaults.revoke_max),
            session: url.duration("session")?.unwrap_or(defaults.session),
            publish_max: url.duration("publish_max")?.unwrap_or(defaults.publish_max),
            more,
            ..defaults
        };
        url.end()?;
        Ok(it)
    }

    pub(super) fn check(&self) -> Result<()> {
        let second = Duration::from_secs(1);
        let wrong = if self.bootstrap.is_empty() || self.group.is_empty() {
            "read a topic: name the brokers and the group"
        } else if self.topics.is_empty() || self.topics.iter().any(|it| it.is_empty() || it.starts_with('^'))
        {
            "read a topic: name it; patterns are not taken"
        } else if self.window == 0 || self.session < second || self.publish_max < second {
            "read a topic: window must be at least 1, session and publish_max at least 1 s"
        } else if self.revoke_max > second * 240 {
            "read a topic: revoke_max must be at most 4 min"
        } else if self.more.keys().any(|it| OURS.contains(&it.as_str())) {
            "read a topic: one of the further settings is decided by the source"
        } else if !cfg!(feature = "kafka-tls") && self.needs_tls() {
            "read a topic: this build has neither TLS nor SCRAM nor OAuth for Kafka; build it with `--features kafka-tls`, or              say `security.protocol=SASL_PLAINTEXT` where nobody listens in"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, wrong))
    }

    /// Whether librdkafka must be built with OpenSSL for this.
    fn needs_tls(&self) -> bool {
        self.more.iter().any(|(name, value)| match name.as_str() {
            "security.protocol" => value.to_ascii_lowercase().ends_with("ssl"),
            "sasl.mechanism" | "sasl.mechanisms" => {
                let value = value.to_ascii_uppercase();
                value.starts_with("SCRAM") || value == "OAUTHBEARER"
            }
            name => name.starts_with("ssl."),
        })
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("client.id", "onceward");
        // A broker that was killed is asked again soon.
        config.set("reconnect.backoff.max.ms", "2000");
        config
    }

    pub(super) fn consumer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Where what was committed is no longer there: what is there is not skipped, too.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(self.session))
            .set("heartbeat.interval.ms", millis(self.session / 6))
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.wait.max.ms", "100");
        for (name, value) in &self.more {
            config.set(name, value);
        }
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", millis(self.publish_max))
            // A topic that is not there is no reason to wait for long.
            .set("topic.metadata.propagation.max.ms", "3000")
            .set("linger.ms", "1")
            // The partition of a key is the one that clients in Java choose.
            .set("partitioner", "murmur2_random");
        let of_consumers =
            ["group.", "partition.assignment.", "session.", "heartbeat.", "fetch.", "queued.m"];
        for (name, value) in &self.more {
            if !of_consumers.iter().any(|it| name.starts_with(it)) {
                config.set(name, value);
            }
        }
        config
    }
}

impl fmt::Debug for KafkaSettings {
    /// Values of further settings may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("topics", &self.topics)
            .field("group", &self.group)
            .field("window", &self.window)
            .field("session", &self.session)
            .field("more", &self.more.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn millis(it: Duration) -> String {
    it.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_and_secrets_are_not_shown() {
        let good = KafkaSettings::new("localhost:9092", "orders", "billing").with("sasl.password", "hunter2");
        good.check().unwrap();
        assert!(!format!("{good:?}").contains("hunter2"), "{good:?}");
        for bad in [
            KafkaSettings { group: String::new(), ..good.clone() },
            KafkaSettings { topics: vec!["^orders.*".into()], ..good.clone() },
            KafkaSettings { window: 0, ..good.clone() },
            KafkaSettings { revoke_max: Duration::from_secs(300), ..good.clone() },
            good.clone().with("enable.auto.commit", "true"),
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_url_says_every_setting() {
        let all = "kafka://k-1,k-2:9093,[::1]/orders,refunds?group=g&from=new&window=7&commit_every=1s&revoke_max=2s\
            &session=3s&publish_max=4s&client.rack=b%2B1&security.protocol=ssl";
        let it = KafkaSettings::from_url(all, "billing").unwrap();
        assert_eq!(it.bootstrap, "k-1:9092,k-2:9093,[::1]:9092");
        assert_eq!(
            (it.topics, &*it.group, it.from_first),
            (vec!["orders".into(), "refunds".into()], "g", false)
        );
        assert_eq!((it.window, it.commit_every.as_secs(), it.revoke_max.as_secs()), (7, 1, 2));
        assert_eq!((it.session.as_secs(), it.publish_max.as_secs()), (3, 4));
        let more = [("client.rack", "b+1"), ("security.protocol", "ssl")];
        assert_eq!(it.more, more.map(|it| (it.0.to_owned(), it.1.to_owned())).into());
        let it = KafkaSettings::from_url("kafka://h/orders", "billing").unwrap();
        assert_eq!((&*it.bootstrap, &*it.group, it.from_first), ("h:9092", "billing", true));
        assert!(it.more.is_empty() && it.check().is_ok(), "{it:?}");
        let wrong = |url| KafkaSettings::from_url(url, "billing").unwrap_err().to_string();
        assert_eq!(wrong("kafka://h:9092,k:9092"), "the URL does not name the topic");
        assert_eq!(wrong("kafka://h,,k/orders"), "the URL does not name a host");
        assert_eq!(wrong("kafka://h/orders?gruop=g"), "there is no parameter `gruop` for this source");
        assert_eq!(wrong("kafka://u@h/orders"), "the URL does not name the password of its user");
        assert_eq!(
            wrong("kafka://u:secret@h:x,k/orders"),
            "`h:x,k/orders` is no URL; write for example \
            `redis-streams://127.0.0.1:6379/orders`"
        );
    }

    #[test]
    fn a_user_of_a_url_logs_in_over_tls_unless_it_is_said_otherwise() {
        let of = |more: &str| {
            let url = format!("kafka://b%40b:s%2Fe%2Bcret@h:9094/orders{more}");
            KafkaSettings::from_url(&url, "billing").unwrap()
        };
        let it = of("");
        let said = ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password"]
            .map(|name| &*it.more[name]);
        assert_eq!(said, ["SASL_SSL", "PLAIN", "b@b", "s/e+cret"]);
        assert!(!format!("{it:?}").contains("s/e"), "{it:?}");
        let it = of("?security.protocol=SASL_PLAINTEXT&sasl.mechanisms=SCRAM-SHA-512");
        assert_eq!(
            (&*it.more["security.protocol"], &*it.more["sasl.mechanism"]),
            ("SASL_PLAINTEXT", "SCRAM-SHA-512")
        );
        assert!(of("?security.protocol=SASL_PLAINTEXT").check().is_ok());
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn a_build_without_tls_says_so() {
        for url in [
            "kafka://u:p@h/orders",
            "kafka://h/orders?security.protocol=ssl",
            "kafka://h/orders?ssl.ca.location=/ca",
            "kafka://u:p@h/orders?security.protocol=SASL_PLAINTEXT&sasl.mechanism=SCRAM-SHA-256",
        ] {
            let error = KafkaSettings::from_url(url, "billing").unwrap().check().unwrap_err();
            assert!(error.to_string().contains("--features kafka-tls"), "{url}: {error}");
        }
    }

    #[test]
    fn the_time_that_handlers_have_is_the_consumer_s_to_say() {
        let drain = crate::ConsumerSettings::default().drain;
        assert!(KafkaSettings::new("h", "orders", "billing").revoke_max > drain);
    }
}
