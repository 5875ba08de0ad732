-- Effects that go out once the transaction that added them has committed. Times are milliseconds since 1970 on the clock of this
-- server.
CREATE TABLE {outbox} (
    -- Within a line this is the order of commits: see the function that adds.
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The name of the effect for whoever gets it, the same on every try.
    id bytea NOT NULL CHECK (octet_length(id) = 16),
    kind text NOT NULL CHECK (length(kind) BETWEEN 1 AND 64),
    destination text NOT NULL,
    key bytea,
    -- A hash of kind, destination and key. Of one line, an effect goes out when all before it have. An effect without a key has
    -- a line to itself.
    line bigint NOT NULL,
    header_names text[] NOT NULL,
    header_values bytea[] NOT NULL CHECK (cardinality(header_values) = cardinality(header_names)),
    body bytea NOT NULL,
    created bigint NOT NULL,
    -- How many tries failed, or ended with their relay.
    attempts integer NOT NULL DEFAULT 0,
    -- How many of them ended with their relay.
    lapses integer NOT NULL DEFAULT 0,
    not_before bigint NOT NULL DEFAULT 0,
    -- Who sends it now. Null where the last one said how it went.
    owner bytea CHECK (octet_length(owner) = 16),
    fence bigint NOT NULL DEFAULT 0,
    lease_until bigint NOT NULL DEFAULT 0,
    sent_at bigint,
    -- A parked effect is not sent before somebody says so, and neither are those behind it in its line.
    parked_at bigint,
    -- Why the last try failed.
    reason text
) WITH (
    -- A claim writes a second version of each row of a page at about the same time. With this room it stays on the page and no index
    -- hears of it.
    fillfactor = 50,
    -- Each row is written three times and deleted. What the index of unsent rows still has of sent ones is in the way of claims.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 1
);

