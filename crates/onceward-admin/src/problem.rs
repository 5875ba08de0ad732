//! The refusals of the admin API (`application/problem+json`, RFC 9457), each with a stable code.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use onceward_core::{Error, ErrorKind};
use serde_json::{Value, json};

/// A refusal. Nothing was written, unless it says so.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No token, or another one.
    Unauthorized,
    /// The request breaks a rule; the text names what.
    Invalid(String),
    /// The body is longer than the bound.
    TooLarge,
    /// No such page.
    NoSuchPage,
    /// The page is there, the method is not.
    NoSuchMethod,
    /// No such record.
    NoSuchRecord,
    /// The record is at another revision; it is shown.
    Changed(Value),
    /// A permit is out and its lease lives on for this long.
    LeaseAlive(Duration),
    /// The record has a final answer, or stands for nothing.
    NothingToResolve,
    /// The store cannot be asked.
    StoreUnavailable,
    /// The change may have been written.
    Uncertain,
    /// What is stored cannot be read.
    Unreadable,
    /// The store gave an answer that no rule foresees.
    Unexpected,
}

impl Problem {
    /// The stable code: the last segment of the problem's `type`, and the word in the audit.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized => "admin-unauthorized",
            Self::Invalid(_) => "admin-request-invalid",
            Self::TooLarge => "admin-request-too-large",
            Self::NoSuchPage => "admin-not-found",
            Self::NoSuchMethod => "admin-method-not-allowed",
            Self::NoSuchRecord => "record-not-found",
            Self::Changed(_) => "record-changed",
            Self::LeaseAlive(_) => "lease-alive",
            Self::NothingToResolve => "nothing-to-resolve",
            Self::StoreUnavailable => "admin-store-unavailable",
            Self::Uncertain => "verdict-uncertain",
            Self::Unreadable => "record-unreadable",
            Self::Unexpected => "admin-unexpected",
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoSuchPage | Self::NoSuchRecord => StatusCode::NOT_FOUND,
            Self::NoSuchMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::Changed(_) | Self::LeaseAlive(_) | Self::NothingToResolve => StatusCode::CONFLICT,
            Self::StoreUnavailable | Self::Uncertain => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreadable | Self::Unexpected => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn title(&self) -> &'static str {
        match self {
            Self::Unauthorized => "The admin token is missing or wrong",
            Self::Invalid(_) => "The request cannot be used",
            Self::TooLarge => "The request is too large",
            Self::NoSuchPage => "There is no such page",
            Self::NoSuchMethod => "The page does not know this method",
            Self::NoSuchRecord => "There is no such record",
            Self::Changed(_) => "The record has changed",
            Self::LeaseAlive(_) => "The operation is still running",
            Self::NothingToResolve => "There is nothing to resolve",
            Self::StoreUnavailable => "The record store cannot be reached",
            Self::Uncertain => "The change may or may not have been written",
            Self::Unreadable => "The record cannot be read",
            Self::Unexpected => "Something unforeseen happened",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => {
                "Send `Authorization: Bearer TOKEN` with the token from the gateway's token file.".into()
            }
            Self::Invalid(what) => format!("{what}. Nothing was changed."),
            Self::TooLarge => "The body is longer than this page accepts. Nothing was changed.".into(),
            Self::NoSuchPage => "The records are at /api/v1/records.".into(),
            Self::NoSuchMethod => "The header Allow lists the methods. Nothing was changed.".into(),
            Self::NoSuchRecord => "It may have expired, or it was never there. Nothing was changed.".into(),
            Self::Changed(_) => "It is not at the revision that was named. Look at `record`, then decide \
                 again with its revision. Nothing was changed."
                .into(),
            Self::LeaseAlive(_) => "Wait until the lease has ended, or give the reason to overrule it in \
                 `force`: the work then loses its permit, but what it already did stays done. Nothing was \
                 changed."
                .into(),
            Self::NothingToResolve => "The record has its final answer, or stands for nothing. Nothing was \
                 changed."
                .into(),
            Self::StoreUnavailable => "Nothing was changed. Repeat after a pause.".into(),
            Self::Uncertain => "Look at the record before you repeat: if its revision is still the one you \
                 named, nothing was written."
                .into(),
            Self::Unreadable => "It is left as it is. The log of the gateway says more.".into(),
            Self::Unexpected => {
                "The log of the gateway says more. Look at the record before you repeat.".into()
            }
        }
    }

    /// What a failed look at the store means: there is nothing that could have been written.
    pub(crate) fn of_look(error: &Error) -> Self {
        match Self::of_change(error) {
            Self::Uncertain => Self::StoreUnavailable,
            other => other,
        }
    }

    /// What a failed change means. The cause goes to the log: it may name hosts and paths.
    pub(crate) fn of_change(error: &Error) -> Self {
        let cause = std::error::Error::source(error).map(tracing::field::display);
        tracing::warn!(%error, cause, "the admin API could not use the store");
        match error.kind() {
            ErrorKind::Unavailable => Self::StoreUnavailable,
            ErrorKind::Uncertain => Self::Uncertain,
            ErrorKind::Corrupt => Self::Unreadable,
            // Kinds may be added; what is not known to be harmless is not called harmless.
            _ => Self::Unexpected,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut json = json!({
            "type": format!("urn:onceward:error:{}", self.code()),
            "title": self.title(),
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        let (status, mut retry_after) = (self.status(), None);
        match self {
            Self::Changed(record) => {
                json["revision"] = record["revision"].clone();
                json["record"] = record;
            }
            Self::LeaseAlive(left) => json["lease_remaining_seconds"] = left.as_secs_f64().into(),
            Self::StoreUnavailable => retry_after = Some(HeaderValue::from_static("1")),
            Self::Unauthorized
            | Self::Invalid(_)
            | Self::TooLarge
            | Self::NoSuchPage
            | Self::NoSuchMethod
            | Self::NoSuchRecord
            | Self::NothingToResolve
            | Self::Uncertain
            | Self::Unreadable
            | Self::Unexpected => {}
        }
        let mut response = (status, json.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"onceward\""));
        }
        if let Some(pause) = retry_after {
            headers.insert(RETRY_AFTER, pause);
        }
        response
    }
}
