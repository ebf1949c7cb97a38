-- Capture: the trigger functions, and changes that are queued by hand.

CREATE FUNCTION courier.capture_row()
RETURNS pg_catalog.trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'courier_capture_row';
REVOKE ALL ON FUNCTION courier.capture_row() FROM PUBLIC;
COMMENT ON FUNCTION courier.capture_row() IS
    'Row trigger: writes the change into the transaction''s buffer, which is queued at commit.';

CREATE FUNCTION courier.capture_truncate()
RETURNS pg_catalog.trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'courier_capture_truncate';
REVOKE ALL ON FUNCTION courier.capture_truncate() FROM PUBLIC;
COMMENT ON FUNCTION courier.capture_truncate() IS
    'Statement trigger: captures a TRUNCATE.';

CREATE FUNCTION courier.enqueue(channel pg_catalog.text, payload pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'courier_enqueue_event';
COMMENT ON FUNCTION courier.enqueue(pg_catalog.text, pg_catalog.text) IS
    'Queues an event, which every subscription delivers in order with the rows, into courier_target.event.';

CREATE FUNCTION courier.enqueue_row(relation pg_catalog.regclass, kind pg_catalog."char", r pg_catalog.anyelement)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_enqueue_row';
REVOKE ALL ON FUNCTION courier.enqueue_row(pg_catalog.regclass, pg_catalog."char", pg_catalog.anyelement) FROM PUBLIC;
COMMENT ON FUNCTION courier.enqueue_row(pg_catalog.regclass, pg_catalog."char", pg_catalog.anyelement) IS
    'Queues a row as an upsert (V), a delete (D), or whichever the row filters make of it (R); private, see enqueue_upsert(), enqueue_delete() and resend().';

CREATE FUNCTION courier.enqueue_key(relation pg_catalog.regclass, columns pg_catalog.text[], key pg_catalog.text[])
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_enqueue_key';
REVOKE ALL ON FUNCTION courier.enqueue_key(pg_catalog.regclass, pg_catalog.text[], pg_catalog.text[]) FROM PUBLIC;
COMMENT ON FUNCTION courier.enqueue_key(pg_catalog.regclass, pg_catalog.text[], pg_catalog.text[]) IS
    'Queues the delete of a row of which only the key is known; private, see resend().';

CREATE FUNCTION courier.require_captured(relation pg_catalog.regclass)
RETURNS pg_catalog.void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM courier.replication_set_table AS t
                   WHERE t.relation = require_captured.relation) THEN
        RAISE EXCEPTION 'table % is in no replication set', relation
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Add it with SELECT courier.replication_set_add_table(''default'', %L).', relation);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION courier.require_captured(pg_catalog.regclass) FROM PUBLIC;
COMMENT ON FUNCTION courier.require_captured(pg_catalog.regclass) IS
    'Raises an error if the table is in no replication set.';

CREATE FUNCTION courier.enqueue_upsert(relation pg_catalog.regclass, r pg_catalog.anyelement)
RETURNS pg_catalog.void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM courier.require_administrator();
    PERFORM courier.require_captured(relation);
    PERFORM courier.enqueue_row(relation, 'V', r);
END
$$;
COMMENT ON FUNCTION courier.enqueue_upsert(pg_catalog.regclass, pg_catalog.anyelement) IS
    'Ships a row again: SELECT courier.enqueue_upsert(''orders'', o) FROM orders o WHERE ... '
    'Where others write, begin with LOCK TABLE orders IN SHARE MODE: a row that is being changed would be shipped '
    'behind its change, as it was before.';

CREATE FUNCTION courier.enqueue_delete(relation pg_catalog.regclass, r pg_catalog.anyelement)
RETURNS pg_catalog.void
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM courier.require_administrator();
    PERFORM courier.require_captured(relation);
    PERFORM courier.enqueue_row(relation, 'D', r);
END
$$;
COMMENT ON FUNCTION courier.enqueue_delete(pg_catalog.regclass, pg_catalog.anyelement) IS
    'Deletes a row on the targets: the row given is matched there by its key.';

CREATE FUNCTION courier.version()
RETURNS pg_catalog.text
LANGUAGE c STABLE
AS 'MODULE_PATHNAME', 'courier_version';
COMMENT ON FUNCTION courier.version() IS
    'Version of the installed library.';