CREATE INDEX onceward_outbox_unsent ON {outbox} (line, seq) WHERE sent_at IS NULL;
CREATE INDEX onceward_outbox_sent ON {outbox} (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX onceward_outbox_parked ON {outbox} (seq) WHERE parked_at IS NOT NULL;

COMMENT ON TABLE {outbox} IS 'What is to go out once its transaction has committed: one row per effect';

-- Adds an effect: id (or null for a new one), kind, destination, key, names and values of headers, body, and whether to wake relays
-- at the commit. An effect with a key first takes the lock of its line, until the transaction ends. So the next one in the
-- line gets its number only after this transaction has committed or rolled back: who sees a row sees all before it in its line.
-- No other transaction waits.
CREATE FUNCTION {outbox_add}(bytea, text, text, bytea, text[], bytea[], bytea, boolean) RETURNS bytea
LANGUAGE plpgsql VOLATILE AS $function$
DECLARE
    name bytea := coalesce($1, uuid_send(gen_random_uuid()));
    digest bytea := name;
    place bigint;
BEGIN
    IF $4 IS NOT NULL THEN
        digest := sha256(convert_to($2, 'UTF8') || '\x00'::bytea || convert_to($3, 'UTF8') || '\x00'::bytea || $4);
    END IF;
    -- One number less, so that there is one before all lines.
    place := greatest(('x' || encode(substring(digest FROM 1 FOR 8), 'hex'))::bit(64)::bigint, -9223372036854775807);
    IF $4 IS NOT NULL THEN
        -- "outboxes" in ASCII keeps these locks away from others'.
        PERFORM pg_advisory_xact_lock(place # 8031453476610925939);
    END IF;
    INSERT INTO {outbox} (id, kind, destination, key, line, header_names, header_values, body, created)
    VALUES (name, $2, $3, $4, place, $5, $6, $7, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    IF $8 THEN
        PERFORM pg_notify('onceward_outbox', '');
    END IF;
    RETURN name;
END $function$;

-- Claims for owner $1, for $2 milliseconds, effects of the kinds $3: the first one of each of up to $5 lines behind the line $4, and
-- behind each of them up to $6 in all of its line; up to $7 in all, the first of each line before others, and no more once
-- there are $8 bytes. What is parked, waits for its next try, or is somebody's is not claimed, and nothing behind it in its line.
-- It waits for nobody. The last row tells by its line where to go on; null where there is no line any more.
--
-- It goes from line to line through the index, so a line costs the same however many wait in it, and looks at no more than
-- 10 000 lines.
--
-- A plan may be made while the table is empty, when reading all of it costs nothing, and be kept until it is large. So everything is
-- written such that there is one way to do it. Lines are found by a range in the order of line and number, which the primary key
-- does not have. Numbers are found by the primary key: `coalesce` hides from the planner that only unsent rows are meant, whose
-- index has the number, too; and there is no join with the table that could begin at the table.
CREATE FUNCTION {outbox_claim}(bytea, bigint, text[], bigint, integer, integer, integer, bigint) RETURNS TABLE (
    o_seq bigint, o_line bigint, o_fence bigint, o_attempts integer, o_id bytea, o_kind text, o_destination text,
    o_key bytea, o_names text[], o_values bytea[], o_body bytea, o_created bigint
) LANGUAGE plpgsql VOLATILE {by_index} AS $function$
DECLARE
    now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    head record;
    lines bigint[] := ARRAY[]::bigint[];
    deep integer := $6;
    go_on bigint;
    mine bigint[];
    lapsed bigint[];
    whole boolean := true;
BEGIN
    FOR head IN
        WITH RECURSIVE walk AS (
            (
                SELECT 1 AS step, o.line, o.lapses, o.owner IS NOT NULL AS left_behind,
                    o.parked_at IS NULL AND o.not_before <= now_ms AND o.lease_until <= now_ms AND o.kind = ANY ($3) AS ready
                FROM {outbox} o
                WHERE o.sent_at IS NULL AND o.line > $4
                ORDER BY o.line, o.seq LIMIT 1
            )
            UNION ALL
            SELECT walk.step + 1, next.*
            FROM walk CROSS JOIN LATERAL (
                SELECT o.line, o.lapses, o.owner IS NOT NULL,
                    o.parked_at IS NULL AND o.not_before <= now_ms AND o.lease_until <= now_ms AND o.kind = ANY ($3)
                FROM {outbox} o
                WHERE o.sent_at IS NULL AND o.line > walk.line
                ORDER BY o.line, o.seq LIMIT 1
            ) AS next
            WHERE walk.step < 10000
        )
        SELECT * FROM walk WHERE walk.ready OR walk.step = 10000
    LOOP
        IF head.ready AND head.lapses + head.left_behind::integer > 3 THEN
            -- Relays ended with it in their hands again and again. It goes alone, so that it takes no others with it.
            IF cardinality(lines) = 0 THEN
                lines := ARRAY[head.line];
                deep := 1;
                go_on := head.line;
            END IF;
            whole := false;
            EXIT;
        END IF;
        go_on := head.line;
        IF head.ready THEN
            lines := lines || head.line;
        END IF;
        IF cardinality(lines) >= $5 OR head.step = 10000 THEN
            whole := false;
            EXIT;
        END IF;
    END LOOP;
    -- What is somebody else's by now is left out, and with it what is behind it: each line is claimed without a gap.
    WITH chosen AS MATERIALIZED (
        SELECT o.seq, o.line, o.bytes, row_number() OVER (PARTITION BY o.line ORDER BY o.seq) AS nth
        FROM unnest(lines) AS l (line) CROSS JOIN LATERAL (
            SELECT r.seq, r.line, octet_length(r.body)::bigint AS bytes
            FROM {outbox} r
            WHERE r.sent_at IS NULL AND r.line >= l.line AND r.line <= l.line
            ORDER BY r.line, r.seq LIMIT deep
        ) AS o
    ), few AS MATERIALIZED (
        SELECT c.seq, c.line, c.nth
        FROM (
            SELECT *, row_number() OVER broad AS place, sum(bytes) OVER broad - bytes AS before
            FROM chosen WINDOW broad AS (ORDER BY nth, line ROWS UNBOUNDED PRECEDING)
        ) AS c
        WHERE c.place = 1 OR (c.place <= $7 AND c.before < $8)
    ), locked AS MATERIALIZED (
        SELECT few.seq, few.line, few.nth, l.left_behind
        FROM few CROSS JOIN LATERAL (
            SELECT o.owner IS NOT NULL AS left_behind FROM {outbox} o
            WHERE o.seq = few.seq
                AND coalesce(o.sent_at, 0) = 0 AND o.parked_at IS NULL AND o.not_before <= now_ms
                AND o.lease_until <= now_ms AND o.kind = ANY ($3)
            FOR UPDATE OF o SKIP LOCKED
        ) AS l
    )
    SELECT array_agg(w.seq), coalesce(array_agg(w.seq) FILTER (WHERE w.nth = 1 AND w.left_behind), ARRAY[]::bigint[])
    INTO mine, lapsed
    FROM (SELECT *, row_number() OVER (PARTITION BY line ORDER BY nth) AS place FROM locked) AS w
    WHERE w.place = w.nth;
    RETURN QUERY
    UPDATE {outbox} o SET
        owner = $1, fence = o.fence + 1, lease_until = now_ms + $2,
        -- Whoever had the first one of a line and never said how it went counts as a try.
        attempts = o.attempts + (o.seq = ANY (lapsed))::integer,
        lapses = o.lapses + (o.seq = ANY (lapsed))::integer
    WHERE o.seq = ANY (mine)
    RETURNING o.seq, o.line, o.fence, o.attempts, o.id, o.kind, o.destination,
        o.key, o.header_names, o.header_values, o.body, o.created;
    o_seq := NULL;
    o_line := CASE WHEN whole THEN NULL ELSE go_on END;
    RETURN NEXT;
END $function$;

-- Keeps effects ($3, with their fences $4) for another $2 milliseconds, and tells which still are owner $1's.
CREATE FUNCTION {outbox_extend}(bytea, bigint, bigint[], bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
    UPDATE {outbox} o SET lease_until = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + $2
    WHERE o.seq = ANY ($3) AND o.fence = ($4)[array_position($3, o.seq)]
        AND o.owner = $1 AND coalesce(o.sent_at, 0) = 0
    RETURNING o.seq;
END $function$;

-- Notes that effects ($2, with their fences $3) are sent, and tells of which: those that are still owner $1's.
CREATE FUNCTION {outbox_sent}(bytea, bigint[], bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
    UPDATE {outbox} o SET sent_at = floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
    WHERE o.seq = ANY ($2) AND o.fence = ($3)[array_position($2, o.seq)]
        AND o.owner = $1 AND coalesce(o.sent_at, 0) = 0
    RETURNING o.seq;
END $function$;

-- Notes that effects ($2, with their fences $3) did not go out: not again for $4 milliseconds, or, where that is null, parked; with
-- the reasons $5, and whether they were tried at all, $6. Tells of which: those that are still owner $1's.
CREATE FUNCTION {outbox_failed}(bytea, bigint[], bigint[], bigint[], text[], boolean[]) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE {by_index} AS $function$
DECLARE now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
BEGIN RETURN QUERY
    UPDATE {outbox} o SET
        attempts = o.attempts + ($6)[array_position($2, o.seq)]::integer, owner = NULL, lease_until = 0,
        reason = ($5)[array_position($2, o.seq)],
        not_before = now_ms + coalesce(($4)[array_position($2, o.seq)], 0),
        parked_at = CASE WHEN ($4)[array_position($2, o.seq)] IS NULL THEN now_ms END
    WHERE o.seq = ANY ($2) AND o.fence = ($3)[array_position($2, o.seq)]
        AND o.owner = $1 AND coalesce(o.sent_at, 0) = 0
    RETURNING o.seq;
END $function$;

-- Gives effects back that were not tried, and tells which.
CREATE FUNCTION {outbox_give_back}(bytea, bigint[], bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE {by_index} AS $function$ BEGIN RETURN QUERY
    UPDATE {outbox} o SET owner = NULL, lease_until = 0
    WHERE o.seq = ANY ($2) AND o.fence = ($3)[array_position($2, o.seq)]
        AND o.owner = $1 AND coalesce(o.sent_at, 0) = 0
    RETURNING o.seq;
END $function$;

-- Removes up to $2 effects that were sent more than $1 milliseconds ago, and tells how many it removed.
CREATE FUNCTION {outbox_cleanup}(bigint, integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE {by_index} AS $function$
DECLARE
    now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    removed bigint;
BEGIN
    DELETE FROM {outbox} o WHERE o.seq = ANY (ARRAY(
        SELECT r.seq FROM {outbox} r
        WHERE r.sent_at IS NOT NULL AND r.sent_at <= now_ms - $1
        ORDER BY r.sent_at LIMIT $2
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $function$;

-- How many are unsent, how many of them are parked, how many are somebody's, how many milliseconds ago the oldest of those that are
-- not parked was added (null where there is none), and the most tries that any of them had. It looks at every unsent row.
CREATE FUNCTION {outbox_stats}() RETURNS TABLE (
    o_unsent bigint, o_parked bigint, o_owned bigint, o_oldest_ms bigint, o_attempts integer
) LANGUAGE plpgsql VOLATILE AS $function$
DECLARE now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
BEGIN RETURN QUERY
    SELECT count(*), count(o.parked_at), count(*) FILTER (WHERE o.lease_until > now_ms),
        greatest(now_ms - min(o.created) FILTER (WHERE o.parked_at IS NULL), 0),
        coalesce(max(o.attempts), 0)
    FROM {outbox} o WHERE o.sent_at IS NULL;
END $function$;

-- Up to $2 parked effects behind the number $1.
CREATE FUNCTION {outbox_parked}(bigint, integer) RETURNS TABLE (
    o_seq bigint, o_line bigint, o_fence bigint, o_attempts integer, o_id bytea, o_kind text, o_destination text,
    o_key bytea, o_names text[], o_values bytea[], o_body bytea, o_created bigint, o_parked_at bigint, o_reason text
) LANGUAGE plpgsql VOLATILE AS $function$ BEGIN RETURN QUERY
    SELECT o.seq, o.line, o.fence, o.attempts, o.id, o.kind, o.destination,
        o.key, o.header_names, o.header_values, o.body, o.created, o.parked_at, o.reason
    FROM {outbox} o WHERE o.parked_at IS NOT NULL AND o.seq > $1 ORDER BY o.seq LIMIT $2;
END $function$;

-- Lets parked effects ($1, ids) be tried again, as if they never had been, or removes them. Tells which.
CREATE FUNCTION {outbox_redrive}(bytea[]) RETURNS SETOF bytea LANGUAGE plpgsql VOLATILE AS $function$ BEGIN RETURN QUERY
    UPDATE {outbox} o SET parked_at = NULL, attempts = 0, lapses = 0, not_before = 0
    WHERE o.parked_at IS NOT NULL AND o.id = ANY ($1) RETURNING o.id;
END $function$;

CREATE FUNCTION {outbox_drop}(bytea[]) RETURNS SETOF bytea LANGUAGE plpgsql VOLATILE AS $function$ BEGIN RETURN QUERY
    DELETE FROM {outbox} o WHERE o.parked_at IS NOT NULL AND o.id = ANY ($1) RETURNING o.id;
END $function$;
