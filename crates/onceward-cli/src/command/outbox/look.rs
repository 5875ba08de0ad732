//! Carries the verbs out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[cfg(feature = "outbox")]
use onceward::queue::outbox::Outbox;
use onceward::queue::outbox::{AnswerOutbox, EffectId, Parked, Stats};
use onceward::{Clock as _, Engine, SystemClock, Timestamp};
use onceward_gateway::settings::reasons;
use serde_json::{Value, json};
#[cfg(feature = "outbox")]
use sqlx::PgPool;

use super::{StoreArgs, Verb};
use crate::command::queue::Failed;
#[cfg(feature = "outbox")]
use crate::command::relay::database;
use crate::exit::Exit;
use crate::say::say;

/// How many parked effects are read at a time.
#[cfg(feature = "outbox")]
const PAGE: usize = 500;

/// Where effects are: in a table, and with the answers of any store.
struct Place {
    #[cfg(feature = "outbox")]
    table: Option<(Outbox, PgPool)>,
    answers: AnswerOutbox,
}

pub(super) async fn carry_out(verb: Verb) -> Result<(), Failed> {
    match verb {
        Verb::Stats { store } => {
            let stats = Place::open(&store).await?.stats().await?;
            say(&if store.json { format!("{:#}\n", stats_json(&stats)) } else { stats_sheet(&stats) });
        }
        Verb::List { store, kind, limit, cursor } => {
            let wanted = |it: &Parked| kind.as_ref().is_none_or(|kind| *kind == it.effect.kind);
            let place = Place::open(&store).await?;
            let mut parked = place.find(cursor.unwrap_or(0), limit.saturating_add(1), wanted).await?;
            let more = parked.len() > limit;
            parked.truncate(limit);
            // What answers carry has no numbers to go on from.
            let next = parked.last().map(|it| it.number).filter(|it| more && *it > 0);
            if store.json {
                let effects: Vec<_> = parked.iter().map(as_json).collect();
                say(&format!("{:#}\n", json!({ "effects": effects, "next": next })));
            } else {
                say(&table(&parked, next));
                if more && next.is_none() {
                    say("more: a higher --limit\n");
                }
            }
        }
        Verb::Show { store, id } => {
            let id = id_of(&id)?;
            let found = Place::open(&store).await?.find(0, 1, |it| it.effect.id == id).await?;
            let found = found.first().ok_or_else(|| not_parked(1))?;
            say(&if store.json { format!("{:#}\n", as_json(found)) } else { sheet(found) });
        }
        Verb::Redrive { store, ids, all, kind } => {
            let ids = ids_of(&ids)?;
            let place = Place::open(&store).await?;
            let ids = if all {
                let wanted = |it: &Parked| kind.as_ref().is_none_or(|kind| *kind == it.effect.kind);
                place.find(0, usize::MAX, wanted).await?.iter().map(|it| it.effect.id).collect()
            } else {
                ids
            };
            let done = place.redrive(&ids).await?;
            told(&store, "redriven", done, if all { done } else { ids.len() })?;
        }
        Verb::Drop { store, ids } => {
            let ids = ids_of(&ids)?;
            let done = Place::open(&store).await?.drop_parked(&ids).await?;
            told(&store, "dropped", done, ids.len())?;
        }
    }
    Ok(())
}

fn no(error: onceward::Error) -> Failed {
    (Exit::No, reasons(&error))
}

impl Place {
    async fn open(store: &StoreArgs) -> Result<Self, Failed> {
        #[cfg(feature = "outbox")]
        let table = database(&store.store, 1)?;
        // It says better than a question that fails what is wrong with the tables.
        let opened = onceward::open_to_look(&store.store).await;
        let opened = opened.map_err(|it| (Exit::CannotStart, reasons(&it)))?;
        Ok(Self {
            #[cfg(feature = "outbox")]
            table,
            answers: AnswerOutbox::new(Engine::new(opened)),
        })
    }

    async fn stats(&self) -> Result<Stats, Failed> {
        let answers = self.answers.stats().await.map_err(no)?;
        #[cfg(feature = "outbox")]
        if let Some((outbox, pool)) = &self.table {
            let table = outbox.stats(pool).await.map_err(no)?;
            return Ok(Stats {
                unsent: table.unsent + answers.unsent,
                parked: table.parked + answers.parked,
                owned: table.owned + answers.owned,
                oldest: table.oldest.max(answers.oldest),
                attempts: table.attempts.max(answers.attempts),
            });
        }
        Ok(answers)
    }

