//! What a relay must at least ask of the database, as `pgbench` asks it: claim a batch, mark the batch as sent.
//!
//! Once of a table that has nothing else in mind: no order for keys, no tries, no fences. And once by our own two
//! functions, which shows what these cost, and what the relay around them does.

use std::fs;
use std::time::Duration;

use onceward_bench::Result;
use onceward_bench::load::Seen;
use onceward_pace::pgbench;
use onceward_testkit::server::Postgres;
use tempfile::TempDir;

/// A batch: as many effects as a relay has in hand.
const BATCH: u32 = 1000;
/// A relay claims while it marks: two clients do both in turn.
const CLIENTS: u32 = 2;

/// The table that has nothing else in mind.
pub(crate) const BARE: &str = "
    CREATE TABLE bare (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id bytea NOT NULL, kind text NOT NULL,
        destination text NOT NULL, body bytea NOT NULL, owner integer, lease_until bigint NOT NULL DEFAULT 0, sent_at bigint
    ) WITH (fillfactor = 50);
    CREATE INDEX bare_unsent ON bare (seq) WHERE sent_at IS NULL;";

const NOW: &str = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Whose table is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Bare,
    Ours,
}

/// So many transactions as fit into the time, each of which claims a batch and marks it as sent.
///
/// # Errors
/// `pgbench` cannot be started, or there was nothing more to claim.
pub(crate) async fn run(server: &Postgres, table: Table, kind: &str, length: Duration) -> Result<Seen> {
    let folder = TempDir::new()?;
    let script = folder.path().join("script");
    fs::write(&script, if table == Table::Bare { bare() } else { ours(kind) })?;
    pgbench::run(server, &script, CLIENTS, length, "simple", &[("next", "0")]).await
}

fn bare() -> String {
    format!(
        "WITH chosen AS (
            SELECT seq FROM bare WHERE sent_at IS NULL AND lease_until <= {NOW}
            ORDER BY seq LIMIT {BATCH} FOR UPDATE SKIP LOCKED
        ), claimed AS (
            UPDATE bare SET owner = :client_id, lease_until = {NOW} + 30000 FROM chosen
            WHERE bare.seq = chosen.seq RETURNING bare.*
        )
        SELECT array_agg(seq) AS seqs, string_agg(id || body, '') AS bodies FROM claimed \\gset
        UPDATE bare SET sent_at = {NOW} WHERE seq = ANY (':seqs'::bigint[]) AND owner = :client_id;
        "
    )
}

fn ours(kind: &str) -> String {
    let owner = "decode('00112233445566778899aabbccddeeff', 'hex')";
    format!(
        "\\set after case when :next <> 0 then :next when :client_id = 0 then -9223372036854775807 else 1 end
        SELECT array_agg(o_seq) FILTER (WHERE o_seq IS NOT NULL) AS seqs,
            array_agg(o_fence) FILTER (WHERE o_seq IS NOT NULL) AS fences,
            string_agg(o_id || o_body, '') AS bodies,
            coalesce(max(o_line) FILTER (WHERE o_seq IS NULL), 0) AS next
        FROM onceward_outbox_claim_1({owner}, 30000, '{{{kind}}}', :after, {BATCH}, 100, {BATCH}, 16777216) \\gset
        SELECT count(*) FROM onceward_outbox_sent_1({owner}, ':seqs', ':fences');
        "
    )
}
