//! The answers of the payment API: JSON that ends in a newline, for readers in a terminal.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::demo::bank::Refusal;

/// A call that the API refuses, in words that say what to do next.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    error: &'static str,
    /// The part of the request that is at fault, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, field: None, message: message.into() }
    }

    /// A 400 that names the field or header at fault.
    pub(super) fn bad(field: &'static str, message: impl Into<String>) -> Self {
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, "bad_request", message) }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownAccount { field, account } => Self {
                field: Some(field),
                ..Self::new(
                    StatusCode::NOT_FOUND,
                    "unknown_account",
                    format!("there is no account {account:?}: GET /accounts lists them"),
                )
            },
            Refusal::NotEnoughMoney { account, balance } => Self {
                field: Some("amount"),
                ..Self::new(
                    StatusCode::PAYMENT_REQUIRED,
                    "not_enough_money",
                    format!("the account {account:?} holds only {balance} cents"),
                )
            },
            Refusal::SameAccount => Self::bad("to", "to must be another account than from"),
            Refusal::TooMuchMoney { account } => {
                Self::bad("amount", format!("the account {account:?} cannot hold that much"))
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        json(self.status, &self)
    }
}

/// `body` as one line of JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut text = serde_json::to_vec(body).expect("our own answers hold nothing that JSON cannot say");
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
