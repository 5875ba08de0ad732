//! The problem bodies that this door speaks itself (`application/problem+json`, RFC 9457).
//!
//! Each case has a stable type and a page of its own under `docs/errors/`. Nothing of the first request
//! ever stands in one.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use onceward_webhook::BadSignature;

use crate::body::Body;
use crate::key_source::KeySource;

/// Marks a response that is ours, in its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ours;

/// A refusal or a failure of the door itself, never of the application behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The route requires a key and the request has none there.
    KeyMissing(KeySource),
    /// The key cannot be read; the text says what is wrong with it.
    KeyInvalid(&'static str),
    /// The request was not signed by whom the route says.
    SignatureInvalid(BadSignature),
    /// The request could be read as two different ones; the text says why.
    RequestAmbiguous(&'static str),
    /// Nobody can say who calls; the text names the setting.
    PrincipalUnknown(&'static str),
    /// The first request with this key is still running.
    InProgress {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The first request ended without a stored answer; it may or may not have taken effect.
    Unresolved,
    /// The first request took effect, but its answer was too big or streamed and was not kept.
    AnswerNotKept,
    /// The answer was kept for its retention and is gone.
    AnswerGone,
    /// The request is longer than the route allows.
    RequestTooLarge {
        /// The bound of the route, in bytes.
        max_bytes: u64,
    },
    /// The request's body ended before it was whole.
    RequestIncomplete,
    /// A route that requires a key got gRPC, which cannot carry an operation here.
    GrpcUnsupported,
    /// The key was first used for another request.
    KeyReused,
    /// The request's head is larger than the server allows.
    HeaderTooLarge,
    /// The request did not come whole in time.
    RequestTimeout,
    /// The caller has too many operations in flight.
    TooManyInFlight,
    /// The server, or everything behind it, has as much to do as it may; nothing was sent.
    Overloaded,
    /// The upstream could not be reached; provably nothing happened.
    UpstreamUnreachable,
    /// The upstream's answer is longer than the route allows.
    AnswerTooLarge,
    /// The store could not be asked; nothing was run.
    StoreUnavailable,
    /// The server is about to stop; nothing was run.
    Draining,
    /// The operation ran but its answer could not be stored.
    AnswerNotStored,
    /// The operation was sent and no whole answer came back.
    OutcomeUnresolved,
}

impl Problem {
    /// The stable code: the last segment of the problem's `type` and the name of its page.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing(_) => "key-missing",
            Self::SignatureInvalid(_) => "signature-invalid",
            Self::KeyInvalid(_) => "key-invalid",
            Self::RequestAmbiguous(_) => "request-ambiguous",
            Self::PrincipalUnknown(_) => "principal-unknown",
            Self::InProgress { .. } => "in-progress",
            Self::Unresolved => "unresolved",
            Self::AnswerNotKept => "answer-not-kept",
            Self::AnswerGone => "answer-gone",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::RequestIncomplete => "request-incomplete",
            Self::GrpcUnsupported => "grpc-unsupported",
            Self::KeyReused => "key-reused",
            Self::HeaderTooLarge => "header-too-large",
            Self::RequestTimeout => "request-timeout",
            Self::TooManyInFlight => "too-many-in-flight",
            Self::Overloaded => "overloaded",
            Self::UpstreamUnreachable => "upstream-unreachable",
            Self::AnswerTooLarge => "answer-too-large",
            Self::StoreUnavailable => "store-unavailable",
            Self::Draining => "draining",
            Self::AnswerNotStored => "answer-not-stored",
            Self::OutcomeUnresolved => "outcome-unresolved",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing(_)
            | Self::KeyInvalid(_)
            | Self::RequestAmbiguous(_)
            | Self::PrincipalUnknown(_)
            | Self::RequestIncomplete => StatusCode::BAD_REQUEST,
            Self::SignatureInvalid(_) => StatusCode::FORBIDDEN,
            Self::InProgress { .. } | Self::Unresolved | Self::AnswerNotKept => StatusCode::CONFLICT,
            Self::AnswerGone => StatusCode::GONE,
            Self::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::GrpcUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyInFlight => StatusCode::TOO_MANY_REQUESTS,
            Self::UpstreamUnreachable | Self::AnswerTooLarge => StatusCode::BAD_GATEWAY,
            Self::Overloaded | Self::StoreUnavailable | Self::Draining | Self::AnswerNotStored => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::OutcomeUnresolved => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::KeyMissing(KeySource::IdempotencyKey) => "This operation needs an Idempotency-Key",
            Self::KeyMissing(_) => "This operation needs a key",
            Self::SignatureInvalid(_) => "The signature is not accepted",
            Self::KeyInvalid(_) => "The key cannot be used",
            Self::RequestAmbiguous(_) => "The request can be read in two ways",
            Self::PrincipalUnknown(_) => "The caller cannot be worked out",
            Self::InProgress { .. } => "The first request with this key may still be running",
            Self::Unresolved => "The outcome of the first request is unknown",
            Self::AnswerNotKept => "The operation was done and its answer was not kept",
            Self::AnswerGone => "The answer of this key is no longer kept",
            Self::RequestTooLarge { .. } => "The request is too large",
            Self::RequestIncomplete => "The request ended early",
            Self::GrpcUnsupported => "gRPC cannot be used where a key is required",
            Self::KeyReused => "This key was first used for another request",
            Self::HeaderTooLarge => "The request's head is too large",
            Self::RequestTimeout => "The request did not come in time",
            Self::TooManyInFlight => "Too many operations in flight",
            Self::Overloaded => "Too many requests at once",
            Self::UpstreamUnreachable => "The upstream cannot be reached",
            Self::AnswerTooLarge => "The upstream's answer is too large",
            Self::StoreUnavailable => "The record store cannot be reached",
            Self::Draining => "The server is shutting down",
            Self::AnswerNotStored => "The answer could not be stored",
            Self::OutcomeUnresolved => "The outcome of this request is unknown",
        }
    }

    /// One or two sentences: what happened, and what to do next.
    fn detail(&self) -> String {
        match self {
            Self::KeyMissing(KeySource::Header(name)) => {
                format!(
                    "Send the id of the event in the header {name}, the same on every retry. Nothing was run."
                )
            }
            Self::KeyMissing(KeySource::Json(pointer)) => {
                format!(
                    "Send the id of the event as a text or an integer at {pointer} of the JSON body. Nothing was run."
                )
            }
            Self::SignatureInvalid(why) => {
                format!("The request is refused: {why}. Nothing was run, and nothing was written.")
            }
            Self::KeyMissing(KeySource::IdempotencyKey) => {
                "Send an Idempotency-Key header: one new key for each intent, the same on \
                 every retry of it. Nothing was run."
                    .into()
            }
            Self::KeyInvalid(what) | Self::RequestAmbiguous(what) => format!("{what}. Nothing was run."),
            Self::PrincipalUnknown(what) => format!("{what}. Nothing was run."),
            Self::InProgress { .. } => "Repeat the same request after the pause in Retry-After.".into(),
            Self::Unresolved => "It may or may not have taken effect, so it is not run again. Look the \
                 operation up; an operator can resolve the record."
                .into(),
            Self::AnswerNotKept => "It took effect once. Read its result from the API instead of repeating \
                 the request."
                .into(),
            Self::AnswerGone => "The operation was done some time ago and is not run again. Use a new key \
                 for a new intent."
                .into(),
            Self::RequestTooLarge { max_bytes } => {
                format!("At most {max_bytes} bytes are accepted here. Nothing was run.")
            }
            Self::RequestIncomplete => "Its body was cut off. Nothing was run.".into(),
            Self::GrpcUnsupported => "Send this operation as plain HTTP. Nothing was run.".into(),
            Self::KeyReused => "Use a new key for a new intent; repeat the first request unchanged to get \
                 its answer. Nothing was run."
                .into(),
            Self::HeaderTooLarge => "Send fewer or shorter header fields. Nothing was run.".into(),
            Self::RequestTimeout => {
                "It was not whole when its time was over. Nothing was run. Repeat the same \
                 request with the same key."
                    .into()
            }
            Self::Overloaded => {
                "Nothing was sent. Repeat the same request with the same key after the pause in Retry-After."
                    .into()
            }
            Self::TooManyInFlight => {
                "Wait for running operations to end, then repeat. Nothing was run.".into()
            }
            Self::UpstreamUnreachable => "No request was sent, the key is free: repeat it.".into(),
            Self::AnswerTooLarge => "The operation ran and is not run again; its answer was refused. Read \
                 its result from the API."
                .into(),
            Self::StoreUnavailable => "Nothing was run. Repeat the same request with the same key.".into(),
            Self::Draining => "Nothing was run. Repeat the same request with the same key.".into(),
            Self::AnswerNotStored => "The operation ran. Repeat the same request with the same key; under a \
                 new key it would run again."
                .into(),
            Self::OutcomeUnresolved => "The request was sent and no whole answer came back: it may or may \
                 not have taken effect. Repeat it with the same key, or look the operation up; under a new \
                 key it could take effect twice."
                .into(),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::InProgress { retry_after } => {
                Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0)).map(|it| it.max(1))
            }
            Self::TooManyInFlight
            | Self::Overloaded
            | Self::StoreUnavailable
            | Self::Draining
            | Self::AnswerNotStored => Some(1),
            Self::KeyMissing(_)
            | Self::SignatureInvalid(_)
            | Self::KeyInvalid(_)
            | Self::RequestAmbiguous(_)
            | Self::PrincipalUnknown(_)
            | Self::Unresolved
            | Self::AnswerNotKept
            | Self::AnswerGone
            | Self::RequestTooLarge { .. }
            | Self::RequestIncomplete
            | Self::GrpcUnsupported
            | Self::KeyReused
            | Self::HeaderTooLarge
            | Self::RequestTimeout
            | Self::UpstreamUnreachable
            | Self::AnswerTooLarge
            | Self::OutcomeUnresolved => None,
        }
    }

    /// The complete response.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let json = serde_json::json!({
            "type": format!("urn:onceward:error:{}", self.code()),
            "title": self.title(),
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        let mut response = Response::new(Body::from(json.to_string()));
        *response.status_mut() = self.status();
        response.extensions_mut().insert(Ours);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
