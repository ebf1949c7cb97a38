-- What pg_courier keeps on a target. Sent as one string, so one transaction.
SELECT pg_catalog.pg_advisory_xact_lock(7236837, 1);

CREATE SCHEMA IF NOT EXISTS courier_target;
COMMENT ON SCHEMA courier_target IS 'How far this database is with what pg_courier ships into it.';

CREATE TABLE IF NOT EXISTS courier_target.progress (
    subscription  pg_catalog.uuid NOT NULL,
    source_node   pg_catalog.text NOT NULL,
    source_system pg_catalog.text NOT NULL,
    position      pg_catalog.text NOT NULL,
    source_timeline pg_catalog.int4 NOT NULL,
    source_flushed  pg_catalog.pg_lsn NOT NULL,
    updated_at    pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT progress_pkey PRIMARY KEY (subscription)
) WITH (fillfactor = 20);
COMMENT ON TABLE courier_target.progress IS 'Position of each subscription; moves in the transaction that applies a batch.';
COMMENT ON COLUMN courier_target.progress.subscription IS 'courier.subscription.progress_key of the source.';
COMMENT ON COLUMN courier_target.progress.source_node IS 'Name of the source as a node.';
COMMENT ON COLUMN courier_target.progress.source_system IS 'System identifier and database of the source; positions mean nothing elsewhere.';
COMMENT ON COLUMN courier_target.progress.position IS 'Snapshot of the source up to which all is applied, or P|S|K|XID within (P, S].';
COMMENT ON COLUMN courier_target.progress.source_timeline IS 'Timeline of the source when it was there.';
COMMENT ON COLUMN courier_target.progress.source_flushed IS 'Up to where the source''s WAL was on disk then; a source whose past does not have that has lost what is applied here.';
COMMENT ON COLUMN courier_target.progress.updated_at IS 'When the last batch was applied.';

CREATE TABLE IF NOT EXISTS courier_target.copied (
    subscription pg_catalog.uuid NOT NULL,
    relation     pg_catalog.oid NOT NULL,
    added        pg_catalog.text NOT NULL,
    copied_at    pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT copied_pkey PRIMARY KEY (subscription, relation)
);
COMMENT ON TABLE courier_target.copied IS 'Tables whose existing rows have been copied.';
COMMENT ON COLUMN courier_target.copied.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.copied.relation IS 'OID of the table on the source.';
COMMENT ON COLUMN courier_target.copied.added IS 'Position at which the source had it added to a replication set.';
COMMENT ON COLUMN courier_target.copied.copied_at IS 'When its rows had arrived.';

CREATE TABLE IF NOT EXISTS courier_target.copying (
    subscription pg_catalog.uuid NOT NULL,
    relation     pg_catalog.oid NOT NULL,
    added        pg_catalog.text NOT NULL,
    began_at     pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT copying_pkey PRIMARY KEY (subscription, relation)
);
COMMENT ON TABLE courier_target.copying IS 'Tables of which a part of the existing rows has been copied.';
COMMENT ON COLUMN courier_target.copying.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.copying.relation IS 'OID of the table on the source.';
COMMENT ON COLUMN courier_target.copying.added IS 'Which copy it is, as in copied.';
COMMENT ON COLUMN courier_target.copying.began_at IS 'When its copy began.';

CREATE TABLE IF NOT EXISTS courier_target.copied_chunk (
    subscription pg_catalog.uuid NOT NULL,
    relation     pg_catalog.oid NOT NULL,
    leaf         pg_catalog.oid NOT NULL,
    filenode     pg_catalog.oid NOT NULL,
    from_block   pg_catalog.int8 NOT NULL,
    to_block     pg_catalog.int8 NOT NULL,
    rows         pg_catalog.int8 NOT NULL,
    bytes        pg_catalog.int8 NOT NULL,
    copied_at    pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT copied_chunk_pkey PRIMARY KEY (subscription, relation, leaf, from_block)
);
COMMENT ON TABLE courier_target.copied_chunk IS 'Ranges of pages of the source whose rows have arrived, each noted by the transaction that wrote them.';
COMMENT ON COLUMN courier_target.copied_chunk.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.copied_chunk.relation IS 'OID of the table on the source.';
COMMENT ON COLUMN courier_target.copied_chunk.leaf IS 'OID of the table that has the pages: the same, or a partition of it.';
COMMENT ON COLUMN courier_target.copied_chunk.filenode IS 'File of the pages; with another one they hold other rows.';
COMMENT ON COLUMN courier_target.copied_chunk.from_block IS 'First page.';
COMMENT ON COLUMN courier_target.copied_chunk.to_block IS 'The page behind the last.';
COMMENT ON COLUMN courier_target.copied_chunk.rows IS 'How many rows were read there.';
COMMENT ON COLUMN courier_target.copied_chunk.bytes IS 'How large the pages are, values out of line included.';
COMMENT ON COLUMN courier_target.copied_chunk.copied_at IS 'When they had arrived.';

