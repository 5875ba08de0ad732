-- Those of the records that run no more, or whose lease is over. It needs the primary key alone.
SELECT r.id
FROM {records} r
WHERE r.id = ANY($1::bytea[]) AND NOT (
    r.state = 'running' AND r.lease_until > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint
)
