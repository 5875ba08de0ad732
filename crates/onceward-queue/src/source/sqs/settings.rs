//! Which queue is read, and how it is reached.

use std::fmt;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use onceward_core::{Error, ErrorKind, Result};

use super::credentials::Chain;
use crate::source::open::{SourceUrl, UrlError};

/// The longest that SQS keeps a delivery for its consumer, all extensions included.
const VISIBLE_MAX: Duration = Duration::from_secs(12 * 3600);

/// Which queue is read, and how.
#[derive(Clone)]
pub struct SqsSettings {
    /// The URL of the queue. It is not made. One whose name ends in `.fifo` is read in order.
    pub queue: String,
    /// The region, as AWS names it.
    pub region: String,
    /// Where SQS is reached, if that is not where AWS has it in that region.
    pub endpoint: Option<String>,
    /// The id of an access key and its secret. Default: whatever programs for AWS find by themselves: the environment, a
    /// profile (not one of IAM Identity Center), a web identity, the container, the instance. Who has others makes a client
    /// and calls [`Sqs::with_client`](super::Sqs::with_client).
    pub access_key: Option<(String, String)>,
    /// For how long a delivery is a consumer's, unless it is extended. In whole seconds. Default 30 s; 1 s to 12 h.
    pub visible_for: Duration,
    /// How long a request for messages waits at SQS for some. In whole seconds. Default 20 s, which is the longest.
    pub wait: Duration,
    /// The header whose value a FIFO queue knows repeats by, for 5 min, when they are published. Where a message has none, that
    /// is the hash of all of it. Default `event-id`.
    pub repeats_by: String,
}

impl SqsSettings {
    /// The defaults for a queue.
    #[must_use]
    pub fn new(queue: &str, region: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            region: region.to_owned(),
            endpoint: None,
            access_key: None,
            visible_for: Duration::from_secs(30),
            wait: Duration::from_secs(20),
            repeats_by: "event-id".to_owned(),
        }
    }

    /// Reads `sqs://HOST[:PORT]/ACCOUNT/QUEUE`, which is the URL of the queue but for its scheme, and `?region=REGION` where
    /// the host does not say it, `&visible_for=30s`, `&wait=20s`, `&repeats_by=event-id`. `sqs+http://` is the same without TLS,
    /// for emulators and proxies. `ACCESS_KEY:SECRET@` may stand before the host.
    ///
    /// # Errors
    /// What is wrong, by the name of its parameter.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        let scheme = if url.starts_with("sqs+http:") { "http" } else { "https" };
        let mut url = SourceUrl::parse(url)?;
        let endpoint = format!("{scheme}://{}", url.hosts());
        let queue = url.name("the queue: write sqs://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE")?;
        let region = match url.take::<String>("region", "the name of a region")? {
            Some(region) => region,
            None => region_of(url.url().host_str().unwrap_or_default())
                .ok_or(UrlError::Missing("the region: write ?region=REGION"))?
                .to_owned(),
        };
        let defaults = Self::new(&format!("{endpoint}/{queue}"), &region);
        let it = Self {
            endpoint: Some(endpoint),
            access_key: url.login()?,
            visible_for: url.duration("visible_for")?.unwrap_or(defaults.visible_for),
            wait: url.duration("wait")?.unwrap_or(defaults.wait),
            repeats_by: url.take("repeats_by", "the name of a header")?.unwrap_or(defaults.repeats_by),
            ..defaults
        };
        url.end()?;
        Ok(it)
    }

    /// A client for that region and endpoint, over TLS with the roots of the system, with the access key or what is found.
    #[must_use]
    pub fn client(&self) -> Client {
        let patience = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(5))
            .operation_attempt_timeout(self.wait + Duration::from_secs(10))
            .build();
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let region = Region::new(self.region.clone());
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(region.clone())
            .timeout_config(patience)
            .http_client(http.clone());
        if let Some(endpoint) = &self.endpoint {
            config = config.endpoint_url(endpoint);
        }
        config = match &self.access_key {
            Some((id, secret)) => {
                config.credentials_provider(Credentials::new(id, secret, None, None, "settings"))
            }
            None => config.credentials_provider(Chain::new(region, http)),
        };
        Client::from_conf(config.build())
    }

    /// The name of the queue, which its URL ends with.
    pub(super) fn name(&self) -> &str {
        self.queue.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn check(&self) -> Result<()> {
        let second = Duration::from_secs(1);
        let wrong = if !self.queue.starts_with("http") || self.name().is_empty() {
            "read a queue: name it by its URL, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
        } else if self.visible_for < second || self.visible_for > VISIBLE_MAX {
            "read a queue: visible_for must be 1 s to 12 h"
        } else if self.wait > second * 20 {
            "read a queue: wait must be at most 20 s"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, wrong))
    }
}