CREATE TABLE IF NOT EXISTS courier_target.missed_row (
    subscription pg_catalog.uuid NOT NULL,
    relation     pg_catalog.oid NOT NULL,
    key          pg_catalog.text[] NOT NULL
);
COMMENT ON TABLE courier_target.missed_row IS 'Rows that were changed while their table was being copied, by changes that do not hold all of the row: to be copied once more.';
COMMENT ON COLUMN courier_target.missed_row.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.missed_row.relation IS 'OID of the table on the source.';
COMMENT ON COLUMN courier_target.missed_row.key IS 'Key of the row: the values, then the names of the columns.';

CREATE TABLE IF NOT EXISTS courier_target.dropped_index (
    subscription pg_catalog.uuid NOT NULL,
    relation     pg_catalog.oid NOT NULL,
    name         pg_catalog.text NOT NULL,
    definition   pg_catalog.text NOT NULL
);
COMMENT ON TABLE courier_target.dropped_index IS 'Indexes that were dropped for a copy, and are made again at its end.';
COMMENT ON COLUMN courier_target.dropped_index.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.dropped_index.relation IS 'OID of the table on the source.';
COMMENT ON COLUMN courier_target.dropped_index.name IS 'The index, quoted, with its schema.';
COMMENT ON COLUMN courier_target.dropped_index.definition IS 'Statements that make it, with its tablespace, comment and statistics targets.';

CREATE TABLE IF NOT EXISTS courier_target.piece (
    subscription pg_catalog.uuid NOT NULL,
    link         pg_catalog.int4 NOT NULL,
    number       pg_catalog.int4 NOT NULL,
    place        pg_catalog.int8 NOT NULL,
    text         pg_catalog.text,
    bytes        pg_catalog.bytea
);
ALTER TABLE courier_target.piece ALTER text SET STORAGE EXTERNAL, ALTER bytes SET STORAGE EXTERNAL;
COMMENT ON TABLE courier_target.piece IS 'Slices of large values, until the transaction that sends them puts them together.';
COMMENT ON COLUMN courier_target.piece.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.piece.link IS 'Number of the connection.';
COMMENT ON COLUMN courier_target.piece.number IS 'Number of the column.';
COMMENT ON COLUMN courier_target.piece.place IS 'Where the slice begins in the value.';
COMMENT ON COLUMN courier_target.piece.text IS 'The slice, of any type but bytea.';
COMMENT ON COLUMN courier_target.piece.bytes IS 'The slice, of a bytea.';

CREATE TABLE IF NOT EXISTS courier_target.event (
    event_id     pg_catalog.int8 GENERATED ALWAYS AS IDENTITY,
    subscription pg_catalog.uuid NOT NULL,
    channel      pg_catalog.text NOT NULL,
    payload      pg_catalog.text NOT NULL,
    received_at  pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT event_pkey PRIMARY KEY (event_id)
);
COMMENT ON TABLE courier_target.event IS 'Events of courier.enqueue(), in the order of their commits among the rows of the source.';
COMMENT ON COLUMN courier_target.event.event_id IS 'Grows with the order of arrival.';
COMMENT ON COLUMN courier_target.event.subscription IS 'The subscription that brought it, as in progress.';
COMMENT ON COLUMN courier_target.event.channel IS 'First argument of enqueue().';
COMMENT ON COLUMN courier_target.event.payload IS 'Second argument of enqueue().';
COMMENT ON COLUMN courier_target.event.received_at IS 'When it was applied here.';

