//! The tables: made and updated in numbered steps, by however many processes at once.

use tokio::time::Instant;
use tokio_postgres::types::Type;

use crate::fault::{Cause, Fault};
use crate::link::Link;
use crate::settings::PostgresSettings;
use crate::sql::Sql;
use crate::store::OpenError;

/// A step, and the oldest build that works with the tables after it, by the last step that it knows.
struct Step {
    text: &'static str,
    needs: i32,
}

/// Every step, in order. A step that was released never changes.
const STEPS: [Step; 7] = [
    Step { text: include_str!("schema/0001_records.sql"), needs: 1 },
    Step { text: include_str!("schema/0002_operations.sql"), needs: 1 },
    Step { text: include_str!("schema/0003_waits.sql"), needs: 1 },
    Step { text: include_str!("schema/0004_outbox.sql"), needs: 1 },
    Step { text: include_str!("schema/0005_operation_rows.sql"), needs: 1 },
    Step { text: include_str!("schema/0006_woken.sql"), needs: 1 },
    Step { text: include_str!("schema/0007_plain.sql"), needs: 1 },
];

/// The number of the last step.
pub(crate) const KNOWN: i32 = 7;

/// Whoever makes or updates tables holds this lock for the length of the transaction: "onceward" in ASCII.
const LOCK: i64 = 0x6f6e_6365_7761_7264;

/// What is to be known of a server before it is trusted with records.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which setting lets a power cut take what was told, if any does.
    pub(crate) loses: Option<String>,
    /// Which setting lets a fail-over to a standby take what was told, if any does.
    pub(crate) loses_at_fail_over: Option<String>,
    /// How many follow it now.
    pub(crate) followers: i64,
}

/// Looks at the server.
pub(crate) async fn look(link: &mut Link, deadline: Instant) -> Result<Server, OpenError> {
    let text = "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding'), \
                current_setting('synchronous_commit'), current_setting('fsync'), \
                current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication)";
    let rows = link.rows(text, &Vec::new(), deadline).await.map_err(|it| unreachable(&it))?;
    let read = || {
        let row = rows.first()?;
        let texts = [text_of(row, 1)?, text_of(row, 2)?, text_of(row, 3)?, text_of(row, 4)?];
        Some((row.try_get::<_, i32>(0).ok()?, texts, row.try_get::<_, i64>(5).ok()?))
    };
    let (version, [encoding, commit, fsync, standbys], followers) = read().ok_or_else(|| {
        OpenError::Unreachable { cause: "the server answered something else than it was asked".to_owned() }
    })?;
    if version < 140_000 {
        return Err(OpenError::Old { found: version / 10_000 });
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { found: encoding });
    }
    let loses_at_fail_over = loses_at_fail_over(&commit, &standbys);
    let loses = [("fsync", fsync), ("synchronous_commit", commit)]
        .into_iter()
        .find(|it| it.1 == "off")
        .map(|(name, value)| format!("{name} = {value}"));
    Ok(Server { loses, loses_at_fail_over, followers })
}

/// A commit waits for a standby only where both settings say so.
fn loses_at_fail_over(commit: &str, standbys: &str) -> Option<String> {
    if standbys.trim().is_empty() {
        return Some("synchronous_standby_names is empty".to_owned());
    }
    ["off", "local"].contains(&commit).then(|| format!("synchronous_commit = {commit}"))
}

fn text_of(row: &tokio_postgres::Row, column: usize) -> Option<String> {
    row.try_get(column).ok()
}

/// Which step the tables are at, and which one a build must know to work with them; both 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) at: i32,
    pub(crate) needs: i32,
}

/// Looks at which step the tables are.
pub(crate) async fn version(link: &mut Link, sql: &Sql, deadline: Instant) -> Result<Version, OpenError> {
    // A step that does not say what it needs needs itself. The first one did not even have the column.
    let text = sql.fill(
        "SELECT coalesce(max(version), 0), coalesce(max(coalesce((to_jsonb(s) ->> 'needs')::integer, version)), 0) \
         FROM {schema} s",
    );
    let none = Version { at: 0, needs: 0 };
    match link.rows(&text, &Vec::new(), deadline).await {
        Ok(rows) => {
            let read = |it: &tokio_postgres::Row| {
                Some(Version { at: it.try_get(0).ok()?, needs: it.try_get(1).ok()? })
            };
            Ok(rows.first().and_then(read).unwrap_or(none))
        }
        Err(fault) if fault.is_of_absence() => Ok(none),
        Err(fault) => Err(unreachable(&fault)),
    }
}

