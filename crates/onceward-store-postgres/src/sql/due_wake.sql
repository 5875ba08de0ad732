-- One row more than there are where there are none, so that the time is told in any case.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT r.wake_at, c.now, {columns}
FROM clock c LEFT JOIN LATERAL (
    SELECT * FROM {records}
    WHERE wake_at <= c.now AND (wake_at, id) > ($1, $2)
    ORDER BY wake_at, id
    LIMIT $3
) r ON true
ORDER BY r.wake_at, r.id
