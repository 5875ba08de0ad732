-- Removes what was looked at and is still so. What somebody else works on has changed or will have: it is left alone.
WITH over AS MATERIALIZED (
    SELECT r.id
    FROM {records} r JOIN unnest($1::bytea[], $2::bigint[]) AS a (id, seen) ON a.id = r.id AND r.revision = a.seen
    ORDER BY r.id
    FOR UPDATE OF r SKIP LOCKED
)
DELETE FROM {records} r USING over WHERE r.id = over.id
RETURNING 1
