//! Effects that go out as webhooks: an HTTP `POST` to the URL that is their destination, signed as
//! [Standard Webhooks](https://www.standardwebhooks.com) says.
//!
//! The id of the effect is in `webhook-id` and in `Idempotency-Key`. The headers of the effect go along, except those that are the
//! connection's or the signature's.

mod place;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, RETRY_AFTER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use onceward_core::{Clock, Error, ErrorKind, Result, SystemClock, Timestamp};

pub use self::place::{BadPlace, WebhookPlace};
pub use self::status::judge_status;
use super::publish::in_words;
use super::{Outgoing, SendFailure, Sender};
pub use onceward_webhook::{BadSecret, Secret as WebhookSecret};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long a connection that is not used is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How much of an answer is read, so that its connection can be used again.
const ANSWER_MAX: usize = 64 << 10;

type Secrets = Arc<dyn Fn(&Outgoing) -> Vec<WebhookSecret> + Send + Sync>;

/// Sends effects as webhooks. Redirects are not followed. Whoever lets others choose destinations says where they may be
/// ([`to`](Webhook::to)), or sends from within a network where no harm can be done.
pub struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    secrets: Secrets,
    place: WebhookPlace,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Sends over TLS, to whom the certificates of this machine vouch for. Nothing is signed.
    ///
    /// # Errors
    /// `Unavailable`: this machine has no certificates.
    pub fn new() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Unavailable, "load the certificates of this machine").caused_by(error)
        };
        let provider = rustls::crypto::ring::default_provider();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_MAX));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(failed)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            // What was sent over a connection that broke is sent again by the relay, which counts it.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self {
            client,
            secrets: Arc::new(|_| Vec::new()),
            place: WebhookPlace::Https,
            clock: Arc::new(SystemClock),
        })
    }

    /// Signs all with one secret.
    #[must_use]
    pub fn signed(self, secret: WebhookSecret) -> Self {
        self.signed_by(move |_| vec![secret.clone()])
    }

    /// Signs each with the secrets that a function has for it: one signature for each, so that a new secret can be known before
    /// the old one is forgotten.
    #[must_use]
    pub fn signed_by(
        self,
        secrets: impl Fn(&Outgoing) -> Vec<WebhookSecret> + Send + Sync + 'static,
    ) -> Self {
        Self { secrets: Arc::new(secrets), ..self }
    }

    /// Also sends to `http://`, where anybody on the way can read and change it.
    #[must_use]
    pub fn plain_http(self) -> Self {
        self.to(WebhookPlace::Anywhere)
    }

    /// Sends only there, and parks what would go elsewhere. Before, that is everywhere over TLS.
    #[must_use]
    pub fn to(self, place: WebhookPlace) -> Self {
        Self { place, ..self }
    }

    /// Another clock for timestamps than the machine's.
    #[must_use]
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    fn request(&self, effect: &Outgoing) -> Result<Request<Full<Bytes>>, SendFailure> {
        let uri: Uri = self.place.of(&effect.destination).map_err(SendFailure::park)?;
        let mut request = Request::new(Full::new(effect.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        for (name, value) in &effect.headers {
            let bad =
                |_| SendFailure::park(format!("its header number {} cannot be sent", headers.len() + 1));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| bad(()))?;
            let value = HeaderValue::from_maybe_shared(value.clone()).map_err(|_| bad(()))?;
            if ![HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE].contains(&name) {
                headers.append(name, value);
            }
        }
        let id = effect.id.to_string();
        let seconds = self.clock.wall().as_millis() / 1000;
        let signatures: Vec<_> =
            (self.secrets)(effect).iter().map(|it| it.sign(&id, seconds, &effect.body)).collect();
        let text = |it: String| HeaderValue::try_from(it).expect("hex, digits and base64 are visible ASCII");
        headers.insert("idempotency-key", text(id.clone()));
        headers.insert("webhook-id", text(id));
        headers.insert("webhook-timestamp", text(seconds.to_string()));
        headers.remove("webhook-signature");
        if !signatures.is_empty() {
            headers.insert("webhook-signature", text(signatures.join(" ")));
        }
        Ok(request)
    }
}

#[async_trait]
impl Sender for Webhook {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        let request = self.request(effect)?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|it| SendFailure::retry(format!("no answer: {}", in_words(&it))))?;
        let (head, body) = answer.into_parts();
        let after = head.headers.get(RETRY_AFTER).and_then(|it| it.to_str().ok());
        let after = after.and_then(|it| status::retry_after(it, self.clock.wall()));
        // Whatever it says, it was answered.
        let _ = Limited::new(body, ANSWER_MAX).collect().await;
        judge_status(head.status.as_u16(), after)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Seconds since 1970.
fn seconds(it: Timestamp) -> u64 {
    it.as_millis() / 1000
}
