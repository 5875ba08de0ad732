//! Signatures of webhooks: made for those that go out, verified for those that come in.
//!
//! ```
//! use onceward_core::Timestamp;
//! use onceward_webhook::{Scheme, Secrets, Verifier};
//!
//! let secrets = Secrets::parse(&Scheme::Standard, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let verifier = Verifier::new(Scheme::Standard, secrets);
//! let headers = http::HeaderMap::new();
//! assert!(verifier.verify(&headers, b"{}", Timestamp::from_millis(0)).is_err());
//! # Ok::<(), onceward_webhook::BadSecret>(())
//! ```
//!
//! A signature says who sent a body, and with [`Scheme::Standard`] and [`Scheme::Stripe`] when. It does not say that the body comes
//! for the first time: within the tolerance anybody who saw it can send it again, and senders do so themselves. That it has its
//! effect once is the business of the operation behind, whose key is the id of the event.

mod hex;
mod scheme;
mod secret;
mod verify;

pub use crate::scheme::{NoScheme, Scheme};
pub use crate::secret::{BadSecret, Secret, Secrets};
pub use crate::verify::{BadSignature, TOLERANCE, Verifier};