CREATE TABLE IF NOT EXISTS courier_target.letter (
    subscription pg_catalog.uuid NOT NULL,
    k            pg_catalog.pg_lsn NOT NULL,
    xid          pg_catalog.xid8 NOT NULL,
    passed_at    pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    applied      pg_catalog.int8,
    left_out     pg_catalog.int8,
    applied_at   pg_catalog.timestamptz,
    discarded    pg_catalog.bool NOT NULL DEFAULT false,
    CONSTRAINT letter_pkey PRIMARY KEY (subscription, k, xid)
);
COMMENT ON TABLE courier_target.letter IS 'Transactions that were passed without being applied: the source has them as dead letters.';
COMMENT ON COLUMN courier_target.letter.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.letter.k IS 'Place of the transaction in the order of shipping.';
COMMENT ON COLUMN courier_target.letter.xid IS 'The transaction, of the source.';
COMMENT ON COLUMN courier_target.letter.passed_at IS 'When it was passed.';
COMMENT ON COLUMN courier_target.letter.applied IS 'Its changes applied by a retry; null until there was one.';
COMMENT ON COLUMN courier_target.letter.left_out IS 'Its changes that the retry left out.';
COMMENT ON COLUMN courier_target.letter.applied_at IS 'When that was.';
COMMENT ON COLUMN courier_target.letter.discarded IS 'Whether the source has given it up; one that is neither applied nor discarded the source must have.';

CREATE TABLE IF NOT EXISTS courier_target.overtaken (
    subscription pg_catalog.uuid NOT NULL,
    k            pg_catalog.pg_lsn NOT NULL,
    xid          pg_catalog.xid8 NOT NULL,
    key_id       pg_catalog.uuid NOT NULL,
    by_k         pg_catalog.pg_lsn NOT NULL,
    by_xid       pg_catalog.xid8 NOT NULL,
    CONSTRAINT overtaken_pkey PRIMARY KEY (subscription, k, xid, key_id)
);
COMMENT ON TABLE courier_target.overtaken IS 'Rows of dead letters that later transactions have changed.';
COMMENT ON COLUMN courier_target.overtaken.subscription IS 'The subscription, as in progress.';
COMMENT ON COLUMN courier_target.overtaken.k IS 'Place of the dead letter''s transaction.';
COMMENT ON COLUMN courier_target.overtaken.xid IS 'The dead letter''s transaction.';
COMMENT ON COLUMN courier_target.overtaken.key_id IS 'The row, as in courier.dead_letter_key of the source.';
COMMENT ON COLUMN courier_target.overtaken.by_k IS 'Place of the transaction that changed it.';
COMMENT ON COLUMN courier_target.overtaken.by_xid IS 'The transaction that changed it first.';

CREATE OR REPLACE FUNCTION courier_target.advance(
    subscription pg_catalog.uuid, old_position pg_catalog.text,
    new_position pg_catalog.text, durable pg_catalog.bool,
    source_timeline pg_catalog.int4 DEFAULT NULL, source_flushed pg_catalog.pg_lsn DEFAULT NULL)
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
BEGIN
    UPDATE courier_target.progress AS p
    SET position = new_position, updated_at = clock_timestamp(),
        source_timeline = coalesce(advance.source_timeline, p.source_timeline),
        source_flushed = coalesce(advance.source_flushed, p.source_flushed)
    WHERE p.subscription = advance.subscription AND p.position = old_position;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the subscription is not at the position this batch starts from'
            USING ERRCODE = 'PC001',
                  HINT = 'Another shipper has applied the batch, or the target was restored; shipping goes on from the position found here.';
    END IF;
    IF durable THEN
        -- to the end of the transaction, this function has no such setting of its own
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$courier$;
COMMENT ON FUNCTION courier_target.advance(pg_catalog.uuid, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.int4, pg_catalog.pg_lsn) IS
    'Moves a subscription from one position to another; an error if it is not at the first.';

CREATE OR REPLACE FUNCTION courier_target.hold_position(
    subscription pg_catalog.uuid, "position" pg_catalog.text)
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
BEGIN
    PERFORM FROM courier_target.progress AS p
    WHERE p.subscription = hold_position.subscription AND p.position = hold_position."position"
    FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the subscription is not at the position these rows are of'
            USING ERRCODE = 'PC001',
                  HINT = 'Another shipper has gone on, or the target was restored; copying goes on from what is found here.';
    END IF;
END
$courier$;
COMMENT ON FUNCTION courier_target.hold_position(pg_catalog.uuid, pg_catalog.text) IS
    'Keeps a subscription at its position until the end of the transaction; an error if it is at another.';

CREATE OR REPLACE FUNCTION courier_target.check_types(
    relation pg_catalog.regclass, columns pg_catalog.text[], types pg_catalog.text[])
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
DECLARE
    altered text;
