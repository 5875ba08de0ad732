//! The refusals of the admin API (`application/problem+json`, RFC 9457), each with a stable code.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use onceward_core::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::reload::Refusal;

/// A refusal. Nothing was written, unless it says so.
#[derive(Debug)]
pub(crate) enum Problem {
    /// No token, or another one.
    Unauthorized,
    /// The request breaks a rule; the text names what.
    Invalid(String),
    /// The body is longer than the bound.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// The body is something other than JSON.
    MediaType,
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
    /// The answer still carries effects that are to go out.
    Carries,
    /// The process was started without a settings file.
    NoSettingsFile,
    /// The settings file was refused, for these reasons; the old settings stay.
    ReloadRefused(Vec<Refusal>),
    /// The store cannot be asked.
    StoreUnavailable,
    /// The change may have been written.
    Uncertain,
    /// What is stored cannot be read.
    Unreadable,
    /// The store gave an answer that no rule foresees.
    Unexpected,
}

/// What is fixed about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The last segment of the problem's `type`, the name of its page in the docs, and the word in the audit.
    pub(crate) code: &'static str,
    pub(crate) status: u16,
    pub(crate) title: &'static str,
}

impl Kind {
    /// The problem's `type`.
    pub(crate) fn uri(&self) -> String {
        format!("urn:onceward:error:{}", self.code)
    }
}

/// The kinds by name, so that the pages can say which of them they answer with.
pub(crate) mod kind {
    use super::Kind;

    const fn kind(code: &'static str, status: u16, title: &'static str) -> Kind {
        Kind { code, status, title }
    }

    pub(crate) const UNAUTHORIZED: Kind =
        kind("admin-unauthorized", 401, "The admin token is missing or wrong");
    pub(crate) const INVALID: Kind = kind("admin-request-invalid", 400, "The request cannot be used");
    pub(crate) const TOO_LARGE: Kind = kind("admin-request-too-large", 413, "The request is too large");
    pub(crate) const TOO_SLOW: Kind =
        kind("admin-request-too-slow", 408, "The request took too long to arrive");
    pub(crate) const MEDIA_TYPE: Kind = kind("admin-media-type", 415, "The body is not JSON");
    pub(crate) const NO_SUCH_PAGE: Kind = kind("admin-not-found", 404, "There is no such page");
    pub(crate) const NO_SUCH_METHOD: Kind =
        kind("admin-method-not-allowed", 405, "The page does not know this method");
    pub(crate) const NO_SUCH_RECORD: Kind = kind("record-not-found", 404, "There is no such record");
    pub(crate) const CHANGED: Kind = kind("record-changed", 409, "The record has changed");
    pub(crate) const LEASE_ALIVE: Kind = kind("lease-alive", 409, "The operation is still running");
    pub(crate) const NOTHING_TO_RESOLVE: Kind =
        kind("nothing-to-resolve", 409, "There is nothing to resolve");
    pub(crate) const CARRIES: Kind =
        kind("effects-not-sent", 409, "Effects of the operation are not sent yet");
    pub(crate) const NO_SETTINGS_FILE: Kind =
        kind("no-settings-file", 404, "There is no settings file to read again");
    pub(crate) const RELOAD_REFUSED: Kind = kind("reload-refused", 422, "The new settings were refused");
    pub(crate) const STORE_UNAVAILABLE: Kind =
        kind("admin-store-unavailable", 503, "The record store cannot be reached");
    pub(crate) const UNCERTAIN: Kind =
        kind("verdict-uncertain", 503, "The change may or may not have been written");
    pub(crate) const UNREADABLE: Kind = kind("record-unreadable", 500, "The record cannot be read");
    pub(crate) const UNEXPECTED: Kind = kind("admin-unexpected", 500, "Something unforeseen happened");
}

impl Problem {
    pub(crate) fn kind(&self) -> &'static Kind {
        match self {
            Self::Unauthorized => &kind::UNAUTHORIZED,
            Self::Invalid(_) => &kind::INVALID,
            Self::TooLarge => &kind::TOO_LARGE,
            Self::TooSlow => &kind::TOO_SLOW,
            Self::MediaType => &kind::MEDIA_TYPE,
            Self::NoSuchPage => &kind::NO_SUCH_PAGE,
            Self::NoSuchMethod => &kind::NO_SUCH_METHOD,
            Self::NoSuchRecord => &kind::NO_SUCH_RECORD,
            Self::Changed(_) => &kind::CHANGED,
            Self::LeaseAlive(_) => &kind::LEASE_ALIVE,
            Self::NothingToResolve => &kind::NOTHING_TO_RESOLVE,
            Self::Carries => &kind::CARRIES,
            Self::NoSettingsFile => &kind::NO_SETTINGS_FILE,
            Self::ReloadRefused(_) => &kind::RELOAD_REFUSED,
            Self::StoreUnavailable => &kind::STORE_UNAVAILABLE,
            Self::Uncertain => &kind::UNCERTAIN,
            Self::Unreadable => &kind::UNREADABLE,
            Self::Unexpected => &kind::UNEXPECTED,
        }
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.kind().code
    }

    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind().status).expect("every kind has a valid status")
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized => {
                "Send `Authorization: Bearer TOKEN` with the token from the gateway's token file.".into()
            }
            Self::Invalid(what) => format!("{what}. Nothing was changed."),
            Self::TooLarge => "The body is longer than this page accepts. Nothing was changed.".into(),
            Self::TooSlow => "The body did not arrive in time. Nothing was changed.".into(),
            Self::MediaType => {
                "Send the body as JSON, with `Content-Type: application/json`. Nothing was changed.".into()
            }
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
            Self::Carries => "The answer still carries effects that are to go out. Wait for the relay, or \
                 drop what is parked with `onceward outbox drop`. Nothing was changed."
                .into(),
            Self::NoSettingsFile => "The gateway was started without a settings file. Start it with one, \
                 `onceward gateway --config FILE`; then its changes can be taken over while it runs. Nothing \
                 was changed."
                .into(),
            Self::ReloadRefused(_) => "Each of `refusals` says what to correct in the settings file. The \
                 old settings stay in force."
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
            "type": self.kind().uri(),
            "title": self.kind().title,
            "status": self.kind().status,
            "detail": self.detail(),
        });
        let (status, mut retry_after) = (self.status(), None);
        match self {
            Self::Changed(record) => {
                json["revision"] = record["revision"].clone();
                json["record"] = record;
            }
            Self::LeaseAlive(left) => json["lease_remaining_seconds"] = left.as_secs_f64().into(),
            Self::ReloadRefused(refusals) => json["refusals"] = json!(refusals),
            Self::StoreUnavailable => retry_after = Some(HeaderValue::from_static("1")),
            Self::Unauthorized
            | Self::Invalid(_)
            | Self::TooLarge
            | Self::TooSlow
            | Self::MediaType
            | Self::NoSettingsFile
            | Self::NoSuchPage
            | Self::NoSuchMethod
            | Self::NoSuchRecord
            | Self::NothingToResolve
            | Self::Carries
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
