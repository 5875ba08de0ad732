//! How senders sign.

use std::fmt;
use std::str::FromStr;

use http::HeaderName;

/// How the webhooks of a sender are signed. Each is an HMAC-SHA256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    /// [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp` and `webhook-signature`, or the
    /// same with `svix-` before. Id, time and body are signed.
    Standard,
    /// As Stripe does: one header with `t=SECONDS,v1=HEX`. Time and body are signed. The id of the event is in the body.
    Stripe(HeaderName),
    /// As GitHub does: one header with `sha256=HEX`. Only the body is signed: no time, and no id in a header.
    GitHub(HeaderName),
}

/// A text that names no scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scheme of signatures; write standard, stripe, github, stripe:HEADER or github:HEADER")]
pub struct NoScheme(String);

const STRIPE: HeaderName = HeaderName::from_static("stripe-signature");
const GITHUB: HeaderName = HeaderName::from_static("x-hub-signature-256");

impl Scheme {
    /// Where senders of this scheme have the id of an event, as `header:NAME` or `json:/POINTER`.
    #[must_use]
    pub fn usual_id(&self) -> &'static str {
        match self {
            Self::Standard => "header:webhook-id",
            Self::Stripe(_) => "json:/id",
            Self::GitHub(_) => "header:x-github-delivery",
        }
    }
}

impl FromStr for Scheme {
    type Err = NoScheme;

    /// Reads `standard`, `stripe`, `github`, and the latter two with the header of another sender: `stripe:x-acme-signature`.
    fn from_str(text: &str) -> Result<Self, NoScheme> {
        let wrong = || NoScheme(text.to_owned());
        match text.split_once(':') {
            None if text == "standard" => Ok(Self::Standard),
            None if text == "stripe" => Ok(Self::Stripe(STRIPE)),
            None if text == "github" => Ok(Self::GitHub(GITHUB)),
            Some(("stripe", name)) => name.parse().map(Self::Stripe).map_err(|_| wrong()),
            Some(("github", name)) => name.parse().map(Self::GitHub).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard"),
            Self::Stripe(name) if *name == STRIPE => f.write_str("stripe"),
            Self::Stripe(name) => write!(f, "stripe:{name}"),
            Self::GitHub(name) if *name == GITHUB => f.write_str("github"),
            Self::GitHub(name) => write!(f, "github:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        for text in ["standard", "stripe", "github", "stripe:x-acme", "github:x-acme"] {
            assert_eq!(text.parse::<Scheme>().unwrap().to_string(), text);
        }
        for text in ["", "Standard", "standard:x", "stripe:", "stripe:a b", "paypal"] {
            assert!(text.parse::<Scheme>().is_err(), "{text}");
        }
    }
}
