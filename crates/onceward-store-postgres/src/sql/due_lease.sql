-- One row more than there are where there are none, so that the time is told in any case.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT r.lease_until, c.now, {columns}
FROM clock c LEFT JOIN LATERAL (
    SELECT * FROM {records}
    WHERE state = 'running' AND lease_until <= c.now AND (lease_until, id) > ($1, $2)
    ORDER BY lease_until, id
    LIMIT $3
) r ON true
ORDER BY r.lease_until, r.id
