//! What is stored with an answer, and the rules by which it changes. No store, no clock, no network.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use onceward_core::store::Put;
use onceward_core::transition::{carries_on, delivered};
use onceward_core::{Record, Timestamp};
use serde::{Deserialize, Serialize};

use crate::outbox::verdict::Next;
use crate::outbox::{Effect, EffectId};

/// The form in which it is written.
const FORM: u8 = 1;

/// An effect and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: EffectId,
    pub(super) effect: Effect,
}

/// What an answer still carries: at least one effect, in the order in which they go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cargo {
    /// How many tries of the first effect were begun.
    pub(super) attempts: u32,
    /// Since when the first effect is parked, by the store's clock.
    pub(super) parked: Option<Timestamp>,
    /// Why the last try failed.
    pub(super) reason: String,
    /// When the answer was stored, by the store's clock; not known before it was looked at.
    pub(super) since: Option<Timestamp>,
    pub(super) items: Vec<Item>,
}

/// Why what an answer carries cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// A newer build wrote it, and its relays read it.
    #[error("it has the form {0}, which this build does not know")]
    Newer(u64),
    /// Nobody can read it.
    #[error("it is damaged, or something else")]
    Corrupt(#[source] Cause),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What becomes of what an answer carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// All of it is sent.
    Delivered,
    /// The next effect goes out at once.
    Next(Cargo),
    /// Nothing more of it before this has passed.
    Rest(Cargo, Duration),
}

