//! What signs webhooks.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac};
use sha2::Sha256;

use crate::scheme::Scheme;

/// A secret that the sender and the receiver of webhooks share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

/// A text that is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// It is not written as Standard Webhooks writes them.
    #[error("a secret of Standard Webhooks is `whsec_` and 24 to 64 bytes in base64")]
    NotStandard,
    /// It is too short to be one.
    #[error("a secret has at least 8 characters")]
    TooShort,
    /// There is none.
    #[error("there is no secret; write one, or several below one another while the sender changes over")]
    None,
}

/// The shortest secret of senders that do not say how theirs are made.
const SHORTEST: usize = 8;

impl Secret {
    /// Reads a secret as Standard Webhooks writes it: `whsec_` and base64 of 24 to 64 bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn standard(text: &str) -> Result<Self, BadSecret> {
        let digits = text.strip_prefix("whsec_").ok_or(BadSecret::NotStandard)?;
        let bytes = BASE64_STANDARD.decode(digits).map_err(|_| BadSecret::NotStandard)?;
        if (24..=64).contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(BadSecret::NotStandard) }
    }

    /// Reads a secret as the senders of a scheme write it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(scheme: &Scheme, text: &str) -> Result<Self, BadSecret> {
        match scheme {
            Scheme::Standard => Self::standard(text),
            Scheme::Stripe(_) | Scheme::GitHub(_) if text.len() < SHORTEST => Err(BadSecret::TooShort),
            Scheme::Stripe(_) | Scheme::GitHub(_) => Ok(Self(text.as_bytes().to_vec())),
        }
    }

    /// `v1,` and the signature of id, time and body, as Standard Webhooks has it in `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let seconds = seconds.to_string();
        let mac = self.mac(&[id.as_bytes(), b".", seconds.as_bytes(), b".", body]);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// Whether `signature` is that of `parts`, in a time that does not tell how much of it is right.
    pub(crate) fn has_signed(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        self.mac(parts).verify_slice(signature).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.iter().for_each(|it| mac.update(it));
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The secrets of one sender: more than one while it changes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Reads a text with a secret on each line; empty lines do not count.
    ///
    /// # Errors
    /// One of them is none, or there is none.
    pub fn parse(scheme: &Scheme, text: &str) -> Result<Self, BadSecret> {
        let lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
        let secrets: Vec<_> = lines.map(|it| Secret::parse(scheme, it)).collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err(BadSecret::None) } else { Ok(Self(secrets)) }
    }

    pub(crate) fn have_signed(&self, parts: &[&[u8]], signature: &[u8]) -> bool {
        self.0.iter().any(|it| it.has_signed(parts, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The example that libraries of Standard Webhooks share.
        let secret = Secret::standard("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in ["whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_c2hvcnQ="] {
            assert_eq!(Secrets::parse(&Scheme::Standard, text), Err(BadSecret::NotStandard), "{text}");
        }
        let stripe: Scheme = "stripe".parse().unwrap();
        assert_eq!(Secrets::parse(&stripe, "short"), Err(BadSecret::TooShort));
        assert_eq!(Secrets::parse(&stripe, " \n\n"), Err(BadSecret::None));
        assert_eq!(Secrets::parse(&stripe, "it's a secret\n\n another one \n").unwrap().0.len(), 2);
    }
}
