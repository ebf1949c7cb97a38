-- Transport: statements sent over a named dblink connection.

CREATE FUNCTION courier.parse_dsn(dsn pg_catalog.text)
RETURNS TABLE (keyword pg_catalog.text, value pg_catalog.text, secret pg_catalog.bool)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'courier_parse_dsn';
REVOKE ALL ON FUNCTION courier.parse_dsn(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.parse_dsn(pg_catalog.text) IS
    'The options of a libpq connection string; secret ones belong into a user mapping.';

CREATE FUNCTION courier.remote_connect(
    connection pg_catalog.text, server pg_catalog.text, timeout pg_catalog.int4)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_connect';
REVOKE ALL ON FUNCTION courier.remote_connect(pg_catalog.text, pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_connect(pg_catalog.text, pg_catalog.text, pg_catalog.int4) IS
    'Opens a dblink connection to a foreign server within so many milliseconds, in place of one of that name.';

CREATE FUNCTION courier.remote_disconnect(connection pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_disconnect';
REVOKE ALL ON FUNCTION courier.remote_disconnect(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_disconnect(pg_catalog.text) IS
    'Closes a dblink connection if it is open, without waiting for the other side.';

CREATE FUNCTION courier.remote_send(
    connection pg_catalog.text, command pg_catalog.text, silence pg_catalog.int4)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_send';
REVOKE ALL ON FUNCTION courier.remote_send(pg_catalog.text, pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_send(pg_catalog.text, pg_catalog.text, pg_catalog.int4) IS
    'Starts a string of statements on a dblink connection and returns when it is sent; closes the connection when no byte moves for so many milliseconds.';

CREATE FUNCTION courier.remote_keep(
    connection pg_catalog.text, part pg_catalog.text, behind pg_catalog.int4, room pg_catalog.int4)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_keep';
REVOKE ALL ON FUNCTION courier.remote_keep(pg_catalog.text, pg_catalog.text, pg_catalog.int4, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_keep(pg_catalog.text, pg_catalog.text, pg_catalog.int4, pg_catalog.int4) IS
    'Keeps a part of a string of statements behind so many bytes of it; the first of all makes room for so many.';

CREATE FUNCTION courier.remote_send_kept(connection pg_catalog.text, silence pg_catalog.int4)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_send_kept';
REVOKE ALL ON FUNCTION courier.remote_send_kept(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_send_kept(pg_catalog.text, pg_catalog.int4) IS
    'Sends the string of statements that remote_keep() or copy_read() has kept, like remote_send().';

CREATE FUNCTION courier.remote_wait(
    connection pg_catalog.text, timeout pg_catalog.int4,
    OUT ready pg_catalog.bool, OUT silent pg_catalog.int4, OUT unacknowledged pg_catalog.int4,
    OUT completed pg_catalog.int4, OUT counts pg_catalog.int8[], OUT value pg_catalog.text,
    OUT sqlstate pg_catalog.text, OUT message pg_catalog.text,
    OUT detail pg_catalog.text, OUT hint pg_catalog.text,
    OUT context pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_wait';
REVOKE ALL ON FUNCTION courier.remote_wait(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_wait(pg_catalog.text, pg_catalog.int4) IS
    'Waits up to so many milliseconds for what remote_send() started: whether all is done, for how long no byte has moved and how many the other side has not taken; how many statements succeeded, the rows each reported, what the last one gave, and the error of the one that did not.';

CREATE FUNCTION courier.remote_poll(
    connection pg_catalog.text, timeout pg_catalog.int4,
    OUT ready pg_catalog.bool, OUT silent pg_catalog.int4, OUT unacknowledged pg_catalog.int4)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_poll';
REVOKE ALL ON FUNCTION courier.remote_poll(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_poll(pg_catalog.text, pg_catalog.int4) IS
    'Like remote_wait(), for a single statement whose rows remote_rows() is to fetch.';

CREATE FUNCTION courier.remote_rows(connection pg_catalog.text, columns pg_catalog.int4)
RETURNS SETOF pg_catalog.text[]
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_rows';
REVOKE ALL ON FUNCTION courier.remote_rows(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_rows(pg_catalog.text, pg_catalog.int4) IS
    'The rows, of so many columns, that a statement sent by remote_send() has given; raises its error.';

CREATE FUNCTION courier.remote_run(
    connection pg_catalog.text, timeout pg_catalog.int4,
    command pg_catalog.text, silence pg_catalog.int4,
    OUT ready pg_catalog.bool, OUT silent pg_catalog.int4, OUT unacknowledged pg_catalog.int4,
    OUT completed pg_catalog.int4, OUT counts pg_catalog.int8[], OUT value pg_catalog.text,
    OUT sqlstate pg_catalog.text, OUT message pg_catalog.text,
    OUT detail pg_catalog.text, OUT hint pg_catalog.text,
    OUT context pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_run';
REVOKE ALL ON FUNCTION courier.remote_run(pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_run(pg_catalog.text, pg_catalog.int4, pg_catalog.text, pg_catalog.int4) IS
    'courier.remote_send() and courier.remote_wait() in one.';
