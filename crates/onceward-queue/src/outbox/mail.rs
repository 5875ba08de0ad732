//! Effects that go out as e-mail, through a server that takes them over.
//!
//! The destination is whom it goes to, several with commas between them; the body is its text. The headers `subject` and `reply-to`
//! are those of the mail, `content-type` is `text/plain; charset=utf-8` unless it says otherwise. The `Message-ID` is made from the id
//! of the effect, so programs that drop a second mail with the same one drop it.

use std::fmt;

use async_trait::async_trait;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Mailboxes};
use lettre::transport::smtp;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};

use super::publish::in_words;
use super::{Outgoing, SendFailure, Sender};

/// Sends effects as e-mail.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// What does not describe who sends mail, and through which server.
#[derive(Debug, thiserror::Error)]
pub enum BadMail {
    /// The URL of the server.
    #[error(
        "the URL of the mail server is wrong; write `smtps://user:password@host` or `smtp://host?tls=required`"
    )]
    Url(#[source] smtp::Error),
    /// The address of the sender.
    #[error("the sender is no address; write `Shop <orders@shop.example>`")]
    From(#[source] lettre::address::AddressError),
}

impl Mail {
    /// Sends as `from` (`Shop <orders@shop.example>`), through the server at `url`: `smtps://user:password@host`, or
    /// `smtp://host?tls=required`, which encrypts once it is connected.
    ///
    /// # Errors
    /// [`BadMail`].
    pub fn new(url: &str, from: &str) -> Result<Self, BadMail> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(BadMail::Url)?.build();
        Ok(Self { transport, from: from.parse().map_err(BadMail::From)? })
    }

    fn message(&self, effect: &Outgoing) -> Result<Message, SendFailure> {
        let header = |name: &str| {
            let found = effect.headers.iter().find(|it| it.0.eq_ignore_ascii_case(name));
            let text = found.map(|it| std::str::from_utf8(&it.1)).transpose();
            text.map_err(|_| SendFailure::park(format!("its header `{name}` is no text")))
        };
        let bad = |what: &str| SendFailure::park(format!("{what} is no address"));
        let to: Mailboxes = effect.destination.parse().map_err(|_| bad("its destination"))?;
        let kind = header("content-type")?.map(ContentType::parse).transpose();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .mailbox(lettre::message::header::To::from(to))
            .message_id(Some(format!("<{}@{}>", effect.id, self.from.email.domain())))
            .subject(header("subject")?.unwrap_or_default())
            .header(
                kind.map_err(|_| SendFailure::park("its content type is none"))?
                    .unwrap_or(ContentType::TEXT_PLAIN),
            );
        if let Some(whom) = header("reply-to")? {
            builder = builder.reply_to(whom.parse().map_err(|_| bad("its header `reply-to`"))?);
        }
        let text = std::str::from_utf8(&effect.body).map_err(|_| SendFailure::park("its body is no text"))?;
        builder.body(text.to_owned()).map_err(|it| SendFailure::park(in_words(&it)))
    }
}

#[async_trait]
impl Sender for Mail {
    async fn send(&self, effect: &Outgoing) -> Result<(), SendFailure> {
        let message = self.message(effect)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            // The server refused it for good (5xx). Anything else may be otherwise the next time.
            Err(error) if error.is_permanent() => Err(SendFailure::park(in_words(&error))),
            Err(error) => Err(SendFailure::retry(in_words(&error))),
        }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").finish_non_exhaustive()
    }
}
