//! The statements, with the names of one schema in them.
//!
//! Each promise of a store is one statement that needs nothing from its session: no prepared name, no transaction, no
//! setting. So any pooler may sit in between. The clock is asked once per statement, by a name without a schema.

use std::sync::Arc;

use onceward_core::store::SETTLE;

use crate::replicas::WHO;

/// The format of rows that this build writes and reads.
pub(crate) const FORMAT: i16 = 1;

/// What [`crate::row::Columns`] reads, in its order.
const COLUMNS: &str = "r.id, r.format, r.rules, r.state, r.revision, r.fence, r.owner, r.attempt, r.lease_until, \
     r.run_until, r.answer_until, r.gone_until, r.wake_at, r.created, r.updated, r.lease_ms, r.run_max_ms, \
     r.retention_ms, r.tombstone_ms, r.unresolved, r.principal, r.kind, r.host, r.path, r.key, r.fingerprint, \
     r.reason, r.answer_kind, r.answer, r.answer_len, r.checkpoint";
const CARGO: &str = "r.answer, r.answer_len, r.checkpoint";
const NO_CARGO: &str = "CASE WHEN r.answer_kind IS NOT NULL THEN ''::bytea END, NULL::bigint, NULL::bytea";

/// The types of the columns, in the same order, for a function that gives them.
const OUTPUTS: &str = "id bytea, format smallint, rules integer, state text, revision bigint, fence bigint, owner bytea, \
     attempt bigint, lease_until bigint, run_until bigint, answer_until bigint, gone_until bigint, wake_at bigint, \
     created bigint, updated bigint, lease_ms bigint, run_max_ms bigint, retention_ms bigint, tombstone_ms bigint, \
     unresolved text, principal bytea, kind text, host text, path text, key text, fingerprint bytea, reason text, \
     answer_kind text, answer bytea, answer_len bigint, checkpoint bytea";

/// The types of what [`crate::puts`] sends of calls, in its order. As the outputs, they never change: functions of released
/// steps have them.
const PUT: &str = "bytea[], bytea[], integer[], bytea[], bytea[], text[], text[], text[], text[], text[], text[], text[], \
     bytea[], bigint[], bigint[], bigint[], bigint[], bigint[], text[], bytea[], bigint[], bigint[]";
/// What a function tells of a call: its place, the time, the stamps of what was kept, and what was found.
const TOLD: &str = "RETURNS TABLE (o1 bigint, o2 bigint, o3 bigint, o4 bigint, o5 bytea, o6 bigint, o7 bigint, o8 bigint, \
     o9 bigint, o10 bigint, o11 bigint, o12 bigint, o13 bigint, {outputs})";

/// The stamps of what was kept, where nothing was.
const NO_STAMPS: &str = "NULL::bigint, NULL::bigint, NULL::bytea, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, \
     NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint";

/// How a function plans: once, and by the index. What is off counts as very dear, and compiling dear plans would take longer
/// than they do.
const BY_INDEX: &str = "SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off \
     SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off";

/// The same for a function that looks at one row and joins nothing. Each setting costs the server a microsecond or two.
const BY_KEY: &str =
    "SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off";

/// How long a function waits for other transactions. Less than a call takes by default, so that its caller is told that nothing
/// was written.
const BOUNDED: &str = "SET lock_timeout = '4s'";

const INSERT: &str = include_str!("sql/insert.sql");
const REPLACE: &str = include_str!("sql/replace.sql");
const LOAD: &str = include_str!("sql/load.sql");

/// What the server says when a claim waited for another transaction until it was too late. Nothing is written then.
pub(crate) const TOO_LATE: &str = "OW001";

/// The functions of the outbox.
const OUTBOX: [&str; 11] = [
    "add",
    "claim",
    "extend",
    "sent",
    "failed",
    "give_back",
    "cleanup",
    "stats",
    "parked",
    "redrive",
    "drop",
];

/// What sweeps one table.
#[derive(Debug)]
pub(crate) struct Sweeping {
    pub(crate) expired: Arc<str>,
    pub(crate) remove: Arc<str>,
    pub(crate) tombstone: Arc<str>,
}

/// The texts for one schema.
#[derive(Debug)]
pub(crate) struct Sql {
    /// `"schema".`, or nothing where the connection's own path is to find the table.
    prefix: String,
    pub(crate) insert: Arc<str>,
    pub(crate) replace: Arc<str>,
    pub(crate) load: Arc<str>,
    pub(crate) due_lease: Arc<str>,
    pub(crate) due_wake: Arc<str>,
    pub(crate) list: Arc<str>,
    /// What sweeps the records, and what the operations that commit with theirs.
    pub(crate) sweeping: [Sweeping; 2],
    pub(crate) check: Arc<str>,
    /// Which of the records that somebody waits for run no more.
    pub(crate) watch: Arc<str>,
}

impl Sql {
    /// The statements on the tables of `schema`, or on those that the connection's own path leads to.
    pub(crate) fn new(schema: Option<&str>) -> Self {
        let prefix = schema.map_or_else(String::new, |it| format!("{}.", quoted(it)));
        let text = |template: &str| Arc::from(fill(&prefix, template));
        Self {
            insert: text(&shown("insert", 22)),
            replace: text(&shown("replace", 24)),
            load: text(&shown("load", 1)),
            due_lease: text(include_str!("sql/due_lease.sql")),
            due_wake: text(include_str!("sql/due_wake.sql")),
            list: text(include_str!("sql/list.sql")),
            sweeping: ["{records}", "{operations}"].map(|table| {
                let text = |template: &str| text(&template.replace("{records}", table));
                Sweeping {
                    expired: text(include_str!("sql/expired.sql")),
                    remove: text(include_str!("sql/remove.sql")),
                    tombstone: text(include_str!("sql/tombstone.sql")),
                }
            }),
            check: text("SELECT count(*) FROM (SELECT 1 FROM {records} LIMIT 1) AS one"),
            watch: text(include_str!("sql/watch.sql")),
            prefix,
        }
    }

