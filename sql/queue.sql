-- The queue: append-only segments of captured changes, and how to read them.
--
-- A transaction writes its chunks at its end into the current segment, all
-- with the same k (the WAL insert position then).  Readers scan all segments.
-- A position is a snapshot; the interval (p, s] is every row that s sees and
-- p did not, found by xid: k order is dependency order, not commit order, so
-- "k greater than the last" would lose a transaction that took its k early
-- and committed late.

CREATE TABLE courier.queue_0 (
    k       pg_catalog.pg_lsn NOT NULL,
    xid     pg_catalog.xid8 NOT NULL,
    seq     pg_catalog.int4 NOT NULL,
    origin  pg_catalog.int4 NOT NULL,
    clock   pg_catalog.int8 NOT NULL,
    changes pg_catalog.int4 NOT NULL,
    data    pg_catalog.bytea NOT NULL
) WITH (autovacuum_enabled = off, toast_tuple_target = 8160);
ALTER TABLE courier.queue_0 ALTER COLUMN data SET STORAGE MAIN;
CREATE TABLE courier.queue_1 (LIKE courier.queue_0 INCLUDING STORAGE)
    WITH (autovacuum_enabled = off, toast_tuple_target = 8160);
CREATE TABLE courier.queue_2 (LIKE courier.queue_0 INCLUDING STORAGE)
    WITH (autovacuum_enabled = off, toast_tuple_target = 8160);

CREATE INDEX queue_0_k_idx ON courier.queue_0 (k, xid, seq);
CREATE INDEX queue_1_k_idx ON courier.queue_1 (k, xid, seq);
CREATE INDEX queue_2_k_idx ON courier.queue_2 (k, xid, seq);
CREATE INDEX queue_0_xid_idx ON courier.queue_0 (xid, k);
CREATE INDEX queue_1_xid_idx ON courier.queue_1 (xid, k);
CREATE INDEX queue_2_xid_idx ON courier.queue_2 (xid, k);

DO $$
DECLARE
    segment pg_catalog.text;
BEGIN
    FOREACH segment IN ARRAY ARRAY['queue_0', 'queue_1', 'queue_2'] LOOP
        EXECUTE pg_catalog.format('COMMENT ON TABLE courier.%I IS %L', segment,
            'A segment of the queue of captured changes; append-only.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.k IS %L', segment,
            'WAL insert position when the transaction was about to commit; orders transactions by dependency.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.xid IS %L', segment,
            'Top-level transaction id.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.seq IS %L', segment,
            'Number of the chunk within its transaction, from 0.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.origin IS %L', segment,
            'Replication origin of the session that made the changes, 0 for local ones.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.clock IS %L', segment,
            'Hybrid logical clock: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.changes IS %L', segment,
            'Changes that begin in this chunk.');
        EXECUTE pg_catalog.format('COMMENT ON COLUMN courier.%I.data IS %L', segment,
            'Frames: a length (int4) and a message of pgoutput''s protocol version 1.');
    END LOOP;
END
$$;

CREATE FUNCTION courier.position()
RETURNS pg_catalog.pg_snapshot
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The caller's own transaction is not in its snapshot's list, but what it
    -- captures will be queued when it commits: it counts as in progress.
    own xid8 := pg_current_xact_id_if_assigned();
    s pg_snapshot := pg_current_snapshot();
    in_progress text;
BEGIN
    IF own IS NULL OR own >= pg_snapshot_xmax(s) THEN
        RETURN s;
    END IF;
    SELECT string_agg(x::text, ',' ORDER BY x) INTO in_progress
    FROM (SELECT x FROM pg_snapshot_xip(s) AS x UNION SELECT own) AS listed;
    RETURN format('%s:%s:%s', least(own, pg_snapshot_xmin(s)),
                  pg_snapshot_xmax(s), in_progress)::pg_snapshot;
END
$$;
COMMENT ON FUNCTION courier.position() IS
    'The current snapshot, with the caller''s own transaction in progress: everything it sees was committed before the call.';

CREATE FUNCTION courier.flush_wal(OUT timeline pg_catalog.int4, OUT flushed pg_catalog.pg_lsn)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_flush_wal';
REVOKE ALL ON FUNCTION courier.flush_wal() FROM PUBLIC;
COMMENT ON FUNCTION courier.flush_wal() IS
    'Brings all WAL written so far to disk, and says up to where it is.';

CREATE FUNCTION courier.has_passed(timeline pg_catalog.int4, location pg_catalog.pg_lsn)
RETURNS pg_catalog.bool
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_has_passed';
REVOKE ALL ON FUNCTION courier.has_passed(pg_catalog.int4, pg_catalog.pg_lsn) FROM PUBLIC;
COMMENT ON FUNCTION courier.has_passed(pg_catalog.int4, pg_catalog.pg_lsn) IS
    'Whether this server, or the one it was promoted or restored from, has written its WAL up to there in what is its past.';

CREATE FUNCTION courier.look(
    p pg_catalog.pg_snapshot, s pg_catalog.pg_snapshot,
    OUT first_k pg_catalog.pg_lsn, OUT last_xid pg_catalog.xid8)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_look';
REVOKE ALL ON FUNCTION courier.look(pg_catalog.pg_snapshot, pg_catalog.pg_snapshot) FROM PUBLIC;
COMMENT ON FUNCTION courier.look(pg_catalog.pg_snapshot, pg_catalog.pg_snapshot) IS
    'The lowest k, or one below it, and the highest xid of the interval (p, s], NULL if it is empty. The commits it finds are on disk.';

CREATE FUNCTION courier.read_queue(
    start pg_catalog.pg_snapshot, "end" pg_catalog.pg_snapshot,
    k pg_catalog.pg_lsn, xid pg_catalog.xid8, seq pg_catalog.int4,
    chunks pg_catalog.int4, bytes pg_catalog.int4)
RETURNS pg_catalog.bytea
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_read_queue';
REVOKE ALL ON FUNCTION courier.read_queue(pg_catalog.pg_snapshot, pg_catalog.pg_snapshot,
    pg_catalog.pg_lsn, pg_catalog.xid8, pg_catalog.int4, pg_catalog.int4, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.read_queue(pg_catalog.pg_snapshot, pg_catalog.pg_snapshot,
    pg_catalog.pg_lsn, pg_catalog.xid8, pg_catalog.int4, pg_catalog.int4, pg_catalog.int4) IS
    'Chunks of the interval (start, end] behind (k, xid, seq), in order, packed into one string that also says whether any follow. Their commits are on disk.';

CREATE FUNCTION courier.next_page(
    start pg_catalog.pg_snapshot, chunks pg_catalog.int4, bytes pg_catalog.int4,
    known_generation pg_catalog.int8, timeout pg_catalog.int4,
    OUT now pg_catalog.pg_snapshot, OUT generation pg_catalog.int8,
    OUT last_xid pg_catalog.xid8, OUT page pg_catalog.bytea, OUT took pg_catalog.int8)
RETURNS pg_catalog.record
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_next_page';
REVOKE ALL ON FUNCTION courier.next_page(pg_catalog.pg_snapshot, pg_catalog.int4, pg_catalog.int4,
    pg_catalog.int8, pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION courier.next_page(pg_catalog.pg_snapshot, pg_catalog.int4, pg_catalog.int4,
    pg_catalog.int8, pg_catalog.int4) IS
    'The present position, the generation of the configuration, the highest xid of the interval from start to the position, and the interval''s first chunks, as of courier.read_queue(); NULL if it is empty. Reading took so many microseconds. Waits for up to so many milliseconds while it is empty and the configuration is of the known generation.';