/// Whether the tables are such that this build can work with them; `false` where they are to be made or updated. Those of a
/// newer build are good as long as its steps say so: old and new builds then work side by side, and an old one can be
/// started again.
pub(crate) fn judge(found: Version) -> Result<bool, OpenError> {
    if found.needs > KNOWN {
        return Err(OpenError::Newer { found: found.at, known: KNOWN });
    }
    Ok(found.at >= KNOWN)
}

/// Makes and updates the tables: all steps in one transaction, sent as one message, so that a pooler keeps it together in
/// any mode.
pub(crate) async fn migrate(
    link: &mut Link,
    settings: &PostgresSettings,
    deadline: Instant,
) -> Result<(), OpenError> {
    let sql = Sql::new(Some(&place(link, settings, deadline).await?));
    let done = link.batch(&script(&sql), deadline).await;
    done.map_err(|fault| OpenError::Migrate { cause: refused(fault.cause()) })
}

/// The schema that the tables are or will be in. Its name stands in the functions, so that they work whatever the path of
/// their caller is.
async fn place(link: &mut Link, settings: &PostgresSettings, deadline: Instant) -> Result<String, OpenError> {
    let text = "SELECT CASE WHEN $1::text IS NOT NULL
            THEN (SELECT nspname::text FROM pg_namespace WHERE nspname = $1)
            ELSE coalesce(
                (SELECT nspname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
                 WHERE pg_class.oid = to_regclass('onceward_schema')),
                current_schema()::text)
        END";
    let values: crate::puts::Values<'_> = vec![(Box::new(settings.schema.as_deref()), Type::TEXT)];
    let rows = link.rows(text, &values, deadline).await.map_err(|it| unreachable(&it))?;
    let found: Option<String> = rows.first().and_then(|it| it.try_get(0).ok());
    found.ok_or_else(|| OpenError::NoSchema { schema: settings.schema.clone().unwrap_or_default() })
}

/// The whole transaction. A step runs only where it did not before, by the look of who holds the lock.
fn script(sql: &Sql) -> String {
    let mut text = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED;\n\
         SELECT pg_advisory_xact_lock({LOCK});\n\
         CREATE TABLE IF NOT EXISTS {{schema}} \
         (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now());\n\
         ALTER TABLE {{schema}} ADD COLUMN IF NOT EXISTS needs integer;\n"
    );
    for (number, Step { text: step, needs }) in (1..).zip(STEPS) {
        text.push_str(&format!(
            "DO $onceward$ BEGIN\n\
             IF NOT EXISTS (SELECT FROM {{schema}} WHERE version = {number}) THEN\n\
             {step}\n\
             INSERT INTO {{schema}} (version, needs) VALUES ({number}, {needs});\n\
             END IF;\nEND $onceward$;\n"
        ));
    }
    text.push_str("COMMIT");
    sql.fill(&text)
}

/// What a pooler says that takes no transactions, in words that help.
fn refused(cause: &Cause) -> String {
    let hint = if cause.0.contains("transaction blocks not allowed") {
        "; a pooler is in between that takes no transactions: run `onceward store migrate` with the URL of the server"
    } else {
        ""
    };
    format!("{cause}{hint}")
}

fn unreachable(fault: &Fault) -> OpenError {
    OpenError::Unreachable { cause: fault.cause().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_known_and_runs_once() {
        assert_eq!(usize::try_from(KNOWN), Ok(STEPS.len()));
        let script = script(&Sql::new(Some("s")));
        assert!(!script.contains('{') && script.contains("FUNCTION \"s\".onceward_insert_1("), "{script}");
        assert_eq!(script.matches("IF NOT EXISTS (SELECT FROM \"s\".onceward_schema").count(), STEPS.len());
    }

    #[test]
    fn only_a_commit_that_waits_for_a_standby_outlives_a_fail_over() {
        for (commit, standbys, loses) in [
            ("on", "*", false),
            ("remote_apply", "ANY 1 (a, b)", false),
            ("on", "", true),
            ("remote_apply", " ", true),
            ("local", "*", true),
            ("off", "*", true),
        ] {
            assert_eq!(loses_at_fail_over(commit, standbys).is_some(), loses, "{commit} {standbys}");
        }
    }

    #[test]
    fn tables_of_a_newer_build_are_used_while_they_allow_it_and_refused_else() {
        let judged = |at, needs| judge(Version { at, needs });
        assert!(matches!(judged(0, 0), Ok(false)));
        assert!(matches!(judged(KNOWN - 1, 1), Ok(false)));
        assert!(matches!(judged(KNOWN, 1), Ok(true)));
        assert!(matches!(judged(KNOWN + 1, KNOWN), Ok(true)));
        assert!(matches!(judged(KNOWN + 1, KNOWN + 1), Err(OpenError::Newer { .. })));
    }
}