BEGIN
    SELECT string_agg(c.name, ', ') INTO altered
    FROM unnest(columns, types) AS c (name, type)
        LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attname = (parse_ident(c.name))[1] AND a.attnum > 0
    WHERE format_type(a.atttypid, -1) IS DISTINCT FROM c.type;
    IF altered IS NOT NULL THEN
        RAISE EXCEPTION 'table % has other types by now: %', relation, altered
            USING ERRCODE = 'invalid_binary_representation',
                  HINT = 'Its columns were altered while rows were copied; they are copied as text.';
    END IF;
END
$courier$;
COMMENT ON FUNCTION courier_target.check_types(pg_catalog.regclass, pg_catalog.text[], pg_catalog.text[]) IS
    'Makes sure that columns, quoted, have the types that rows were written for in binary; an error if one has another.';

CREATE OR REPLACE FUNCTION courier_target.check_deferred(relations pg_catalog.regclass[])
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
DECLARE
    names text;
BEGIN
    SELECT string_agg(DISTINCT format('%I.%I', n.nspname, c.conname), ', ') INTO names
    FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
    WHERE c.condeferrable AND (c.conrelid = ANY (relations) OR c.confrelid = ANY (relations))
        AND has_schema_privilege(n.oid, 'USAGE');
    IF names IS NOT NULL THEN
        EXECUTE 'SET CONSTRAINTS ' || names || ' IMMEDIATE';
        EXECUTE 'SET CONSTRAINTS ' || names || ' DEFERRED';
    END IF;
END
$courier$;
COMMENT ON FUNCTION courier_target.check_deferred(pg_catalog.regclass[]) IS
    'Checks what constraints of these tables have put off until the commit, so that they can be truncated.';

CREATE OR REPLACE FUNCTION courier_target.truncate_with(
    command pg_catalog.text, options pg_catalog.text, uncopied pg_catalog.text[], keep_rows pg_catalog.bool[])
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
DECLARE
    relation record;
    filled bool;
BEGIN
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relkind = 'p' AS partitioned, u.keep_rows
        FROM unnest(uncopied, truncate_with.keep_rows) AS u (name, keep_rows) JOIN pg_class c ON c.oid = to_regclass(u.name)
        WHERE c.relkind IN ('r', 'p')
    LOOP
        filled := false;
        IF relation.keep_rows THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', relation.name) INTO filled;
        END IF;
        IF NOT filled THEN
            command := command || CASE WHEN relation.partitioned THEN ', ' ELSE ', ONLY ' END || relation.name;
        END IF;
    END LOOP;
    EXECUTE command || options;
END
$courier$;
COMMENT ON FUNCTION courier_target.truncate_with(pg_catalog.text, pg_catalog.text, pg_catalog.text[], pg_catalog.bool[]) IS
    'Truncates tables, with those that wait for their copy, unless these keep rows that they have.';

CREATE OR REPLACE FUNCTION courier_target.drop_indexes(
    subscription pg_catalog.uuid, relation pg_catalog.oid, target pg_catalog.regclass)
RETURNS pg_catalog.int8 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
DECLARE
    present record;
    dropped int8 := 0;
BEGIN
    -- What is unique stays: it keeps wrong rows out.
    FOR present IN
        SELECT x.name,
               format('SET LOCAL default_tablespace = %L; ', coalesce(s.spcname, ''))
               || pg_get_indexdef(i.indexrelid)
               || coalesce(format('; COMMENT ON INDEX %s IS %L', x.name, obj_description(i.indexrelid, 'pg_class')), '')
               || CASE WHEN i.indisclustered THEN format('; ALTER TABLE %s CLUSTER ON %I', target, c.relname) ELSE '' END
               || coalesce((SELECT string_agg(format('; ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', x.name, a.attnum, a.attstattarget), '')
                            FROM pg_attribute AS a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0), '') AS definition
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid AND c.relkind = 'i' AND NOT c.relispartition
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        CROSS JOIN format('%I.%I', n.nspname, c.relname) AS x (name)
        LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace
        WHERE i.indrelid = target AND NOT i.indisunique AND NOT i.indisexclusion AND NOT i.indisreplident AND i.indisvalid
          AND (s.oid IS NULL OR has_tablespace_privilege(s.oid, 'CREATE'))
    LOOP
        INSERT INTO courier_target.dropped_index (subscription, relation, name, definition)
        VALUES (drop_indexes.subscription, drop_indexes.relation, present.name, present.definition);
        EXECUTE 'DROP INDEX ' || present.name;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$courier$;
