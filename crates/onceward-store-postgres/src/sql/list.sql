-- One look at up to $2 rows behind the id $1: those that match, at most $3 of them and about $4 bytes, and how far it
-- looked. Many rows that do not match so cost many short statements, not a long one.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
), looked AS MATERIALIZED (
    SELECT r.id,
        ($5::bytea IS NULL OR principal = $5) AND ($6::text IS NULL OR kind = $6) AND ($7::text IS NULL OR path = $7)
            AND ($8::text IS NULL OR key = $8) AND ($9::bigint IS NULL OR updated <= (SELECT now FROM clock) - $9) AS wanted,
        coalesce(octet_length(answer), 0) + coalesce(octet_length(checkpoint), 0) + octet_length(path) + 500 AS bytes
    FROM {records} r WHERE r.id > $1 ORDER BY r.id LIMIT $2
), wanted AS MATERIALIZED (
    SELECT id, sum(bytes) OVER (ORDER BY id) - bytes AS before FROM looked WHERE wanted
), page AS MATERIALIZED (
    SELECT id FROM wanted WHERE before < $4 ORDER BY id LIMIT $3
), end_of AS MATERIALIZED (
    SELECT
        (SELECT count(*) FROM looked) AS looked, (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last,
        (SELECT count(*) FROM wanted) AS wanted
)
SELECT c.now, e.looked, e.last, e.wanted, {columns}
FROM clock c CROSS JOIN end_of e LEFT JOIN (page p JOIN {records} r ON r.id = p.id) ON true
ORDER BY r.id
