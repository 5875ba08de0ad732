//! What sends the effects of each kind, by `--send` and `--secret`.

use std::collections::HashMap;
use std::sync::Arc;

use onceward::queue::outbox::mail::Mail;
use onceward::queue::outbox::webhook::{Webhook, WebhookPlace, WebhookSecret};
use onceward::queue::outbox::{Publish, Sender};
use onceward::queue::source::open::open;
use onceward_gateway::settings::reasons;
use url::Url;

use crate::command::queue::Failed;
use crate::exit::Exit;

/// The name that brokers see where they ask for one.
const GROUP: &str = "onceward-relay";

/// A kind and what sends it.
pub(in crate::command) type OfKind = (String, Arc<dyn Sender>);

/// A sender for each kind.
///
/// # Errors
/// A flag is wrong, by its name. Nobody was asked, and no secret stands in the text.
pub(in crate::command) fn senders(
    send: &[(String, String)],
    secrets: &[(String, String)],
    mail_from: Option<&str>,
) -> Result<Vec<OfKind>, Failed> {
    let mut places = HashMap::new();
    for (kind, place) in secrets {
        if !send.iter().any(|it| it.0 == *kind) {
            return Err(usage(format!("--secret: no `--send {kind}=…` uses it")));
        }
        if places.insert(kind, place).is_some() {
            return Err(usage(format!("--secret: `{kind}` stands there twice")));
        }
    }
    let mut senders: Vec<OfKind> = Vec::new();
    for (kind, url) in send {
        if senders.iter().any(|it| it.0 == *kind) {
            return Err(usage(format!("--send: `{kind}` stands there twice")));
        }
        let secret = places.get(kind).map(|it| read(kind, it)).transpose()?;
        let wrong = |it: &dyn std::error::Error| usage(format!("--send {kind}: {}", reasons(it)));
        let sender: Arc<dyn Sender> = match url.split(':').next().unwrap_or_default() {
            "http" | "https" => Arc::new(webhook(kind, url, secret.as_deref())?),
            "smtp" | "smtps" => {
                let url = with_password(kind, url, secret.as_deref())?;
                let unsaid = || usage(format!("--send {kind}: say with --mail-from who sends e-mail"));
                Arc::new(Mail::new(&url, mail_from.ok_or_else(unsaid)?).map_err(|it| wrong(&it))?)
            }
            _ => {
                let url = with_password(kind, url, secret.as_deref())?;
                Arc::new(Publish::new(open(&url, GROUP).map_err(|it| wrong(&it))?))
            }
        };
        senders.push((kind.clone(), sender));
    }
    Ok(senders)
}

fn webhook(kind: &str, url: &str, secret: Option<&str>) -> Result<Webhook, Failed> {
    let place: WebhookPlace = url.parse().map_err(|it| usage(format!("--send {kind}: {it}")))?;
    let lines = secret.into_iter().flat_map(str::lines).map(str::trim).filter(|it| !it.is_empty());
    let secrets: Vec<_> = lines
        .map(WebhookSecret::standard)
        .collect::<Result<_, _>>()
        .map_err(|it| usage(format!("--secret {kind}: {it}")))?;
    if secret.is_some() && secrets.is_empty() {
        return Err(usage(format!("--secret {kind}: it is empty")));
    }
    let webhook = Webhook::new().map_err(|it| (Exit::CannotStart, reasons(&it)))?;
    Ok(webhook.to(place).signed_by(move |_| secrets.clone()))
}

/// The URL as it is, or with that password in it.
fn with_password(kind: &str, url: &str, password: Option<&str>) -> Result<String, Failed> {
    let Some(password) = password else { return Ok(url.to_owned()) };
    let cannot = || usage(format!("--secret {kind}: its URL can have no password"));
    let mut url = Url::parse(url).map_err(|_| cannot())?;
    if url.password().is_some() {
        return Err(usage(format!("--secret {kind}: there is a password in its URL already")));
    }
    url.set_password(Some(password.trim_end_matches(['\r', '\n']))).map_err(|()| cannot())?;
    Ok(url.into())
}

