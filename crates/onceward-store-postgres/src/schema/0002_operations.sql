-- Operations whose record commits with their effect, in the caller's own transaction. They have a table to themselves, so
-- that no batch of the other one waits for a transaction that stays open. Nobody looks here for leases or wake-up times.
CREATE TABLE {operations} (LIKE {records} INCLUDING ALL EXCLUDING INDEXES, PRIMARY KEY (id)) WITH (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);

-- Answers come plain, so that any language can read them: the server packs the long ones.
ALTER TABLE {operations} ALTER COLUMN answer SET STORAGE EXTENDED;

CREATE INDEX onceward_operations_expiry ON {operations} (expires_at, id) WHERE expires_at IS NOT NULL;

COMMENT ON TABLE {operations} IS 'What Onceward remembers of operations that commit with their record: one row per record id';

-- Takes the lock of a record id until the transaction ends, waiting for it at most so many milliseconds. It keeps callers
-- from waiting where they would rather be told; that an operation runs once rests on the primary key alone. A wait that
-- is given up leaves the transaction as it was. The last number, "onceward" in ASCII, keeps our locks away from others'.
CREATE FUNCTION {operation_lock}(id bytea, wait_ms bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET lock_timeout = 0 AS $function$
DECLARE
    name bigint := ('x' || encode(substring(id FROM 1 FOR 8), 'hex'))::bit(64)::bigint # 8029464473093894756;
BEGIN
    IF pg_try_advisory_xact_lock(name) THEN
        RETURN true;
    ELSIF wait_ms <= 0 THEN
        RETURN false;
    END IF;
    BEGIN
        PERFORM set_config('lock_timeout', least(wait_ms, 2147483647)::text, true);
        PERFORM pg_advisory_xact_lock(name);
        RETURN true;
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
END $function$;

CREATE FUNCTION {operation_insert_1}({put}) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
{text_of_operation_insert};
END $function$;

CREATE FUNCTION {operation_replace_1}({put}, bigint[], boolean[]) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
{text_of_operation_replace};
END $function$;

-- A claim: waits at most $1 milliseconds for whoever works on the record, and gives no row if he still does then. Where $2
-- is null it inserts, else it swaps on that revision. Whoever can be told by what is committed waits for nobody.
CREATE FUNCTION {operation_claim_1}(
    bigint, bigint, boolean,
    {put}
) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN
    IF $2 IS NULL THEN
        RETURN QUERY
            SELECT 1::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint,
                NULL::bigint, NULL::bigint, NULL::bytea, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
                NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
                {columns}
            FROM {operations} r WHERE r.id = $4[1];
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF NOT {operation_lock}($4[1], $1) THEN
        RETURN;
    END IF;
    IF $2 IS NULL THEN
        RETURN QUERY SELECT * FROM {operation_insert_1}(
            $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25
        );
    ELSE
        RETURN QUERY SELECT * FROM {operation_replace_1}(
            $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
            ARRAY[$2], ARRAY[$3]
        );
    END IF;
END $function$;
