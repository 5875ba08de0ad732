-- Swaps in what is asked for where the stored revision is the one that was seen, as `Put::stamp` says, and shows what
-- is there elsewhere. The rows are locked in the order of their ids, so that two batches never wait for one another,
-- and only then is the clock asked: who waited for a row is judged after the wait.
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::bytea[], $2::bytea[], $3::integer[], $4::bytea[], $5::bytea[], $6::text[], $7::text[], $8::text[],
        $9::text[], $10::text[], $11::text[], $12::text[], $13::bytea[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::bigint[], $18::bigint[], $19::text[], $20::bytea[], $21::bigint[], $22::bigint[], $23::bigint[],
        $24::boolean[]
    ) WITH ORDINALITY AS a (
        id, owner, rules, fingerprint, principal, kind, host, path,
        key, state, reason, answer_kind, answer, answer_len, lease_ms, run_max_ms,
        retention_ms, tombstone_ms, unresolved, checkpoint, wake_after_ms, not_after, seen,
        new_life, place
    )
), found AS MATERIALIZED (
    SELECT {columns}
    FROM {records} r JOIN asked a ON a.id = r.id
    ORDER BY r.id
    FOR UPDATE OF r
), clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now FROM (SELECT count(*) FROM found) AS locked
), timed AS (
    SELECT a.*, now, f.revision AS old_revision, f.fence AS old_fence, f.owner AS old_owner,
        CASE WHEN new_life THEN 0 ELSE f.attempt END AS old_attempt,
        CASE WHEN new_life THEN now ELSE f.created END AS old_created,
        CASE
            WHEN a.owner IS NULL THEN f.run_until
            ELSE now + least(a.run_max_ms, 9223372036854775807 - now)
        END AS run_until,
        CASE
            WHEN a.state IN ('done', 'tombstone') AND wake_after_ms IS NULL
                THEN now + least(a.retention_ms, 9223372036854775807 - now)
            WHEN a.state = 'released' THEN now
            ELSE 9223372036854775807
        END AS answer_until
    FROM asked a JOIN found f ON f.id = a.id AND f.revision = a.seen, clock
    WHERE now <= not_after
), stamped AS (
    SELECT t.*,
        CASE
            WHEN state IN ('done', 'tombstone')
                THEN answer_until + least(tombstone_ms, 9223372036854775807 - answer_until)
            ELSE answer_until
        END AS gone_until
    FROM timed t
), kept AS (
    UPDATE {records} r SET
        format = {format}, rules = s.rules, state = s.state,
        revision = greatest(old_revision + 1, now * 1024),
        fence = CASE WHEN s.owner IS NULL THEN old_fence ELSE greatest(old_fence + 1, now * 1024) END,
        owner = coalesce(s.owner, old_owner),
        attempt = least(old_attempt + (s.owner IS NOT NULL)::integer, 4294967295),
        lease_until = CASE
            WHEN s.state = 'running' THEN least(now + least(s.lease_ms, 9223372036854775807 - now), s.run_until)
            ELSE now
        END,
        run_until = s.run_until, answer_until = s.answer_until, gone_until = s.gone_until,
        expires_at = CASE
            WHEN s.state = 'done' THEN nullif(s.answer_until, 9223372036854775807)
            WHEN s.state IN ('released', 'tombstone')
                THEN nullif(s.gone_until + least({settle_ms}, 9223372036854775807 - s.gone_until), 9223372036854775807)
        END,
        wake_at = CASE WHEN wake_after_ms IS NOT NULL THEN now + least(wake_after_ms, 9223372036854775807 - now) END, created = old_created, updated = now,
        lease_ms = s.lease_ms, run_max_ms = s.run_max_ms, retention_ms = s.retention_ms,
        tombstone_ms = s.tombstone_ms, unresolved = s.unresolved, principal = s.principal, kind = s.kind,
        host = s.host, path = s.path, key = s.key, fingerprint = s.fingerprint, reason = s.reason,
        answer_kind = s.answer_kind, answer = s.answer, answer_len = s.answer_len, checkpoint = s.checkpoint
    FROM stamped s
    WHERE r.id = s.id
    RETURNING
        r.id, r.revision, r.fence, r.owner, r.attempt, r.lease_until, r.run_until, r.answer_until, r.gone_until,
        r.wake_at, r.created, r.updated
)
SELECT
    a.place, c.now,
    k.revision, k.fence, k.owner, k.attempt, k.lease_until, k.run_until, k.answer_until, k.gone_until, k.wake_at,
    k.created, k.updated,
    {columns}
FROM asked a
CROSS JOIN clock c
LEFT JOIN kept k ON k.id = a.id
LEFT JOIN found r ON r.id = a.id AND k.id IS NULL
