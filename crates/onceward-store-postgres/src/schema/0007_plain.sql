-- What a build writes into operations it checks itself, and it reads nothing that does not fit together. The server parsed these checks anew for
-- each statement that writes one row, and that took it longer than to write the row.
--
-- They do no harm. So where somebody works with the table all the time they stay: nobody else is to wait behind this.
DECLARE
    patience text := current_setting('lock_timeout');
BEGIN
    FOR attempt IN 1..5 LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            ALTER TABLE {operations}
                DROP CONSTRAINT IF EXISTS onceward_records_answer_len_check,
                DROP CONSTRAINT IF EXISTS onceward_records_answer_until_check,
                DROP CONSTRAINT IF EXISTS onceward_records_attempt_check, DROP CONSTRAINT IF EXISTS onceward_records_check,
                DROP CONSTRAINT IF EXISTS onceward_records_check1, DROP CONSTRAINT IF EXISTS onceward_records_check2,
                DROP CONSTRAINT IF EXISTS onceward_records_created_check,
                DROP CONSTRAINT IF EXISTS onceward_records_expires_at_check,
                DROP CONSTRAINT IF EXISTS onceward_records_fence_check,
                DROP CONSTRAINT IF EXISTS onceward_records_fingerprint_check,
                DROP CONSTRAINT IF EXISTS onceward_records_gone_until_check,
                DROP CONSTRAINT IF EXISTS onceward_records_id_check, DROP CONSTRAINT IF EXISTS onceward_records_lease_ms_check,
                DROP CONSTRAINT IF EXISTS onceward_records_lease_until_check,
                DROP CONSTRAINT IF EXISTS onceward_records_owner_check,
                DROP CONSTRAINT IF EXISTS onceward_records_principal_check,
                DROP CONSTRAINT IF EXISTS onceward_records_retention_ms_check,
                DROP CONSTRAINT IF EXISTS onceward_records_revision_check,
                DROP CONSTRAINT IF EXISTS onceward_records_rules_check,
                DROP CONSTRAINT IF EXISTS onceward_records_run_max_ms_check,
                DROP CONSTRAINT IF EXISTS onceward_records_run_until_check,
                DROP CONSTRAINT IF EXISTS onceward_records_state_check,
                DROP CONSTRAINT IF EXISTS onceward_records_tombstone_ms_check,
                DROP CONSTRAINT IF EXISTS onceward_records_unresolved_check,
                DROP CONSTRAINT IF EXISTS onceward_records_updated_check,
                DROP CONSTRAINT IF EXISTS onceward_records_wake_at_check;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', patience, true);
END;

-- Finishes an operation of this transaction. What is to stand there was worked out by whoever asks.
CREATE FUNCTION {operation_done}(
    id bytea, seen bigint, revision bigint, now_ms bigint, answer_until bigint, gone_until bigint, expires_at bigint,
    answer_kind text, answer bytea, answer_len bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE {by_key} AS $function$ BEGIN
    UPDATE {operations} r SET
        state = 'done', revision = $3, lease_until = $4, answer_until = $5, gone_until = $6, expires_at = $7, updated = $4,
        answer_kind = $8, answer = $9, answer_len = $10, checkpoint = NULL, wake_at = NULL
    WHERE r.id = $1 AND r.revision = $2;
    RETURN FOUND;
END $function$;
