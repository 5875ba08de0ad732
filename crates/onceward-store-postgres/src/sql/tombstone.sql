-- Drops the answers that were looked at and are still so. What somebody else works on is left alone.
WITH over AS MATERIALIZED (
    SELECT r.id, a.revision, a.updated, a.expires_at
    FROM {records} r JOIN unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS a (id, seen, revision, updated, expires_at) ON a.id = r.id AND r.revision = a.seen
    ORDER BY r.id
    FOR UPDATE OF r SKIP LOCKED
)
UPDATE {records} r SET
    state = 'tombstone', answer_kind = NULL, answer = NULL, answer_len = NULL, checkpoint = NULL,
    revision = over.revision, updated = over.updated, expires_at = over.expires_at
FROM over WHERE r.id = over.id
RETURNING 1
