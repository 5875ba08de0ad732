-- What sweeping looks at, without answers and checkpoints: whether a record is over does not depend on them.
WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT expires_at, (SELECT now FROM clock), {columns_without_cargo}
FROM {records} r
WHERE expires_at <= (SELECT now FROM clock) AND (expires_at, id) > ($1, $2)
ORDER BY expires_at, id
LIMIT $3
