-- Transport of existing rows: read from a table and sent over a link, in one.

CREATE FUNCTION courier.copy_send(
    connection pg_catalog.text, query pg_catalog.text, first pg_catalog.tid, behind pg_catalog.tid,
    head pg_catalog.text, joints pg_catalog.text[], most pg_catalog.int4, largest pg_catalog.int4,
    silence pg_catalog.int4,
    OUT rows pg_catalog.int8, OUT bytes pg_catalog.int8, OUT next pg_catalog.tid, OUT sizes pg_catalog.int8[])
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_copy_send';
REVOKE ALL ON FUNCTION courier.copy_send(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.text, pg_catalog.text[], pg_catalog.int4, pg_catalog.int4, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.copy_send(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.text, pg_catalog.text[], pg_catalog.int4, pg_catalog.int4, pg_catalog.int4) IS
    'Runs a query that gives ctid and columns for the places $1 to $2, writes its rows as array literals between head and joints, and sends that like remote_send(), unless there is no row. Ends at about "most" bytes: next is where to go on, null at the end. A row larger than "largest" is not sent; if it is the first, sizes has those of its values.';

CREATE FUNCTION courier.copy_read(
    connection pg_catalog.text, query pg_catalog.text, first pg_catalog.tid, behind pg_catalog.tid,
    head pg_catalog.text, joints pg_catalog.text[], most pg_catalog.int4, largest pg_catalog.int4,
    OUT rows pg_catalog.int8, OUT bytes pg_catalog.int8, OUT next pg_catalog.tid, OUT sizes pg_catalog.int8[])
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_copy_read';
REVOKE ALL ON FUNCTION courier.copy_read(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.text, pg_catalog.text[], pg_catalog.int4, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.copy_read(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.text, pg_catalog.text[], pg_catalog.int4, pg_catalog.int4) IS
    'As copy_send(), but keeps the statement with the link, as remote_keep() does: it is made while the node works on another.';

CREATE FUNCTION courier.copy_value_send(
    connection pg_catalog.text, query pg_catalog.text, place pg_catalog.tid, number pg_catalog.int4,
    "offset" pg_catalog.int8, most pg_catalog.int4, head pg_catalog.text, tail pg_catalog.text,
    silence pg_catalog.int4,
    OUT next pg_catalog.int8, OUT "binary" pg_catalog.bool)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_copy_value_send';
REVOKE ALL ON FUNCTION courier.copy_value_send(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.int4, pg_catalog.int8, pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.copy_value_send(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.int4, pg_catalog.int8, pg_catalog.int4, pg_catalog.text, pg_catalog.text, pg_catalog.int4) IS
    'Sends a slice of one value of the row at a place, as a literal between head and tail: next is where the next slice begins, null behind the last; binary says that it is a bytea''s.';

-- Streams: connections beside dblink's, for COPY, which dblink cannot do.

CREATE FUNCTION courier.stream_open(stream pg_catalog.text, server pg_catalog.text, timeout pg_catalog.int4)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_open';
REVOKE ALL ON FUNCTION courier.stream_open(pg_catalog.text, pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_open(pg_catalog.text, pg_catalog.text, pg_catalog.int4) IS
    'Opens a stream to a foreign server within so many milliseconds, with what dblink would use, in place of one of that name.';

CREATE FUNCTION courier.stream_close(stream pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_close';
REVOKE ALL ON FUNCTION courier.stream_close(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_close(pg_catalog.text) IS
    'Closes a stream if it is open.';

CREATE FUNCTION courier.stream_send(stream pg_catalog.text, command pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_send';
REVOKE ALL ON FUNCTION courier.stream_send(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_send(pg_catalog.text, pg_catalog.text) IS
    'Sends statements over a stream, of which the last may begin a COPY FROM STDIN; stream_take() tells what came of them.';

CREATE FUNCTION courier.stream_copy(
    stream pg_catalog.text, query pg_catalog.text, first pg_catalog.tid, behind pg_catalog.tid,
    most pg_catalog.int4, largest pg_catalog.int4,
    OUT rows pg_catalog.int8, OUT bytes pg_catalog.int8, OUT next pg_catalog.tid, OUT large pg_catalog.bool)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_copy';
REVOKE ALL ON FUNCTION courier.stream_copy(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.int4, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_copy(pg_catalog.text, pg_catalog.text, pg_catalog.tid, pg_catalog.tid, pg_catalog.int4, pg_catalog.int4) IS
    'Runs a query that gives ctid and columns for the places $1 to $2, and puts its rows into the COPY that a stream is in. Ends at about "most" bytes, or at a row that is larger than "largest": large says so, and next is where to go on, null at the end. Does not wait for the node.';

CREATE FUNCTION courier.stream_flush(
    stream pg_catalog.text, timeout pg_catalog.int4,
    OUT ready pg_catalog.bool, OUT silent pg_catalog.int4, OUT unacknowledged pg_catalog.int4)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_flush';
REVOKE ALL ON FUNCTION courier.stream_flush(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_flush(pg_catalog.text, pg_catalog.int4) IS
    'Waits so many milliseconds at most until all that was put into a stream has been sent; else says for how many no byte has moved, and how many bytes the other side has not taken.';

CREATE FUNCTION courier.stream_end(stream pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_end';
REVOKE ALL ON FUNCTION courier.stream_end(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_end(pg_catalog.text) IS
    'Ends the COPY that a stream is in; stream_take() tells what came of it.';

CREATE FUNCTION courier.stream_take(
    stream pg_catalog.text, timeout pg_catalog.int4,
    OUT ready pg_catalog.bool, OUT silent pg_catalog.int4, OUT unacknowledged pg_catalog.int4,
    OUT rows pg_catalog.int8, OUT value pg_catalog.text, OUT sqlstate pg_catalog.text, OUT message pg_catalog.text,
    OUT detail pg_catalog.text, OUT hint pg_catalog.text)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_stream_take';
REVOKE ALL ON FUNCTION courier.stream_take(pg_catalog.text, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.stream_take(pg_catalog.text, pg_catalog.int4) IS
    'As stream_flush(), and waits for what comes of it: how many rows the last statement touched, the value it gave, or the first error. Ready, too, when a COPY FROM STDIN has begun.';
