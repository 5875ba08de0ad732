-- Claims an operation that nobody has and nobody works on, as `Put::stamp` says. Nothing is written where somebody does: this
-- statement waits for nobody.
INSERT INTO {operations} AS r (
    id, format, rules, state, revision, fence, owner, attempt,
    lease_until, run_until,
    answer_until, gone_until, created, updated,
    lease_ms, run_max_ms, retention_ms, tombstone_ms, unresolved, principal, kind, host, path, key, fingerprint
)
SELECT
    $2, {format}, $3, 'running', greatest(1, now * 1024), greatest(1, now * 1024), $4, 1,
    now + least($5::bigint, $6, 9223372036854775807 - now), now + least($6::bigint, 9223372036854775807 - now),
    9223372036854775807, 9223372036854775807, now, now,
    $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now OFFSET 0) AS clock
WHERE pg_try_advisory_xact_lock($1)
ON CONFLICT (id) DO NOTHING
RETURNING r.created