#[expect(clippy::disallowed_methods, reason = "the variable is the one that the flag names")]
fn read(kind: &str, place: &str) -> Result<String, Failed> {
    match place.split_once(':') {
        Some(("file", path)) => std::fs::read_to_string(path)
            .map_err(|it| usage(format!("--secret {kind}: cannot read {path}: {it}"))),
        Some(("env", name)) => {
            std::env::var(name).map_err(|_| usage(format!("--secret {kind}: the variable {name} is not set")))
        }
        _ => Err(usage(format!("--secret {kind}: write file:PATH or env:VARIABLE, never the secret itself"))),
    }
}

fn usage(what: String) -> Failed {
    (Exit::Usage, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(send: &[&str], secrets: &[&str], from: Option<&str>) -> Result<usize, String> {
        let pairs =
            |all: &[&str]| -> Vec<_> { all.iter().map(|it| super::super::pair(it).unwrap()).collect() };
        senders(&pairs(send), &pairs(secrets), from).map(|it| it.len()).map_err(|it| it.1)
    }

    // The pool of the mail sender wants a runtime.
    #[tokio::test]
    async fn what_cannot_send_is_refused_by_name_and_no_secret_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("hooks=file:{}", path.display())
        };
        let two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n\nwhsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
        let (good, bad, empty) = (file("good", two), file("bad", "s3cret\n"), file("empty", "\n"));
        let (good, bad, empty) = (&*good, &*bad, &*empty);
        let hooks = "hooks=https://shop.example/hooks/";
        assert_eq!(said(&[hooks, "any=https:", "plain=http:"], &[good], None), Ok(3));
        let mail = "mail=smtps://me@mail.example";
        assert_eq!(said(&[mail], &[], Some("Shop <orders@shop.example>")), Ok(1));
        for (send, secrets, from, what) in [
            (&[hooks, hooks][..], &[][..], None, "--send: `hooks` stands there twice"),
            (&[hooks], &["hook=env:X"], None, "--secret: no `--send hook=…` uses it"),
            (&[hooks], &[good, good], None, "--secret: `hooks` stands there twice"),
            (&[hooks], &[bad], None, "--secret hooks: a secret of Standard Webhooks is"),
            (&[hooks], &[empty], None, "--secret hooks: it is empty"),
            (&[hooks], &["hooks=whsec_s3cret"], None, "write file:PATH or env:VARIABLE"),
            (&[hooks], &["hooks=file:/nowhere/at/all"], None, "cannot read /nowhere/at/all"),
            (&[hooks], &["hooks=env:NO_SUCH_VARIABLE_HERE"], None, "NO_SUCH_VARIABLE_HERE is not set"),
            (
                &["hooks=https://me:s3cret@shop.example/"],
                &[],
                None,
                "--send hooks: write `https://host/path`",
            ),
            (&[mail], &[], None, "--send mail: say with --mail-from"),
            (&[mail], &[], Some("nobody"), "--send mail: the sender is no address"),
            (&["orders=ftp://a/b"], &[], None, "--send orders: there is no source `ftp:`"),
            (&["hooks=nats://me:pw@h/S"], &[bad], None, "there is a password in its URL already"),
        ] {
            let told = said(send, secrets, from).unwrap_err();
            assert!(told.contains(what) && !told.contains("s3cret"), "{told} instead of {what}");
        }
    }

    #[test]
    fn a_password_is_put_into_its_url_as_urls_have_it() {
        let with = |url: &str| with_password("it", url, Some("p@ss/w\n")).ok();
        assert_eq!(with("amqp://me@host/queue").as_deref(), Some("amqp://me:p%40ss%2Fw@host/queue"));
        assert_eq!(with("redis-streams://host/s").as_deref(), Some("redis-streams://:p%40ss%2Fw@host/s"));
        assert_eq!(with("orders"), None);
    }
}
