WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT wake_at, {columns}
FROM {records} r
WHERE wake_at <= (SELECT now FROM clock) AND (wake_at, id) > ($1, $2)
ORDER BY wake_at, id
LIMIT $3
