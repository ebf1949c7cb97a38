-- Transport: statements sent over a named dblink connection.

CREATE FUNCTION courier.parse_dsn(dsn pg_catalog.text)
RETURNS TABLE (keyword pg_catalog.text, value pg_catalog.text, secret pg_catalog.bool)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'courier_parse_dsn';
REVOKE ALL ON FUNCTION courier.parse_dsn(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.parse_dsn(pg_catalog.text) IS
    'The options of a libpq connection string; secret ones belong into a user mapping.';

CREATE FUNCTION courier.remote_send(connection pg_catalog.text, command pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_send';
REVOKE ALL ON FUNCTION courier.remote_send(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_send(pg_catalog.text, pg_catalog.text) IS
    'Starts a string of statements on a dblink connection and returns at once.';

CREATE FUNCTION courier.remote_wait(
    connection pg_catalog.text,
    OUT completed pg_catalog.int4, OUT counts pg_catalog.int8[],
    OUT sqlstate pg_catalog.text, OUT message pg_catalog.text,
    OUT detail pg_catalog.text, OUT hint pg_catalog.text,
    OUT context pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_wait';
REVOKE ALL ON FUNCTION courier.remote_wait(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_wait(pg_catalog.text) IS
    'Waits for what remote_send() started: how many statements succeeded, the rows each reported, and the error of the one that did not.';

CREATE FUNCTION courier.remote_run(
    connection pg_catalog.text, command pg_catalog.text,
    OUT completed pg_catalog.int4, OUT counts pg_catalog.int8[],
    OUT sqlstate pg_catalog.text, OUT message pg_catalog.text,
    OUT detail pg_catalog.text, OUT hint pg_catalog.text,
    OUT context pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_remote_run';
REVOKE ALL ON FUNCTION courier.remote_run(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.remote_run(pg_catalog.text, pg_catalog.text) IS
    'courier.remote_send() and courier.remote_wait() in one.';
