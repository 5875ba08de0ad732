-- Keeps what is asked for where no record is, as `Put::stamp` says, and shows what is there elsewhere. A row that is
-- neither kept nor found was committed after the snapshot of this statement: ask again.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
), asked AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bytea[], $2::bytea[], $3::integer[], $4::bytea[], $5::bytea[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::bigint[], $18::bigint[], $19::text[], $20::bytea[], $21::bigint[], $22::bigint[]
    ) WITH ORDINALITY AS a (
        id, owner, rules, fingerprint, principal, kind, host, path,
        key, state, reason, answer_kind, answer, answer_len, lease_ms, run_max_ms,
        retention_ms, tombstone_ms, unresolved, checkpoint, wake_after_ms, not_after, place
    )
), timed AS (
    SELECT a.*, now,
        now + least(run_max_ms, 9223372036854775807 - now) AS run_until,
        CASE
            WHEN state IN ('done', 'tombstone') AND wake_after_ms IS NULL
                THEN now + least(retention_ms, 9223372036854775807 - now)
            WHEN state = 'released' THEN now
            ELSE 9223372036854775807
        END AS answer_until
    FROM asked a, clock
), stamped AS (
    SELECT t.*,
        CASE
            WHEN state IN ('done', 'tombstone')
                THEN answer_until + least(tombstone_ms, 9223372036854775807 - answer_until)
            ELSE answer_until
        END AS gone_until
    FROM timed t
), kept AS (
    INSERT INTO {records} (
        id, format, rules, state, revision, fence, owner, attempt,
        lease_until,
        run_until, answer_until, gone_until,
        expires_at,
        wake_at, created, updated,
        lease_ms, run_max_ms, retention_ms, tombstone_ms, unresolved, principal, kind, host, path, key,
        fingerprint, reason, answer_kind, answer, answer_len, checkpoint
    )
    SELECT
        id, {format}, rules, state, greatest(1, now * 1024), greatest(1, now * 1024),
        coalesce(owner, decode('00000000000000000000000000000000', 'hex')), (owner IS NOT NULL)::integer,
        CASE WHEN state = 'running' THEN least(now + least(lease_ms, 9223372036854775807 - now), run_until) ELSE now END,
        run_until, answer_until, gone_until,
        CASE
            WHEN state = 'done' THEN nullif(answer_until, 9223372036854775807)
            WHEN state IN ('released', 'tombstone')
                THEN nullif(gone_until + least({settle_ms}, 9223372036854775807 - gone_until), 9223372036854775807)
        END,
        CASE WHEN wake_after_ms IS NOT NULL THEN now + least(wake_after_ms, 9223372036854775807 - now) END, now, now,
        lease_ms, run_max_ms, retention_ms, tombstone_ms, unresolved, principal, kind, host, path, key,
        fingerprint, reason, answer_kind, answer, answer_len, checkpoint
    FROM stamped
    WHERE now <= not_after
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
    RETURNING
        id, revision, fence, owner, attempt, lease_until, run_until, answer_until, gone_until, wake_at, created, updated
)
SELECT
    a.place, c.now,
    k.revision, k.fence, k.owner, k.attempt, k.lease_until, k.run_until, k.answer_until, k.gone_until, k.wake_at,
    k.created, k.updated,
    {columns}
FROM asked a
CROSS JOIN clock c
LEFT JOIN kept k ON k.id = a.id
LEFT JOIN {records} r ON r.id = a.id AND k.id IS NULL
