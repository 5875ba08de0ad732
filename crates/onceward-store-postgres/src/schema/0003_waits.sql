-- Whoever waits for another transaction gives up before its caller does, or shortly after: a transaction that somebody leaves
-- open must not collect the connections of all who wait for it. Waiting for replicas is not bounded by this.
--
-- A claim that waited was judged by the clock before the wait. So the clock is asked once more behind it: where a limit
-- passed meanwhile nothing is written, and whoever asked asks again. That ends: what is too late by then is not tried.
CREATE FUNCTION {insert_2}({put}) {told} LANGUAGE plpgsql VOLATILE {by_index} {bounded} AS $function$
DECLARE
    began bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    ended bigint;
BEGIN RETURN QUERY
{text_of_insert};
    ended := floor(extract(epoch FROM clock_timestamp()) * 1000);
    IF ended > began AND EXISTS (SELECT FROM unnest($22) AS not_after WHERE not_after >= began AND not_after < ended) THEN
        RAISE EXCEPTION 'the statement took until it was too late to claim' USING ERRCODE = '{too_late}';
    END IF;
END $function$;

CREATE FUNCTION {replace_2}({put}, bigint[], boolean[]) {told} LANGUAGE plpgsql VOLATILE {by_index} {bounded} AS $function$ BEGIN RETURN QUERY
{text_of_replace};
END $function$;
