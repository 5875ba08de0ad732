//! The outbox that is a table of PostgreSQL.

use onceward::postgres::PostgresSettings;
use onceward::queue::outbox::{Outbox, OutboxSettings};
use onceward_gateway::settings::reasons;

use crate::command::queue::Failed;
use crate::exit::Exit;

/// What a relay uses at a time, and a count.
pub(super) const CONNECTIONS: u32 = 6;

/// The outbox that a URL names, and connections to its database; `None` where the store is no PostgreSQL.
pub(in crate::command) fn database(
    url: &str,
    connections: u32,
) -> Result<Option<(Outbox, sqlx::PgPool)>, Failed> {
    if !super::run::is_postgres(url) {
        return Ok(None);
    }
    let usage = |it: &dyn std::error::Error| (Exit::Usage, format!("--store: {}", reasons(it)));
    let settings = PostgresSettings::from_url(url).map_err(|it| usage(&it))?;
    let pool = settings.sqlx_pool(connections).map_err(|it| usage(&it))?;
    // Any pooler may sit in between.
    let outbox =
        OutboxSettings { schema: settings.schema, named_statements: false, ..OutboxSettings::default() };
    Ok(Some((Outbox::new(&outbox), pool)))
}
