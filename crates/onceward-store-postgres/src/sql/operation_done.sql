-- Finishes an operation of this transaction. What is to stand there was worked out by whoever asks.
UPDATE {operations} r SET
    state = 'done', revision = $3, lease_until = $4, answer_until = $5, gone_until = $6, expires_at = $7, updated = $4,
    answer_kind = $8, answer = $9, answer_len = $10, checkpoint = NULL, wake_at = NULL
WHERE r.id = $1 AND r.revision = $2
