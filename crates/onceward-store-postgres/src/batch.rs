//! Carries out what one connection took: one statement for all of it, repeated where that is certain to be right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onceward_core::store::{Insert, Loaded, Put, Replace};
use onceward_core::{Error, ErrorKind, RecordId, Result, Revision};
use tokio::time::Instant;
use tokio_postgres::Row;

use crate::fault::{Cause, Fault};
use crate::link::Link;
use crate::puts::{self, Values};
use crate::queue::{Ask, Reply};
use crate::replicas;
use crate::row;
use crate::sql::Sql;
use crate::told::{Told, now, strange, told};

/// The longest pause before a statement that met another transaction is repeated.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// An insert that waits for its answer.
type Insertion = (RecordId, Box<Put>, Reply<Insert>);
/// A replace that waits for its answer.
type Swap = (RecordId, Revision, Box<Put>, Reply<Replace>);

/// Carries out calls of one kind and tells every caller. Gives back the fault after which the connection is of no use.
pub(crate) async fn carry_out(
    link: &mut Link,
    sql: &Sql,
    batch: Vec<Ask>,
    deadline: Instant,
) -> Result<(), Cause> {
    let (mut inserts, mut replaces, mut loads) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = Call { link, sql, deadline };
    for ask in batch {
        match ask {
            Ask::Insert { id, put, reply } => inserts.push((id, put, reply)),
            Ask::Replace { id, seen, put, reply } => replaces.push((id, seen, put, reply)),
            Ask::Load { id, reply } => loads.push((id, reply)),
            Ask::Rows { text, values, reads, reply } => at.rows(&text, &values, reads, reply).await?,
        }
    }
    at.insert(inserts).await?;
    at.replace(replaces).await?;
    at.load(loads).await
}

struct Call<'a> {
    link: &'a mut Link,
    sql: &'a Sql,
    deadline: Instant,
}