COMMENT ON FUNCTION courier_target.drop_indexes(pg_catalog.uuid, pg_catalog.oid, pg_catalog.regclass) IS
    'Drops those indexes of a table that are not unique, and notes them.';

CREATE OR REPLACE FUNCTION courier_target.rebuild_indexes(
    subscription pg_catalog.uuid, relation pg_catalog.oid)
RETURNS pg_catalog.int8 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_tablespace = '' -- what a definition sets ends with the function
AS $courier$
DECLARE
    noted record;
    built int8 := 0;
BEGIN
    FOR noted IN
        DELETE FROM courier_target.dropped_index AS d
        WHERE d.subscription = rebuild_indexes.subscription AND d.relation = rebuild_indexes.relation
        RETURNING d.name, d.definition
    LOOP
        -- not if the table is gone, or somebody has made it meanwhile
        BEGIN
            EXECUTE noted.definition;
            built := built + 1;
        EXCEPTION WHEN duplicate_table OR undefined_table THEN
            NULL;
        END;
    END LOOP;
    RETURN built;
END
$courier$;
COMMENT ON FUNCTION courier_target.rebuild_indexes(pg_catalog.uuid, pg_catalog.oid) IS
    'Makes the indexes again that drop_indexes() has dropped.';

CREATE OR REPLACE FUNCTION courier_target.retry(
    subscription pg_catalog.uuid, k pg_catalog.pg_lsn, xid pg_catalog.xid8,
    applied pg_catalog.int8, left_out pg_catalog.int8)
RETURNS pg_catalog.void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
BEGIN
    INSERT INTO courier_target.letter AS l (subscription, k, xid, applied, left_out, applied_at)
    VALUES (retry.subscription, retry.k, retry.xid, retry.applied, retry.left_out, clock_timestamp())
    ON CONFLICT ON CONSTRAINT letter_pkey DO UPDATE
    SET applied = excluded.applied, left_out = excluded.left_out, applied_at = excluded.applied_at
    WHERE l.applied IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the dead letter has been applied before'
            USING ERRCODE = 'PC001';
    END IF;
END
$courier$;
COMMENT ON FUNCTION courier_target.retry(pg_catalog.uuid, pg_catalog.pg_lsn, pg_catalog.xid8, pg_catalog.int8, pg_catalog.int8) IS
    'Notes that a dead letter is applied by this transaction; an error if it was before.';

CREATE OR REPLACE FUNCTION courier_target.compact(most pg_catalog.int8)
RETURNS pg_catalog.int8 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '50ms'
AS $courier$
DECLARE
    live courier_target.progress[];
BEGIN
    -- A dump that has its snapshot, but no lock yet, would find the table empty.
    IF pg_relation_size('courier_target.progress') > most
       AND NOT EXISTS (SELECT FROM pg_stat_activity AS a
                       WHERE a.datname = current_database() AND a.application_name = 'pg_dump') THEN
        LOCK TABLE courier_target.progress IN ACCESS EXCLUSIVE MODE;
        live := ARRAY(SELECT p FROM courier_target.progress AS p);
        TRUNCATE TABLE courier_target.progress;
        INSERT INTO courier_target.progress SELECT p.* FROM unnest(live) AS p;
    END IF;
    RETURN pg_relation_size('courier_target.progress');
EXCEPTION
    WHEN lock_not_available OR insufficient_privilege THEN
        RETURN pg_relation_size('courier_target.progress');
END
$courier$;
COMMENT ON FUNCTION courier_target.compact(pg_catalog.int8) IS
    'Writes progress anew if it is larger than so many bytes, which frees dead rows whatever snapshots there are; returns its size.';

CREATE OR REPLACE FUNCTION courier_target.check_updated(
    updated pg_catalog.int8, expected pg_catalog.int8, relation pg_catalog.text)
RETURNS pg_catalog.int8 LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $courier$
BEGIN
    IF updated <> expected THEN
        RAISE EXCEPTION '% of % rows to update are missing in table %', expected - updated, expected, relation
            USING ERRCODE = 'PC002';
    END IF;
    RETURN updated;
END
$courier$;
COMMENT ON FUNCTION courier_target.check_updated(pg_catalog.int8, pg_catalog.int8, pg_catalog.text) IS
    'Raises an error if a statement did not find all its rows.'
