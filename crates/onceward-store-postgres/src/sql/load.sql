WITH clock AS MATERIALIZED (
    SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
)
SELECT a.place, c.now, {columns}
FROM unnest($1::bytea[]) WITH ORDINALITY AS a (id, place)
CROSS JOIN clock c
LEFT JOIN {records} r ON r.id = a.id