impl Call<'_> {
    async fn insert(&mut self, mut wanted: Vec<Insertion>) -> Result<(), Cause> {
        const DOING: &str = "keep a record";
        while !wanted.is_empty() {
            let asked = {
                let puts: Vec<_> = wanted.iter().map(|(id, put, _)| (*id, &**put)).collect();
                let ids: Vec<_> = puts.iter().map(|it| it.0).collect();
                let text = Arc::clone(&self.sql.insert);
                self.ask_shown(&text, &puts::values(puts::inserts(&puts, &ids))).await
            };
            match asked {
                Ok(rows) => {
                    let mut rows = placed(&rows);
                    let mut again = Vec::new();
                    for (place, (id, put, reply)) in (1..).zip(wanted) {
                        let told = rows.remove(&place).map(|it| inserted(it, id, &put));
                        match told.unwrap_or_else(|| Some(Err(strange(DOING)))) {
                            Some(told) => drop(reply.send(told)),
                            // It was committed by somebody else while this statement ran.
                            None => again.push((id, put, reply)),
                        }
                    }
                    wanted = again;
                }
                Err(fault) if fault.is_of_values() && wanted.len() > 1 => {
                    for one in wanted {
                        Box::pin(self.insert(vec![one])).await?;
                    }
                    return Ok(());
                }
                Err(fault) => {
                    wanted.into_iter().for_each(|it| drop(it.2.send(Err(fault.of_write(DOING)))));
                    return end(&fault);
                }
            }
            if Instant::now() >= self.deadline {
                let cause = Cause("others changed it all the time".to_owned());
                let error = || Error::new(ErrorKind::Unavailable, DOING).caused_by(cause.clone());
                wanted.into_iter().for_each(|it| drop(it.2.send(Err(error()))));
                return Ok(());
            }
        }
        Ok(())
    }

    async fn replace(&mut self, wanted: Vec<Swap>) -> Result<(), Cause> {
        const DOING: &str = "swap a record";
        if wanted.is_empty() {
            return Ok(());
        }
        let asked = {
            let puts: Vec<_> = wanted.iter().map(|(id, _, put, _)| (*id, &**put)).collect();
            let ids: Vec<_> = puts.iter().map(|it| it.0).collect();
            let seen: Vec<_> = wanted.iter().map(|it| it.1).collect();
            let text = Arc::clone(&self.sql.replace);
            self.ask_shown(&text, &puts::values(puts::replaces(&puts, &ids, &seen))).await
        };
        match asked {
            Ok(rows) => {
                let mut rows = placed(&rows);
                for (place, (id, _, put, reply)) in (1..).zip(wanted) {
                    let told = rows.remove(&place).map(|it| replaced(it, id, &put));
                    drop(reply.send(told.unwrap_or_else(|| Err(strange(DOING)))));
                }
                Ok(())
            }
            Err(fault) if fault.is_of_values() && wanted.len() > 1 => {
                for one in wanted {
                    Box::pin(self.replace(vec![one])).await?;
                }
                Ok(())
            }
            Err(fault) => {
                wanted.into_iter().for_each(|it| drop(it.3.send(Err(fault.of_write(DOING)))));
                end(&fault)
            }
        }
    }

    async fn load(&mut self, wanted: Vec<(RecordId, Reply<Loaded>)>) -> Result<(), Cause> {
        const DOING: &str = "load a record";
        if wanted.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = wanted.iter().map(|it| it.0).collect();
        let text = Arc::clone(&self.sql.load);
        match self.ask_shown(&text, &puts::values(vec![puts::ids(&ids)])).await {
            Ok(rows) => {
                let mut rows = placed(&rows);
                for (place, (_, reply)) in (1..).zip(wanted) {
                    let told = rows.remove(&place).map(|row| {
                        let now = now(row).ok_or_else(|| strange(DOING))?;
                        row::record(row, 2).map(|record| Loaded { record, now })
                    });
                    drop(reply.send(told.unwrap_or_else(|| Err(strange(DOING)))));
                }
                Ok(())
            }
            Err(fault) => {
                wanted.into_iter().for_each(|it| drop(it.1.send(Err(fault.of_read(DOING)))));
                end(&fault)
            }
        }
    }

    async fn rows(
        &mut self,
        text: &str,
        values: &Values<'_>,
        reads: bool,
        reply: Reply<Vec<Row>>,
    ) -> Result<(), Cause> {
        match self.ask(text, values).await {
            Ok(rows) => {
                drop(reply.send(Ok(rows)));
                Ok(())
            }
            Err(fault) => {
                let doing = if reads { "read records" } else { "drop what is over" };
                drop(reply.send(Err(if reads { fault.of_read(doing) } else { fault.of_write(doing) })));
                end(&fault)
            }
        }
    }

    /// The same, for what callers act upon: the server's replicas have it, too.
    async fn ask_shown(&mut self, text: &str, values: &Values<'_>) -> Result<Vec<Row>, Fault> {
        let rows = self.ask(text, values).await?;
        replicas::catch_up(self.link, &rows, self.deadline).await?;
        Ok(rows)
    }

    /// One statement, repeated while it only met others: then nothing was written.
    async fn ask(&mut self, text: &str, values: &Values<'_>) -> Result<Vec<Row>, Fault> {
        let mut pause = Duration::from_millis(1);
        loop {
            let asked = self.link.rows(text, values, self.deadline).await;
            match asked {
                Err(fault) if fault.met_another() && Instant::now() + pause < self.deadline => {
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                asked => return asked,
            }
        }
    }
}

fn end(fault: &Fault) -> Result<(), Cause> {
    if fault.ends_the_link() { Err(fault.cause().clone()) } else { Ok(()) }
}

/// The rows by the place of the call that each belongs to, which is their first column.
fn placed(rows: &[Row]) -> HashMap<i64, &Row> {
    rows.iter().filter_map(|it| Some((it.try_get(0).ok()?, it))).collect()
}

/// `None` where it was neither kept nor found.
fn inserted(row: &Row, id: RecordId, put: &Put) -> Option<Result<Insert>> {
    let Told { now, kept, found } = match told(row, id, put) {
        Ok(told) => told,
        Err(error) => return Some(Err(error)),
    };
    match (kept, found) {
        (Some(kept), _) => Some(Ok(Insert::Kept(kept))),
        (None, _) if now > put.not_after => Some(Ok(Insert::Late(now))),
        (None, Some(found)) => Some(Ok(Insert::Found(found, now))),
        (None, None) => None,
    }
}

fn replaced(row: &Row, id: RecordId, put: &Put) -> Result<Replace> {
    let Told { now, kept, found } = told(row, id, put)?;
    Ok(match kept {
        Some(kept) => Replace::Kept(kept),
        None if now > put.not_after => Replace::Late(now),
        None => Replace::Lost(found, now),
    })
}
