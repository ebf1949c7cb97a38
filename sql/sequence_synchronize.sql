-- Sequences on a node: which they are, and making them exactly equal.

-- The question which sequences of a node belong to those of a subscription: the
-- sequence of the same column of the table of the same name, whatever it is
-- called; else the one of the same name. A row for each that the node has. Null
-- if the subscription has none.
create function courier.node_sequences_query(subscription_id int) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format($q$
SELECT w.relation, pg_catalog.format('%%I.%%I', n.nspname, c.relname), q.seqincrement, q.seqmin, q.seqmax,
    CASE WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'USAGE ON SCHEMA ' || pg_catalog.quote_ident(n.nspname)
         WHEN NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') OR NOT pg_catalog.has_sequence_privilege(c.oid, 'UPDATE')
         THEN pg_catalog.format('SELECT, UPDATE ON SEQUENCE %%I.%%I', n.nspname, c.relname) END,
    current_user
FROM (VALUES %s) AS w (relation, schema_name, sequence_name, table_schema, table_name, column_name)
CROSS JOIN LATERAL (
    SELECT f.oid FROM (
        SELECT d.objid AS oid, 1 AS choice
        FROM pg_catalog.pg_namespace tn
        JOIN pg_catalog.pg_class t ON t.relnamespace = tn.oid AND t.relname = w.table_name
        JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = w.column_name AND NOT a.attisdropped
        JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
            AND d.refobjsubid = a.attnum AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
        WHERE tn.nspname = w.table_schema
        UNION ALL
        SELECT s.oid, 2
        FROM pg_catalog.pg_namespace sn
        JOIN pg_catalog.pg_class s ON s.relnamespace = sn.oid AND s.relname = w.sequence_name
        WHERE sn.nspname = w.schema_name
          AND (w.column_name IS NULL OR NOT EXISTS (
              SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = s.oid
                  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')))) f
    JOIN pg_catalog.pg_class s ON s.oid = f.oid AND s.relkind = 'S'
    ORDER BY f.choice, s.relname = w.sequence_name DESC, s.oid
    LIMIT 1) m
JOIN pg_catalog.pg_class c ON c.oid = m.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid$q$,
        nullif(string_agg(format('(%s::pg_catalog.oid, %L::pg_catalog.name, %L::pg_catalog.name, %L::pg_catalog.name, '
                                 '%L::pg_catalog.name, %L::pg_catalog.name)',
                                 s.relation, s.schema_name, s.sequence_name, s.table_schema, s.table_name, s.column_name),
                          ', ' order by s.relation), ''))
    from courier.subscription_sequence s
    where s.subscription_id = node_sequences_query.subscription_id
    having count(*) > 0
$$;
revoke execute on function courier.node_sequences_query(int) from public;
comment on function courier.node_sequences_query(int) is
    'statement for a node that finds its sequences which belong to those of a subscription';

-- Directly, not through the queue: what was shipped is there already if the
-- caller has waited for it, and nobody may ship at all. That the configuration's
-- generation moves makes shippers look at the node's sequences again: they must
-- not go on believing that those are ahead.
create function courier.synchronize_sequences(subscription_name text) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
    wanted record;
    here record;
    question text;
    dblink name := courier.dblink_schema();
    connection text := 'courier_sequences_' || pg_backend_pid();
    connected boolean := false;
    number int := 0;
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    perform courier.require_administrator();
    present := courier.find_subscription(synchronize_sequences.subscription_name);
    question := courier.node_sequences_query(present.subscription_id);
    if question is null then
        return 0;
    end if;
    update courier.configuration c set generation = c.generation + 1;
    begin
        perform courier.open_connection(connection, (select n.server_name from courier.node n where n.node_name = present.node_name));
        connected := true;
        execute format('select %I.dblink_exec($1, $2)', dblink)
            using connection, 'set statement_timeout = ''30s''; set client_min_messages = warning; '
                'set search_path = pg_catalog; set default_transaction_read_only = off';
        for wanted in
            execute format($q$
                select s.*, d.*
                from courier.subscription_sequence s
                left join %I.dblink($1, $2) as d (source_oid oid, node_sequence text, increment int8,
                    lowest int8, highest int8, lacking text, role_name name) on d.source_oid = s.relation
                where s.subscription_id = $3
                order by s.schema_name, s.sequence_name$q$, dblink)
            using connection, question, present.subscription_id
        loop
            if wanted.source_oid is null and not wanted.added then
                continue;
            elsif wanted.source_oid is null then
                raise exception using
                    errcode = 'undefined_table',
                    message = format('sequence %I.%I does not exist on node "%s"',
                                     wanted.schema_name, wanted.sequence_name, present.node_name),
                    hint = 'Create it there, or take it out with SELECT courier.replication_set_remove_sequence(...).';
            elsif wanted.lacking is not null then
                raise exception using
                    errcode = 'insufficient_privilege',
                    message = format('permission denied for sequence %s on node "%s"', wanted.node_sequence, present.node_name),
                    hint = format('Run there: GRANT %s TO %I;', wanted.lacking, wanted.role_name);
            end if;
            execute format('select last_value, is_called from %s', wanted.relation::regclass) into here;
            begin
                execute format('select v from %I.dblink($1, $2) as d (v int8)', dblink)
                    using connection, format('select setval(%L::regclass, %s, %L)',
                        wanted.node_sequence, here.last_value, here.is_called);
            exception when numeric_value_out_of_range then
                raise exception using
                    errcode = 'numeric_value_out_of_range',
                    message = format('sequence %s on node "%s" cannot be set to %s',
                                     wanted.node_sequence, present.node_name, here.last_value),
                    detail = format('It goes from %s to %s.', wanted.lowest, wanted.highest),
                    hint = 'Give it the bounds and the type of the source''s with ALTER SEQUENCE.';
            end;
            insert into courier.sequence_state as t (subscription_id, relation, node_sequence, source_value, node_value)
            values (present.subscription_id, wanted.relation, wanted.node_sequence, here.last_value, here.last_value)
            on conflict on constraint sequence_state_pkey do update
            set node_sequence = excluded.node_sequence, source_value = excluded.source_value,
                node_value = excluded.node_value, updated_at = clock_timestamp();
            number := number + 1;
        end loop;
        execute format('select %I.dblink_disconnect($1)', dblink) using connection;
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        if connected then
            execute format('select %I.dblink_disconnect($1)', dblink) using connection;
        end if;
        if connected and failed_detail = '' then
            raise exception using errcode = failed_state, message = failed_message,
                hint = coalesce(nullif(failed_hint, ''), 'Run it again when that is mended; what was set on the node stays so.');
        elsif connected then
            raise exception using errcode = failed_state, message = failed_message, detail = failed_detail,
                hint = coalesce(nullif(failed_hint, ''), 'Run it again when that is mended; what was set on the node stays so.');
        end if;
        raise exception using
            errcode = failed_state,
            message = format('node "%s" cannot be reached: %s', present.node_name, failed_message),
            detail = failed_detail,
            hint = format('See SELECT * FROM courier.ping(%L).', present.node_name);
    end;
    return number;
end
$$;
comment on function courier.synchronize_sequences(text) is
    'sets the node''s sequences to exactly where those of this database are, for a switch-over; returns how many';