impl fmt::Debug for SqsSettings {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsSettings")
            .field("queue", &self.queue)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("visible_for", &self.visible_for)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// The region in a host of AWS's: `sqs.REGION.amazonaws.com`, `sqs-fips.REGION.amazonaws.com`, `sqs.REGION.api.aws`, and
/// `vpce-….sqs.REGION.vpce.amazonaws.com`.
fn region_of(host: &str) -> Option<&str> {
    let of_aws = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn"];
    let rest = of_aws.iter().find_map(|it| host.strip_suffix(it)?.strip_suffix('.'))?;
    let rest = rest.strip_suffix(".vpce").unwrap_or(rest);
    let (service, region) = rest.rsplit_once('.')?;
    let service = service.rsplit('.').next()?;
    (["sqs", "sqs-fips"].contains(&service) && !region.is_empty()).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_and_secrets_are_not_shown() {
        let good = SqsSettings::new("https://sqs.eu-west-1.amazonaws.com/1/orders.fifo", "eu-west-1");
        let good = SqsSettings { access_key: Some(("id".into(), "hunter2".into())), ..good };
        good.check().unwrap();
        assert_eq!(good.name(), "orders.fifo");
        assert!(!format!("{good:?}").contains("hunter2"), "{good:?}");
        for bad in [
            SqsSettings { queue: "orders".into(), ..good.clone() },
            SqsSettings { visible_for: Duration::from_millis(900), ..good.clone() },
            SqsSettings { visible_for: Duration::from_secs(12 * 3600 + 1), ..good.clone() },
            SqsSettings { wait: Duration::from_secs(21), ..good.clone() },
        ] {
            assert_eq!(bad.check().unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn a_url_says_every_setting() {
        let all = "sqs+http://test:s%2Fcret@127.0.0.1:4566/000000000000/orders.fifo?region=eu-west-1&visible_for=2m\
            &wait=3s&repeats_by=id";
        let it = SqsSettings::from_url(all).unwrap();
        assert_eq!(it.queue, "http://127.0.0.1:4566/000000000000/orders.fifo");
        assert_eq!((it.endpoint.as_deref(), &*it.region), (Some("http://127.0.0.1:4566"), "eu-west-1"));
        assert_eq!(it.access_key, Some(("test".into(), "s/cret".into())));
        assert_eq!((it.visible_for.as_secs(), it.wait.as_secs(), &*it.repeats_by), (120, 3, "id"));
        it.check().unwrap();
        let it = SqsSettings::from_url("sqs://sqs.eu-west-1.amazonaws.com/1/orders").unwrap();
        assert_eq!(it.queue, "https://sqs.eu-west-1.amazonaws.com/1/orders");
        assert_eq!(
            (it.endpoint.as_deref(), &*it.region),
            (Some("https://sqs.eu-west-1.amazonaws.com"), "eu-west-1")
        );
        assert_eq!((it.access_key, &*it.repeats_by), (None, "event-id"));
        let wrong = |url| SqsSettings::from_url(url).unwrap_err().to_string();
        assert_eq!(
            wrong("sqs+http://127.0.0.1/1/orders"),
            "the URL does not name the region: write ?region=REGION"
        );
        assert!(wrong("sqs://sqs.eu-west-1.amazonaws.com").contains("does not name the queue"));
        assert_eq!(
            wrong("sqs://sqs.eu-west-1.amazonaws.com/1/o?queue=x"),
            "there is no parameter `queue` for this source"
        );
    }

    #[test]
    fn hosts_of_aws_say_their_region() {
        for (host, region) in [
            ("sqs.us-east-1.amazonaws.com", Some("us-east-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("sqs-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("sqs.eu-west-1.api.aws", Some("eu-west-1")),
            ("vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("sqs.amazonaws.com", None),
            ("queue.amazonaws.com", None),
            ("s3.eu-west-1.amazonaws.com", None),
            ("localhost", None),
        ] {
            assert_eq!(region_of(host), region, "{host}");
        }
    }
}
