-- Times are milliseconds since 1970 on the clock of this server; 9223372036854775807 is never.
CREATE TABLE {records} (
    id bytea PRIMARY KEY CHECK (octet_length(id) = 32),
    -- The format of this row and the rules that made it. Whoever does not know them leaves the row alone.
    format smallint NOT NULL,
    rules integer NOT NULL CHECK (rules BETWEEN 0 AND 65535),
    state text NOT NULL CHECK (state IN ('running', 'abandoned', 'released', 'done', 'tombstone')),
    revision bigint NOT NULL CHECK (revision >= 0),
    fence bigint NOT NULL CHECK (fence >= 0),
    owner bytea NOT NULL CHECK (octet_length(owner) = 16),
    attempt bigint NOT NULL CHECK (attempt BETWEEN 0 AND 4294967295),
    lease_until bigint NOT NULL CHECK (lease_until >= 0),
    run_until bigint NOT NULL CHECK (run_until >= 0),
    answer_until bigint NOT NULL CHECK (answer_until >= 0),
    gone_until bigint NOT NULL CHECK (gone_until >= 0),
    -- When sweeping has something to do with it. Null for never: running and abandoned records do not expire.
    expires_at bigint CHECK (expires_at >= 0),
    wake_at bigint CHECK (wake_at >= 0),
    created bigint NOT NULL CHECK (created >= 0),
    updated bigint NOT NULL CHECK (updated >= 0),
    -- The policy of the claim.
    lease_ms bigint NOT NULL CHECK (lease_ms >= 0),
    run_max_ms bigint NOT NULL CHECK (run_max_ms >= 0),
    retention_ms bigint NOT NULL CHECK (retention_ms >= 0),
    tombstone_ms bigint NOT NULL CHECK (tombstone_ms >= 0),
    unresolved text NOT NULL CHECK (unresolved IN ('hold', 'rerun')),
    -- What operators look it up by.
    principal bytea NOT NULL CHECK (octet_length(principal) = 16),
    kind text NOT NULL,
    host text NOT NULL,
    path text NOT NULL,
    key text NOT NULL,
    fingerprint bytea CHECK (octet_length(fingerprint) = 32),
    reason text CHECK ((reason IS NOT NULL) = (state = 'abandoned')),
    answer_kind text CHECK ((answer_kind IS NOT NULL) = (state = 'done')),
    answer bytea CHECK ((answer IS NOT NULL) = (state = 'done')),
    -- How many bytes a packed answer (zstd) stands for; null where it is kept as it is.
    answer_len bigint CHECK (answer_len BETWEEN 0 AND 4294967295),
    checkpoint bytea
) WITH (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);

-- Answers come packed or are not worth it.
ALTER TABLE {records} ALTER COLUMN answer SET STORAGE EXTERNAL, ALTER COLUMN checkpoint SET STORAGE EXTERNAL;

CREATE INDEX onceward_records_lease ON {records} (lease_until, id) WHERE state = 'running';
CREATE INDEX onceward_records_wake ON {records} (wake_at, id) WHERE wake_at IS NOT NULL;
CREATE INDEX onceward_records_expiry ON {records} (expires_at, id) WHERE expires_at IS NOT NULL;

COMMENT ON TABLE {records} IS 'What Onceward remembers of each operation: one row per record id';

-- The three statements of every operation, as functions: the server keeps their plans for as long as one of its
-- connections lasts, whoever uses that connection through whatever pooler. A plan that is kept goes by the index, also
-- where it was made while the table was small.
CREATE FUNCTION {insert_1}({put}) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
{text_of_insert};
END $function$;

CREATE FUNCTION {replace_1}({put}, bigint[], boolean[]) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
{text_of_replace};
END $function$;

CREATE FUNCTION {load}(bytea[]) RETURNS TABLE (o1 bigint, o2 bigint, {outputs})
LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
{text_of_load};
END $function$;