    /// Up to `max` parked effects that are wanted: those of the table with numbers above `after`, then those of answers.
    async fn find(
        &self,
        after: i64,
        max: usize,
        wanted: impl Fn(&Parked) -> bool,
    ) -> Result<Vec<Parked>, Failed> {
        let mut found = Vec::new();
        #[cfg(feature = "outbox")]
        if let Some((outbox, pool)) = &self.table {
            let mut after = after;
            while found.len() < max {
                let page = outbox.parked(pool, after, PAGE).await.map_err(no)?;
                let Some(last) = page.last() else { break };
                after = last.number;
                found.extend(page.into_iter().filter(&wanted).take(max - found.len()));
            }
        }
        #[cfg(not(feature = "outbox"))]
        let _ = after;
        let mut cursor = None;
        while found.len() < max {
            let (page, next) = self.answers.parked(cursor).await.map_err(no)?;
            found.extend(page.into_iter().filter(&wanted).take(max - found.len()));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(found)
    }

    async fn redrive(&self, ids: &[EffectId]) -> Result<usize, Failed> {
        let mut done = 0;
        #[cfg(feature = "outbox")]
        if let Some((outbox, pool)) = &self.table {
            for ids in ids.chunks(PAGE) {
                done += outbox.redrive(pool, ids).await.map_err(no)?.len();
            }
        }
        if done < ids.len() {
            done += self.answers.redrive(ids).await.map_err(no)?.len();
        }
        Ok(done)
    }

    async fn drop_parked(&self, ids: &[EffectId]) -> Result<usize, Failed> {
        let mut done = 0;
        #[cfg(feature = "outbox")]
        if let Some((outbox, pool)) = &self.table {
            done += outbox.drop_parked(pool, ids).await.map_err(no)?.len();
        }
        if done < ids.len() {
            done += self.answers.drop_parked(ids).await.map_err(no)?.len();
        }
        Ok(done)
    }
}

fn id_of(text: &str) -> Result<EffectId, Failed> {
    EffectId::parse(text)
        .ok_or_else(|| (Exit::Usage, format!("`{text}` is no id: it has 32 hexadecimal digits")))
}

fn ids_of(texts: &[String]) -> Result<Vec<EffectId>, Failed> {
    let mut ids = texts.iter().map(|it| id_of(it)).collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn not_parked(count: usize) -> Failed {
    (
        Exit::No,
        format!("{count} of these effects are not parked: they are sent, under way, or were never there"),
    )
}

fn told(store: &StoreArgs, what: &str, done: usize, asked: usize) -> Result<(), Failed> {
    say(&if store.json { format!("{:#}\n", json!({ what: done })) } else { format!("{done} {what}\n") });
    if done == asked { Ok(()) } else { Err(not_parked(asked - done)) }
}

fn stats_json(it: &Stats) -> Value {
    json!({
        "unsent": it.unsent,
        "parked": it.parked,
        "in_hand": it.owned,
        "oldest_unsent_seconds": it.oldest.map(|it| it.as_secs_f64()),
        "attempts_max": it.attempts,
    })
}

fn stats_sheet(it: &Stats) -> String {
    let oldest = it.oldest.map_or_else(|| "-".to_owned(), rounded);
    format!(
        "unsent       {}\nparked       {}\nin hand      {}\noldest       {oldest}\nmost tries   {}\n",
        it.unsent, it.parked, it.owned, it.attempts
    )
}

/// By this machine's clock; the times are the database's.
fn age(of: Timestamp) -> Duration {
    Duration::from_millis(SystemClock.wall().as_millis().saturating_sub(of.as_millis()))
}

fn rounded(it: Duration) -> String {
    humantime::format_duration(Duration::from_secs(it.as_secs())).to_string()
}

fn time(it: Timestamp) -> String {
    let at: SystemTime = UNIX_EPOCH + Duration::from_millis(it.as_millis());
    humantime::format_rfc3339_millis(at).to_string()
}

/// What others wrote does nothing to a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn as_json(it: &Parked) -> Value {
    let effect = &it.effect;
    let headers: Vec<_> = effect.headers.iter().map(|it| json!([it.0, text(&it.1)])).collect();
    json!({
        "id": effect.id.to_string(),
        "kind": effect.kind,
        "destination": effect.destination,
        "key": effect.key.as_deref().map(text),
        "reason": it.reason,
        "attempts": effect.attempt,
        "added": time(effect.created),
        "parked": time(it.since),
        "headers": headers,
        "body": text(&effect.body),
    })
}

fn table(parked: &[Parked], next: Option<i64>) -> String {
    let mut rows =
        vec![["KIND", "DESTINATION", "KEY", "TRIES", "AGE", "PARKED FOR", "ID", "REASON"].map(str::to_owned)];
    rows.extend(parked.iter().map(|it| {
        let effect = &it.effect;
        [
            effect.kind.clone(),
            effect.destination.chars().take(60).collect(),
            effect.key.as_deref().map_or_else(|| "-".to_owned(), |it| text(it).chars().take(40).collect()),
            effect.attempt.to_string(),
            rounded(age(effect.created)),
            rounded(age(it.since)),
            effect.id.to_string(),
            it.reason.chars().take(80).collect(),
        ]
        .map(|it| plain(&it))
    }));
    let width = |column: usize| rows.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    if parked.is_empty() {
        out.push_str("(none)\n");
    }
    if let Some(next) = next {
        out.push_str(&format!("more: --cursor {next}\n"));
    }
    out
}

fn sheet(it: &Parked) -> String {
    let shown = as_json(it);
    let mut out = String::new();
    for name in ["id", "kind", "destination", "key", "reason", "attempts", "added", "parked"] {
        match &shown[name] {
            Value::Null => {}
            Value::String(text) => out.push_str(&format!("{name:<11} {}\n", plain(text))),
            other => out.push_str(&format!("{name:<11} {other}\n")),
        }
    }
    for (name, value) in &it.effect.headers {
        out.push_str(&format!("header      {}: {}\n", plain(name), plain(&text(value))));
    }
    out.push_str(&format!("\n{}\n", text(&it.effect.body)));
    out
}
