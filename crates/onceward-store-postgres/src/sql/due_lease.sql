WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT lease_until, {columns}
FROM {records} r
WHERE state = 'running' AND lease_until <= (SELECT now FROM clock) AND (lease_until, id) > ($1, $2)
ORDER BY lease_until, id
LIMIT $3
