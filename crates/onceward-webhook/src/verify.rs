//! Whether a webhook comes from whom it says.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use onceward_core::Timestamp;

use crate::hex;
use crate::scheme::Scheme;
use crate::secret::Secrets;

/// How far the time of a webhook may be from ours, unless somebody says otherwise: what Standard Webhooks and Stripe advise.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// How many signatures of one webhook are looked at; senders send as many as they have secrets.
const SIGNATURES_MAX: usize = 16;

/// Verifies the webhooks of one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    scheme: Scheme,
    secrets: Secrets,
    tolerance: Duration,
}

/// Why a webhook is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// A header that belongs to the signature is not there, is there twice, or cannot be read.
    #[error("the headers of the signature are missing or cannot be read")]
    Unreadable,
    /// None of its signatures is by one of the secrets. The body was changed on the way, or somebody else sent it.
    #[error("no signature is by a secret that is known here")]
    NotOurs,
    /// It was signed too long ago.
    #[error("it was signed too long ago")]
    TooOld,
    /// It was signed too far in the future.
    #[error("it was signed too far in the future")]
    TooNew,
}

impl Verifier {
    /// Verifies by a scheme and secrets, with [`TOLERANCE`].
    #[must_use]
    pub fn new(scheme: Scheme, secrets: Secrets) -> Self {
        Self { scheme, secrets, tolerance: TOLERANCE }
    }

    /// Another tolerance. One that is longer than the outcome of an event is kept lets what was seen be sent again as new.
    #[must_use]
    pub fn tolerance(self, tolerance: Duration) -> Self {
        Self { tolerance, ..self }
    }

    /// The scheme.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Whether head and body of a request, whole and byte for byte as they came, were signed by one of the secrets, within the
    /// tolerance of `now`.
    ///
    /// # Errors
    /// They were not.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), BadSignature> {
        match &self.scheme {
            Scheme::Standard => self.standard(headers, body, now),
            Scheme::Stripe(name) => self.stripe(line(headers, name.as_str())?, body, now),
            Scheme::GitHub(name) => {
                let digits = line(headers, name.as_str())?.strip_prefix("sha256=");
                let signature = digits.and_then(hex::decode).ok_or(BadSignature::Unreadable)?;
                self.signed(&[body], &[signature])
            }
        }
    }

    fn standard(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), BadSignature> {
        let of = |prefix: &str| {
            let line = |name| line(headers, &format!("{prefix}-{name}"));
            Ok((line("id")?, line("timestamp")?, line("signature")?))
        };
        let prefix = if headers.contains_key("webhook-id") { "webhook" } else { "svix" };
        let (id, time, signatures) = of(prefix)?;
        let all = signatures.split(' ').filter_map(|it| it.strip_prefix("v1,"));
        let all: Vec<_> = all.take(SIGNATURES_MAX).filter_map(|it| BASE64_STANDARD.decode(it).ok()).collect();
        self.signed(&[id.as_bytes(), b".", time.as_bytes(), b".", body], &all)?;
        self.in_time(time, now)
    }

    fn stripe(&self, line: &str, body: &[u8], now: Timestamp) -> Result<(), BadSignature> {
        let pairs = || line.split(',').filter_map(|it| it.trim().split_once('='));
        let mut times = pairs().filter(|it| it.0 == "t").map(|it| it.1);
        let (Some(time), None) = (times.next(), times.next()) else { return Err(BadSignature::Unreadable) };
        let all = pairs().filter(|it| it.0 == "v1").take(SIGNATURES_MAX);
        let all: Vec<_> = all.filter_map(|it| hex::decode(it.1)).collect();
        self.signed(&[time.as_bytes(), b".", body], &all)?;
        self.in_time(time, now)
    }

    fn signed(&self, parts: &[&[u8]], signatures: &[Vec<u8>]) -> Result<(), BadSignature> {
        if signatures.is_empty() {
            return Err(BadSignature::Unreadable);
        }
        let is_ours = signatures.iter().any(|it| self.secrets.have_signed(parts, it));
        if is_ours { Ok(()) } else { Err(BadSignature::NotOurs) }
    }

    /// Asked after the signature: what strangers say of the time is not told them.
    fn in_time(&self, seconds: &str, now: Timestamp) -> Result<(), BadSignature> {
        let seconds: u64 = seconds.parse().map_err(|_| BadSignature::Unreadable)?;
        let now = now.as_millis() / 1000;
        match seconds.abs_diff(now) {
            off if off <= self.tolerance.as_secs() => Ok(()),
            _ if seconds < now => Err(BadSignature::TooOld),
            _ => Err(BadSignature::TooNew),
        }
    }
}

/// The one line of a header.
fn line<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, BadSignature> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next().map(|it| it.to_str()), lines.next()) {
        (Some(Ok(line)), None) => Ok(line),
        _ => Err(BadSignature::Unreadable),
    }
}

#[cfg(test)]
mod tests;
