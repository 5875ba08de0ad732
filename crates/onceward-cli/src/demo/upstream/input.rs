//! Reads what a caller sent, field by field, so that each complaint names its field.

use std::num::NonZeroU64;

use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::answer::Problem;
use crate::demo::bank::{Arrived, CURRENCY};

/// What `POST /payments` asks for.
#[derive(Debug)]
pub(super) struct PaymentOrder {
    pub(super) account: String,
    pub(super) amount: NonZeroU64,
}

/// What `POST /transfers` asks for.
#[derive(Debug)]
pub(super) struct TransferOrder {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) amount: NonZeroU64,
}

impl PaymentOrder {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Fields::parse(body)?;
        let order = Self { account: fields.text("account")?, amount: fields.amount()? };
        fields.end()?;
        Ok(order)
    }
}

impl TransferOrder {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Fields::parse(body)?;
        let order = Self { from: fields.text("from")?, to: fields.text("to")?, amount: fields.amount()? };
        fields.end()?;
        Ok(order)
    }
}

/// What the caller, or a gateway before us, said about the call. Several header lines are shown as one.
pub(super) fn arrived(headers: &HeaderMap) -> Arrived {
    let shown = |name: &str| {
        let lines: Vec<_> =
            headers.get_all(name).iter().map(|it| String::from_utf8_lossy(it.as_bytes())).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    };
    Arrived {
        key: shown("idempotency-key"),
        fence: shown("onceward-fence"),
        attempt: shown("onceward-attempt"),
    }
}

/// The fields of a JSON object that nobody has asked for yet.
struct Fields(Map<String, Value>);

impl Fields {
    /// The media type is not looked at, so that a plain `curl -d` works.
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::bad("body", "the body must be a JSON object")),
            Err(error) => Err(Problem::bad("body", format!("the body is not JSON: {error}"))),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<String, Problem> {
        match self.0.remove(field) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text),
            Some(_) => Err(Problem::bad(field, format!("{field} must be the name of an account"))),
            None => Err(Problem::bad(field, format!("{field} is missing"))),
        }
    }

    fn amount(&mut self) -> Result<NonZeroU64, Problem> {
        let Some(amount) = self.0.remove("amount") else {
            return Err(Problem::bad("amount", "amount is missing"));
        };
        amount.as_u64().and_then(NonZeroU64::new).ok_or_else(|| {
            Problem::bad("amount", "amount must be a whole number of cents above 0, without quotes")
        })
    }

    /// Takes the optional currency and refuses what is left: a misspelt field is better refused than ignored.
    fn end(mut self) -> Result<(), Problem> {
        if self.0.remove("currency").is_some_and(|it| it != CURRENCY) {
            return Err(Problem::bad("currency", format!("currency must be \"{CURRENCY}\" or left out")));
        }
        match self.0.keys().next() {
            Some(field) => Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_request",
                format!("the field {field:?} is not known here"),
            )),
            None => Ok(()),
        }
    }
}