    /// A text of which each `{name}` is replaced.
    pub(crate) fn fill(&self, template: &str) -> String {
        fill(&self.prefix, template)
    }
}

/// The call of a function of so many values.
pub(crate) fn call(name: &str, values: usize) -> String {
    let values: Vec<_> = (1..=values).map(|it| format!("${it}")).collect();
    format!("SELECT * FROM {{{name}}}({})", values.join(", "))
}

/// The same, and who carried it out.
fn shown(name: &str, values: usize) -> String {
    call(name, values).replace("SELECT *", &format!("SELECT *, {WHO}"))
}

fn fill(prefix: &str, template: &str) -> String {
    // Names of outputs that are no columns' names, so that a text means the columns.
    let outputs: Vec<_> = OUTPUTS.split(", ").map(|it| format!("o_{it}")).collect();
    let no_columns: Vec<_> = OUTPUTS
        .split(", ")
        .map(|it| format!("NULL::{}", it.rsplit(' ').next().unwrap_or_default()))
        .collect();
    let of_operations = |text: &str| text.trim_end().replace("{records}", "{operations}");
    // The functions of the outbox, all of the first number.
    let of_outbox = |text: String, name: &&str| {
        text.replace(&format!("{{outbox_{name}}}"), &format!("{prefix}onceward_outbox_{name}_1"))
    };
    OUTBOX
        .iter()
        .fold(template.to_owned(), of_outbox)
        .replace("{text_of_operation_insert}", &of_operations(INSERT))
        .replace("{text_of_operation_replace}", &of_operations(REPLACE))
        .replace("{text_of_insert}", INSERT.trim_end())
        .replace("{text_of_replace}", REPLACE.trim_end())
        .replace("{text_of_load}", LOAD.trim_end())
        // A function that was released never changes: another one has another number.
        .replace("{insert_1}", &format!("{prefix}onceward_insert_1"))
        .replace("{insert_2}", &format!("{prefix}onceward_insert_2"))
        .replace("{insert}", &format!("{prefix}onceward_insert_3"))
        .replace("{too_late}", TOO_LATE)
        .replace("{replace_1}", &format!("{prefix}onceward_replace_1"))
        .replace("{replace_2}", &format!("{prefix}onceward_replace_2"))
        .replace("{replace}", &format!("{prefix}onceward_replace_3"))
        .replace("{load}", &format!("{prefix}onceward_load_1"))
        .replace("{operation_lock}", &format!("{prefix}onceward_operation_lock_1"))
        .replace("{operation_claim_1}", &format!("{prefix}onceward_operation_claim_1"))
        .replace("{operation_claim}", &format!("{prefix}onceward_operation_claim_2"))
        .replace("{operation_insert_1}", &format!("{prefix}onceward_operation_insert_1"))
        .replace("{operation_replace_1}", &format!("{prefix}onceward_operation_replace_1"))
        .replace("{operation_replace}", &format!("{prefix}onceward_operation_replace_2"))
        .replace("{operation_done}", &format!("{prefix}onceward_operation_done_1"))
        .replace("{outbox}", &format!("{prefix}onceward_outbox"))
        .replace("{operations}", &format!("{prefix}onceward_operations"))
        .replace("{put}", PUT)
        .replace("{told}", TOLD)
        .replace("{outputs}", &outputs.join(", "))
        .replace("{no_stamps}", NO_STAMPS)
        .replace("{no_columns}", &no_columns.join(", "))
        .replace("{by_index}", BY_INDEX)
        .replace("{by_key}", BY_KEY)
        .replace("{bounded}", BOUNDED)
        .replace("{records}", &format!("{prefix}onceward_records"))
        .replace("{schema}", &format!("{prefix}onceward_schema"))
        .replace("{columns}", COLUMNS)
        .replace("{columns_without_cargo}", &COLUMNS.replace(CARGO, NO_CARGO))
        .replace("{format}", &FORMAT.to_string())
        .replace("{settle_ms}", &SETTLE.as_millis().to_string())
}

/// A name as SQL writes it, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_stands_before_every_table_and_nothing_stays_unfilled() {
        let sql = Sql::new(Some("od\"d"));
        let [records, operations] = &sql.sweeping;
        let of_sweeping = [records, operations].map(|it| [&it.expired, &it.remove, &it.tombstone]);
        let others = [&sql.insert, &sql.replace, &sql.load, &sql.list, &sql.watch];
        for text in of_sweeping.into_iter().flatten().chain(others) {
            assert!(text.contains("\"od\"\"d\".onceward_"), "{text}");
            assert!(!text.contains('{') && !text.contains('}'), "{text}");
        }
        assert!(records.expired.contains(NO_CARGO) && !records.expired.contains(CARGO));
        assert!(
            records.remove.contains("onceward_records") && !operations.remove.contains("onceward_records")
        );
        assert_eq!(&*Sql::new(None).fill("{schema}"), "onceward_schema");
    }
}