impl After {
    /// What says so in `record`, whose answer carries it.
    pub(super) fn put(&self, record: &Record) -> Put {
        match self {
            Self::Delivered => delivered(record, Timestamp::MAX),
            Self::Next(cargo) => carries_on(record, cargo.write(), Duration::ZERO, Timestamp::MAX),
            Self::Rest(cargo, pause) => carries_on(record, cargo.write(), *pause, Timestamp::MAX),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    form: u8,
    attempts: u32,
    parked: Option<u64>,
    reason: String,
    since: Option<u64>,
    effects: Vec<WrittenItem>,
}

/// What every form has, so that older builds know whose it is.
#[derive(Deserialize)]
struct Form {
    form: u64,
}

/// Bytes are written as Base64.
#[derive(Serialize, Deserialize)]
struct WrittenItem {
    id: String,
    kind: String,
    destination: String,
    key: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
}

impl Cargo {
    pub(super) fn new(items: Vec<Item>) -> Self {
        Self { attempts: 0, parked: None, reason: String::new(), since: None, items }
    }

    /// With one more try of its first effect. That an earlier one failed is over.
    pub(super) fn begun(self) -> Self {
        Self { attempts: self.attempts.saturating_add(1), reason: String::new(), ..self }
    }

    /// What becomes of it by how its first effect went, at `now`.
    pub(super) fn after(mut self, next: Next, now: Timestamp) -> After {
        match next {
            Next::Sent => {
                self.items.remove(0);
                self.untried()
            }
            Next::Again { pause, reason } => After::Rest(Self { reason, ..self }, pause),
            // Nobody is woken by it again, and it stays.
            Next::Park { reason } => After::Rest(Self { reason, parked: Some(now), ..self }, Duration::MAX),
        }
    }

    /// As if its first effect had never been tried.
    pub(super) fn untried(self) -> After {
        if self.items.is_empty() {
            return After::Delivered;
        }
        After::Next(Self { attempts: 0, parked: None, reason: String::new(), ..self })
    }

    /// Without its first effect, which is given up.
    pub(super) fn without_first(mut self) -> After {
        self.items.remove(0);
        self.untried()
    }

    pub(super) fn write(&self) -> Bytes {
        let item = |it: &Item| WrittenItem {
            id: it.id.to_string(),
            kind: it.effect.kind.clone(),
            destination: it.effect.destination.clone(),
            key: it.effect.key.as_ref().map(|it| BASE64.encode(it)),
            headers: it.effect.headers.iter().map(|it| (it.0.clone(), BASE64.encode(&it.1))).collect(),
            body: BASE64.encode(&it.effect.body),
        };
        let written = Written {
            form: FORM,
            attempts: self.attempts,
            parked: self.parked.map(Timestamp::as_millis),
            reason: self.reason.clone(),
            since: self.since.map(Timestamp::as_millis),
            effects: self.items.iter().map(item).collect(),
        };
        serde_json::to_vec(&written).expect("text and numbers can be written as JSON").into()
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Unread> {
        let written = match serde_json::from_slice(bytes) {
            Ok(Written { form: FORM, effects, .. }) if effects.is_empty() => {
                return Err(corrupt("it is empty"));
            }
            Ok(written @ Written { form: FORM, .. }) => written,
            other => return Err(of_another_form(bytes, other.err())),
        };
        Ok(Self {
            attempts: written.attempts,
            parked: written.parked.map(Timestamp::from_millis),
            reason: written.reason,
            since: written.since.map(Timestamp::from_millis),
            items: written.effects.into_iter().map(item).collect::<Result<_, _>>()?,
        })
    }
}

fn item(it: WrittenItem) -> Result<Item, Unread> {
    let decode = |text: &str| BASE64.decode(text).map(Bytes::from).map_err(corrupt);
    let headers = it.headers.into_iter().map(|it| Ok((it.0, decode(&it.1)?)));
    let effect = Effect {
        kind: it.kind,
        destination: it.destination,
        key: it.key.as_deref().map(decode).transpose()?,
        headers: headers.collect::<Result<_, Unread>>()?,
        body: decode(&it.body)?,
    };
    Ok(Item { id: EffectId::parse(&it.id).ok_or_else(|| corrupt("an id is none"))?, effect })
}

/// Of a newer form, which may have none of the fields that this build knows, or of none.
fn of_another_form(bytes: &[u8], error: Option<serde_json::Error>) -> Unread {
    match serde_json::from_slice(bytes) {
        Ok(Form { form }) if form > u64::from(FORM) => Unread::Newer(form),
        // Not the error's own text, which may show a part of what is there.
        _ => corrupt(error.map_or_else(
            || "its form is none".to_owned(),
            |it| format!("{:?} error at line {}, column {}", it.classify(), it.line(), it.column()),
        )),
    }
}

fn corrupt(cause: impl Into<Cause>) -> Unread {
    Unread::Corrupt(cause.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1000);

    fn item(number: u8) -> Item {
        let effect = Effect {
            kind: "http".into(),
            destination: format!("https://shop.example/{number}"),
            key: number.is_multiple_of(2).then(|| Bytes::from(vec![number, 0, 255])),
            headers: vec![("a".into(), Bytes::from_static(b"\xff")), ("a".into(), Bytes::new())],
            body: Bytes::from(vec![number; 3]),
        };
        Item { id: EffectId::from_bytes([number; 16]), effect }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let fresh = Cargo::new(vec![item(1), item(2)]);
        let parked =
            Cargo { parked: Some(NOW), since: Some(NOW), reason: "no such topic".into(), ..fresh.clone() };
        for cargo in [fresh.clone(), fresh.begun(), parked] {
            assert_eq!(Cargo::read(&cargo.write()).unwrap(), cargo);
        }
        for bytes in [
            "",
            "{}",
            "half",
            r#"{"form":1}"#,
            r#"{"form":0}"#,
            r#"{"form":"2"}"#,
            r#"{"form":1,"attempts":0,"parked":null,"reason":"","since":null,"effects":[]}"#,
        ] {
            assert!(matches!(Cargo::read(bytes.as_bytes()), Err(Unread::Corrupt(_))), "{bytes}");
        }
        let written = String::from_utf8(Cargo::new(vec![item(1)]).write().to_vec()).unwrap();
        for bytes in
            [&written.replace("\"form\":1", "\"form\":2"), r#"{"form":2}"#, r#"{"form":300,"x":[{}]}"#]
        {
            assert!(matches!(Cargo::read(bytes.as_bytes()), Err(Unread::Newer(2 | 300))), "{bytes}");
        }
    }

    #[test]
    fn effects_go_one_after_the_other_and_each_has_its_own_tries() {
        let cargo = Cargo { since: Some(NOW), ..Cargo::new(vec![item(1), item(2)]) }.begun().begun();
        let pause = Duration::from_secs(4);
        let again = Next::Again { pause, reason: "busy".into() };
        let rested = Cargo { reason: "busy".into(), ..cargo.clone() };
        assert_eq!(cargo.clone().after(again, NOW), After::Rest(rested.clone(), pause));

        let second = Cargo { since: Some(NOW), ..Cargo::new(vec![item(2)]) };
        assert_eq!(rested.after(Next::Sent, NOW), After::Next(second.clone()));
        assert_eq!(second.clone().begun().after(Next::Sent, NOW), After::Delivered);

        let park = Next::Park { reason: "no such topic".into() };
        let parked = Cargo { reason: "no such topic".into(), parked: Some(NOW), ..cargo.clone() };
        assert_eq!(cargo.clone().after(park, NOW), After::Rest(parked.clone(), Duration::MAX));
        let afresh = Cargo { attempts: 0, ..cargo };
        assert_eq!(parked.clone().untried(), After::Next(afresh));
        assert_eq!(parked.without_first(), After::Next(second.clone()));
        assert_eq!(second.without_first(), After::Delivered);
    }
}
