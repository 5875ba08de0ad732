-- Claims and completions of one operation. They take what those of step 2 take, one value in each array, and tell the same; but they
-- are written for one row, which costs the server less than half of what a statement for any number of rows does.

-- Swaps in what is asked for where the stored revision is $23, as `Put::stamp` says. Who has changed the row is the transaction itself,
-- or it has the lock of the record: the clock need not wait for anybody.
CREATE FUNCTION {operation_replace}({put}, bigint[], boolean[]) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$
DECLARE
    now_ms bigint := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    answered bigint := CASE
        WHEN $10[1] IN ('done', 'tombstone') AND $21[1] IS NULL THEN now_ms + least($17[1], 9223372036854775807 - now_ms)
        WHEN $10[1] = 'released' THEN now_ms
        ELSE 9223372036854775807
    END;
    over bigint := CASE
        WHEN $10[1] IN ('done', 'tombstone') THEN answered + least($18[1], 9223372036854775807 - answered)
        ELSE answered
    END;
BEGIN
    RETURN QUERY UPDATE {operations} r SET
        format = {format}, rules = $3[1], state = $10[1],
        revision = greatest(r.revision + 1, now_ms * 1024),
        fence = CASE WHEN $2[1] IS NULL THEN r.fence ELSE greatest(r.fence + 1, now_ms * 1024) END,
        owner = coalesce($2[1], r.owner),
        attempt = least(
            CASE WHEN $24[1] THEN 0 ELSE r.attempt END + ($2[1] IS NOT NULL)::integer, 4294967295
        ),
        lease_until = CASE
            WHEN $10[1] = 'running' THEN least(
                now_ms + least($15[1], 9223372036854775807 - now_ms),
                CASE WHEN $2[1] IS NULL THEN r.run_until ELSE now_ms + least($16[1], 9223372036854775807 - now_ms) END
            )
            ELSE now_ms
        END,
        run_until = CASE WHEN $2[1] IS NULL THEN r.run_until ELSE now_ms + least($16[1], 9223372036854775807 - now_ms) END,
        answer_until = answered, gone_until = over,
        expires_at = CASE
            WHEN $10[1] = 'done' THEN nullif(answered, 9223372036854775807)
            WHEN $10[1] IN ('released', 'tombstone')
                THEN nullif(over + least({settle_ms}, 9223372036854775807 - over), 9223372036854775807)
        END,
        wake_at = CASE WHEN $21[1] IS NOT NULL THEN now_ms + least($21[1], 9223372036854775807 - now_ms) END,
        created = CASE WHEN $24[1] THEN now_ms ELSE r.created END, updated = now_ms,
        lease_ms = $15[1], run_max_ms = $16[1], retention_ms = $17[1], tombstone_ms = $18[1], unresolved = $19[1],
        principal = $5[1], kind = $6[1], host = $7[1], path = $8[1], key = $9[1], fingerprint = $4[1],
        reason = $11[1], answer_kind = $12[1], answer = $13[1], answer_len = $14[1], checkpoint = $20[1]
    WHERE r.id = $1[1] AND r.revision = $23[1] AND now_ms <= $22[1]
    RETURNING 1::bigint, now_ms, r.revision, r.fence, r.owner, r.attempt, r.lease_until, r.run_until, r.answer_until,
        r.gone_until, r.wake_at, r.created, r.updated, {no_columns};
    IF NOT FOUND THEN
        RETURN QUERY SELECT 1::bigint, now_ms, {no_stamps}, {columns}
            FROM (SELECT) AS asked LEFT JOIN {operations} r ON r.id = $1[1];
    END IF;
END $function$;

-- A claim, as in step 2: waits at most $1 milliseconds for whoever works on the record, and gives no row if he still does then. Where
-- $2 is null it inserts, else it swaps on that revision. Whoever can be told by what is committed waits for nobody. A row that is
-- neither kept nor found was committed meanwhile: ask again.
CREATE FUNCTION {operation_claim}(
    bigint, bigint, boolean,
    {put}
) {told} LANGUAGE plpgsql VOLATILE {by_index} AS $function$
DECLARE
    now_ms bigint;
    run_end bigint;
BEGIN
    IF $2 IS NULL THEN
        RETURN QUERY SELECT 1::bigint, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, {no_stamps}, {columns}
            FROM {operations} r WHERE r.id = $4[1];
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    IF NOT {operation_lock}($4[1], $1) THEN
        RETURN;
    END IF;
    IF $2 IS NOT NULL THEN
        RETURN QUERY SELECT * FROM {operation_replace}(
            $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
            ARRAY[$2], ARRAY[$3]
        );
        RETURN;
    END IF;
    now_ms := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    run_end := now_ms + least($19[1], 9223372036854775807 - now_ms);
    -- What is claimed is running: nothing of it has an end yet.
    RETURN QUERY INSERT INTO {operations} AS r (
        id, format, rules, state, revision, fence, owner, attempt, lease_until, run_until,
        answer_until, gone_until, created, updated,
        lease_ms, run_max_ms, retention_ms, tombstone_ms, unresolved, principal, kind, host, path, key, fingerprint, checkpoint
    ) VALUES (
        $4[1], {format}, $6[1], 'running', greatest(1, now_ms * 1024), greatest(1, now_ms * 1024), $5[1], 1,
        least(now_ms + least($18[1], 9223372036854775807 - now_ms), run_end), run_end,
        9223372036854775807, 9223372036854775807, now_ms, now_ms,
        $18[1], $19[1], $20[1], $21[1], $22[1], $8[1], $9[1], $10[1], $11[1], $12[1], $7[1], $23[1]
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING 1::bigint, now_ms, r.revision, r.fence, r.owner, r.attempt, r.lease_until, r.run_until, r.answer_until,
        r.gone_until, r.wake_at, r.created, r.updated, {no_columns};
    IF NOT FOUND THEN
        RETURN QUERY SELECT 1::bigint, now_ms, {no_stamps}, {no_columns};
    END IF;
END $function$;
