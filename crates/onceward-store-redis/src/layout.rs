//! What a store says of itself, so that every process divides records into buckets alike.

use redis::{Cmd, Value};

use crate::open::OpenError;
use crate::route::Route;
use crate::settings::BUCKETS;

/// The format of the keys, of the line and of the indexes.
const FORMAT: &str = "onceward 1 buckets ";

/// Says again how many buckets the store has: what says so may be lost, to a failover or to somebody who emptied the
/// server. Whoever opens the store then divides it otherwise, and two processes would look for one record in two places.
/// The one that finds this out sends nothing any more.
pub(crate) async fn confirm(route: &Route, key: &str, count: u16) {
    // Who is away is asked again next time.
    let told = agree(route, key, Some(count)).await;
    if let Err(error @ (OpenError::Buckets { .. } | OpenError::Layout { .. })) = told {
        tracing::error!(%error, "the Redis store was made anew in another form; restart this process");
        route.close(format!("{error}; it was made anew meanwhile: restart this process"));
    }
}

/// How many buckets the store has: as it says, or as it is told now that it is new.
pub(crate) async fn agree(route: &Route, key: &str, wanted: Option<u16>) -> Result<u16, OpenError> {
    let mut make = Cmd::new();
    make.arg("SET").arg(key).arg(format!("{FORMAT}{}", wanted.unwrap_or(BUCKETS))).arg("NX");
    // Of several processes one makes it; all read what stands then.
    route.command(key, &make).await?;
    let mut look = Cmd::new();
    look.arg("GET").arg(key);
    let found = match route.command(key, &look).await? {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        other => return Err(OpenError::Layout { found: format!("{other:?}") }),
    };
    let count = found.strip_prefix(FORMAT).and_then(|it| it.parse::<u16>().ok()).filter(|it| *it > 0);
    match (count, wanted) {
        (None, _) => Err(OpenError::Layout { found }),
        (Some(found), Some(wanted)) if found != wanted => Err(OpenError::Buckets { found, wanted }),
        (Some(count), _) => Ok(count),
    }
}
