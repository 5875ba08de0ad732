-- As those of step 3, but for what is done and has a wake-up time: somebody has still to do with it, so nothing of it ends.
CREATE FUNCTION {insert}({put}) {told} LANGUAGE plpgsql VOLATILE {by_index} {bounded} AS $function$
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

CREATE FUNCTION {replace}({put}, bigint[], boolean[]) {told} LANGUAGE plpgsql VOLATILE {by_index} {bounded} AS $function$ BEGIN RETURN QUERY
{text_of_replace};
END $function$;
