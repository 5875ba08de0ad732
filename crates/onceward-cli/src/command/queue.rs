//! `onceward queue`: what operators do with messages, straight in the store.

use std::process::ExitCode;
use std::time::Duration;

use onceward::queue::{Letter, Letters, Reason, Redriven};
use onceward::store::Cursor;
use onceward::{Engine, RecordId};
use onceward_gateway::settings::reasons;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::say::say;

/// Look at messages that are no longer tried, send them again or drop them
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Messages that are no longer tried
    #[command(subcommand)]
    Dead(Dead),
}

/// Messages that are no longer tried
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Dead {
    /// List dead letters
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Only of this topic
        #[arg(long)]
        topic: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Go on where an earlier page ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Show one letter with the whole message
    Show {
        #[command(flatten)]
        store: StoreArgs,
        /// The letter's id, 64 hexadecimal digits
        id: String,
    },
    /// Publish the message of a letter again, as it was, and forget the letter
    ///
    /// Its consumer runs it once, however often this is repeated. What its producer sends again under the same id stays dead.
    Redrive {
        #[command(flatten)]
        store: StoreArgs,
        /// The letter's id
        id: String,
        /// The broker, for example redis-streams://127.0.0.1:6379/orders; the topic is the letter's own
        #[arg(long, value_name = "URL")]
        to: String,
        /// Of an unresolved letter: somebody looked, and its effect did not happen
        #[arg(long)]
        did_not_happen: bool,
    },
    /// Forget a letter at once; its message stays dead
    ///
    /// Also for an unresolved letter whose effect did happen.
    Drop {
        #[command(flatten)]
        store: StoreArgs,
        /// The letter's id
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The store of the consumers, for example postgres://user@host/database
    #[arg(long, value_name = "URL", env = "ONCEWARD_STORE", hide_env_values = true)]
    store: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) type Failed = (Exit, String);

pub(crate) async fn run(Verb::Dead(verb): Verb) -> ExitCode {
    match carry_out(verb).await {
        Ok(()) => Exit::Done.code(),
        Err((exit, reason)) => exit.report(&reason),
    }
}

/// An engine over the store that a URL names.
pub(crate) async fn engine(url: &str) -> Result<Engine, Failed> {
    onceward::check(url).map_err(|it| (Exit::Usage, format!("--store: {}", reasons(&it))))?;
    let store = onceward::open(url).await.map_err(|it| (Exit::CannotStart, reasons(&it)))?;
    Ok(Engine::new(store))
}

/// Sweeps what is over, and gives back what strayed, until `ending`.
pub(crate) async fn keep_up(engine: Engine, ending: CancellationToken) {
    while !ending.is_cancelled() {
        let more = engine.maintain().await.is_ok_and(|it| it.more);
        tokio::select! {
            () = ending.cancelled() => {}
            () = tokio::time::sleep(Duration::from_secs(1)), if !more => {}
            () = std::future::ready(()), if more => {}
        }
    }
}

async fn carry_out(verb: Dead) -> Result<(), Failed> {
    let no = |error: onceward::Error| (Exit::No, reasons(&error));
    match verb {
        Dead::List { store, topic, limit, cursor } => {
            let cursor = cursor.map(|it| id_of(&it).map(Cursor)).transpose()?;
            let letters = Letters::new(engine(&store.store).await?);
            let (letters, next) = letters.list(topic.as_deref(), cursor, limit).await.map_err(no)?;
            let next = next.map(|it| it.0.to_string());
            if store.json {
                let letters: Vec<_> = letters.iter().map(|(id, letter)| as_json(*id, letter)).collect();
                say(&format!("{:#}\n", json!({ "letters": letters, "next": next })));
            } else {
                say(&table(&letters, next.as_deref()));
            }
        }
        Dead::Show { store, id } => {
            let id = id_of(&id)?;
            let letter = Letters::new(engine(&store.store).await?).get(id).await.map_err(no)?;
            let letter = letter.ok_or_else(not_found)?;
            say(&if store.json { format!("{:#}\n", as_json(id, &letter)) } else { sheet(id, &letter) });
        }
        Dead::Redrive { store, id, to, did_not_happen } => {
            let id = id_of(&id)?;
            let source = onceward::queue::source::open::open(&to, "onceward-redrive");
            let source = source.map_err(|it| (Exit::Usage, format!("--to: {}", reasons(&it))))?;
            let letters = Letters::new(engine(&store.store).await?);
            let letter = letters.get(id).await.map_err(no)?.ok_or_else(not_found)?;
            let redriven = letters.redrive(id, &*source, did_not_happen).await;
            match redriven.map_err(|it| (Exit::No, format!("{}; the letter stays", reasons(&it))))? {
                Redriven::Published if letter.reason == Reason::NoIdentity => say(
                    "published as it was, and the letter is gone; but its consumer finds no id in it, as before, and makes a new letter \
                     of it, unless --key of the consumer has changed since\n",
                ),
                Redriven::Published => say("published, and the letter is gone\n"),
                Redriven::OtherPayload => {
                    let what = "its id was first used for another payload, so it must not run under it: let its producer send it \
                                under an id of its own, and drop the letter";
                    return Err((Exit::No, what.to_owned()));
                }
                Redriven::NotFound => return Err(not_found()),
                Redriven::Unresolved => {
                    let what = "nobody knows whether its effect happened: look, and say --did-not-happen if it did not";
                    return Err((Exit::No, what.to_owned()));
                }
            }
        }
        Dead::Drop { store, id } => {
            let id = id_of(&id)?;
            if !Letters::new(engine(&store.store).await?).forget(id).await.map_err(no)? {
                return Err(not_found());
            }
            say("dropped\n");
        }
    }
    Ok(())
}

fn id_of(text: &str) -> Result<RecordId, Failed> {
    RecordId::parse(text)
        .ok_or_else(|| (Exit::Usage, format!("`{text}` is no id: it has 64 hexadecimal digits")))
}

fn not_found() -> Failed {
    (Exit::No, "there is no such letter".to_owned())
}

fn as_json(id: RecordId, letter: &Letter) -> Value {
    let message = &letter.message;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<_> = message.headers.iter().map(|it| json!([it.0, text(&it.1)])).collect();
    json!({
        "id": id.to_string(),
        "reason": letter.reason.as_str(),
        "detail": letter.detail,
        "attempts": letter.attempts,
        "consumer": letter.consumer,
        "topic": &*message.topic,
        "position": letter.position,
        "record": letter.record,
        "key": message.key.as_deref().map(text),
        "headers": headers,
        "body": text(&message.body),
    })
}

fn table(letters: &[(RecordId, Letter)], next: Option<&str>) -> String {
    let mut rows = vec![["REASON", "TOPIC", "CONSUMER", "ATTEMPTS", "ID", "DETAIL"].map(str::to_owned)];
    rows.extend(letters.iter().map(|(id, it)| {
        let detail: String = it.detail.chars().take(60).collect();
        let attempts = it.attempts.to_string();
        [
            it.reason.to_string(),
            it.message.topic.to_string(),
            it.consumer.clone(),
            attempts,
            id.to_string(),
            detail,
        ]
    }));
    let width = |column: usize| rows.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut out: String = rows.iter().map(line).collect();
    if letters.is_empty() {
        out.push_str("(none)\n");
    }
    if let Some(next) = next {
        out.push_str(&format!("more: --cursor {next}\n"));
    }
    out
}

fn sheet(id: RecordId, letter: &Letter) -> String {
    let shown = as_json(id, letter);
    let mut out = String::new();
    for name in ["id", "reason", "detail", "attempts", "consumer", "topic", "position", "record", "key"] {
        match &shown[name] {
            Value::Null => {}
            Value::String(text) => out.push_str(&format!("{name:<9} {text}\n")),
            other => out.push_str(&format!("{name:<9} {other}\n")),
        }
    }
    for header in &letter.message.headers {
        out.push_str(&format!("header    {}: {}\n", header.0, String::from_utf8_lossy(&header.1)));
    }
    out.push_str(&format!("\n{}\n", String::from_utf8_lossy(&letter.message.body)));
    out
}
