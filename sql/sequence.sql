-- Sequences: those that belong to columns of replicated tables, and those that a
-- DBA has added. Shippers keep the node's ahead of what the source has used; see
-- pkg/ship/sequence.go for how, and docs/sequences.md for what follows from it.

create table courier.replication_set_sequence (
    set_name name not null,
    relation regclass not null,
    included boolean not null,
    constraint replication_set_sequence_pkey primary key (set_name, relation)
);
create index replication_set_sequence_relation_idx on courier.replication_set_sequence (relation);
comment on table courier.replication_set_sequence is
    'what was decided about sequences; without a row here, a sequence is in the set if a column that the set sends owns it';
comment on column courier.replication_set_sequence.set_name is 'the set';
comment on column courier.replication_set_sequence.relation is 'the sequence';
comment on column courier.replication_set_sequence.included is 'true: it was added; false: it was taken out, though its table is in the set';
select pg_catalog.pg_extension_config_dump('courier.replication_set_sequence', '');

create trigger bump_generation after insert or update or delete or truncate on courier.replication_set_sequence
    for each statement execute function courier.bump_generation();

create table courier.sequence_state (
    subscription_id int not null,
    relation oid not null,
    node_sequence text,
    source_value int8,
    node_value int8,
    updated_at timestamptz not null default now(),
    constraint sequence_state_pkey primary key (subscription_id, relation),
    constraint sequence_state_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
) with (fillfactor = 50);
comment on table courier.sequence_state is
    'what nodes were last told about sequences; for people: shippers go by the sequences of the node';
comment on column courier.sequence_state.subscription_id is 'the subscription';
comment on column courier.sequence_state.relation is 'OID of the sequence';
comment on column courier.sequence_state.node_sequence is 'the sequence on the node; null if it has none';
comment on column courier.sequence_state.source_value is 'last value used here when the node was told';
comment on column courier.sequence_state.node_value is 'what the node''s sequence was set to';
comment on column courier.sequence_state.updated_at is 'when this row was last written';

create function courier.read_sequences(relations pg_catalog.oid[]) returns pg_catalog.int8[]
language c volatile strict
as 'MODULE_PATHNAME', 'courier_read_sequences';
revoke all on function courier.read_sequences(pg_catalog.oid[]) from public;
comment on function courier.read_sequences(pg_catalog.oid[]) is
    'a number that changes when a sequence is created, altered or dropped, then last_value and is_called of each; nulls for what is locked exclusively';

-- Sequences that columns of the tables of a set own, if the set sends the column.
create view courier.owned_sequence as
select t.set_name,
       d.objid as relation,
       t.relation::oid as table_relation,
       a.attname as column_name
from courier.replication_set_table t
join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and d.refobjid = t.relation
    and d.refobjsubid > 0
    and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and d.deptype in ('a', 'i')
join pg_catalog.pg_sequence q on q.seqrelid = d.objid
join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where t.columns is null or a.attname = any (t.columns);
comment on view courier.owned_sequence is 'sequences that belong to columns sent by replication sets';
comment on column courier.owned_sequence.set_name is 'the set';
comment on column courier.owned_sequence.relation is 'OID of the sequence';
comment on column courier.owned_sequence.table_relation is 'OID of the table';
comment on column courier.owned_sequence.column_name is 'the column that owns it';

-- What the engine keeps ahead, one row a sequence and subscription.
create view courier.subscription_sequence as
select s.subscription_id,
       s.subscription_name,
       c.oid as relation,
       n.nspname as schema_name,
       c.relname as sequence_name,
       bool_or(g.added) as added,
       min(o.table_schema) as table_schema,
       min(o.table_name) as table_name,
       min(o.column_name) as column_name,
       min(o.table_relation::int8)::oid as table_relation
from courier.subscription s
cross join lateral (
    select q.relation::oid as relation, true as added
    from courier.replication_set_sequence q
    where q.set_name = any (s.replication_sets) and q.included
    union all
    select w.relation, false
    from courier.owned_sequence w
    where w.set_name = any (s.replication_sets)
      and not exists (select from courier.replication_set_sequence q
                      where q.set_name = w.set_name and q.relation = w.relation and not q.included)) g
join pg_catalog.pg_class c on c.oid = g.relation and c.relkind = 'S'
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
-- a sequence has at most one owner
left join (select distinct w.relation, w.table_relation, tn.nspname::text as table_schema, tc.relname::text as table_name,
                  w.column_name::text as column_name, w.set_name
           from courier.owned_sequence w
           join pg_catalog.pg_class tc on tc.oid = w.table_relation
           join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace) o
    on o.relation = g.relation and o.set_name = any (s.replication_sets)
group by s.subscription_id, s.subscription_name, c.oid, n.nspname, c.relname;
comment on view courier.subscription_sequence is 'sequences that each subscription keeps ahead on its node';
comment on column courier.subscription_sequence.subscription_id is 'the subscription';
comment on column courier.subscription_sequence.subscription_name is 'its name';
comment on column courier.subscription_sequence.relation is 'OID of the sequence';
comment on column courier.subscription_sequence.schema_name is 'schema of the sequence';
comment on column courier.subscription_sequence.sequence_name is 'name of the sequence';
comment on column courier.subscription_sequence.added is 'whether it was added by itself, so that the node must have it';
comment on column courier.subscription_sequence.table_schema is 'schema of the replicated table whose column owns it';
comment on column courier.subscription_sequence.table_name is 'that table';
comment on column courier.subscription_sequence.column_name is 'that column; on the node, the sequence of this column is meant';
comment on column courier.subscription_sequence.table_relation is 'OID of that table';

create view courier.sequence_status as
select q.subscription_name,
       pg_catalog.format('%I.%I', q.schema_name, q.sequence_name) as sequence,
       case when q.column_name is not null
            then pg_catalog.format('%I.%I.%I', q.table_schema, q.table_name, q.column_name) end as owned_by,
       t.node_sequence,
       t.source_value,
       t.node_value,
       t.updated_at
from courier.subscription_sequence q
left join courier.sequence_state t on t.subscription_id = q.subscription_id and t.relation = q.relation;
comment on view courier.sequence_status is 'sequences of each subscription, and what the node was last told';
comment on column courier.sequence_status.subscription_name is 'the subscription';
comment on column courier.sequence_status.sequence is 'the sequence';
comment on column courier.sequence_status.owned_by is 'column that it belongs to; null if it was added by itself';
comment on column courier.sequence_status.node_sequence is 'the sequence on the node; null if it has none, or has not been looked at yet';
comment on column courier.sequence_status.source_value is 'last value used here when the node was told';
comment on column courier.sequence_status.node_value is 'what the node''s sequence was set to';
comment on column courier.sequence_status.updated_at is 'when that was';
grant select on courier.sequence_status to public;

create function courier.require_sequence(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    reason text;
begin
    if relation is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'relation must not be null',
            hint = 'Name a sequence.';
    end if;
    select c.relkind, c.relpersistence, n.nspname into class
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation;
    if not found then
        raise exception using
            errcode = 'undefined_table',
            message = format('relation with OID %s does not exist', relation::oid),
            hint = 'Name a sequence, with its schema if that is not in search_path.';
    end if;
    reason := case
        when class.relkind <> 'S' then 'it is not a sequence'
        when class.relpersistence = 't' then 'it is a temporary sequence'
        when class.relpersistence = 'u' then 'it is an unlogged sequence, which a crash sets back'
        when class.nspname in ('courier', 'courier_target') then 'it belongs to pg_courier'
    end;
    if reason is not null then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s cannot be added as a sequence: %s', relation, reason),
            hint = case class.relkind when 'S' then 'Only permanent sequences can be in a replication set.'
                else 'Tables are added with SELECT courier.replication_set_add_table(...); sequences of their columns come along.' end;
    end if;
end
$$;
revoke execute on function courier.require_sequence(regclass) from public;
comment on function courier.require_sequence(regclass) is 'raises an error unless the relation is a sequence that can be replicated';

create function courier.replication_set_add_sequence(set_name text, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_sequence.set_name);
    perform courier.require_sequence(relation);
    if not exists (select from courier.replication_set_sequence q
                   where q.set_name = target_set.set_name and q.relation = replication_set_add_sequence.relation
                     and q.included) then
        insert into courier.replication_set_sequence as q (set_name, relation, included)
        values (target_set.set_name, replication_set_add_sequence.relation, true)
        on conflict on constraint replication_set_sequence_pkey do update set included = true;
    end if;
end
$$;
comment on function courier.replication_set_add_sequence(text, regclass) is
    'adds a sequence to a replication set: it is kept ahead on the nodes. Those that columns own come with their tables';

create function courier.replication_set_add_sequence(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_add_sequence($1, courier.find_sequence($2))
$$;
comment on function courier.replication_set_add_sequence(text, text) is
    'adds a sequence to a replication set: it is kept ahead on the nodes. Those that columns own come with their tables';

create function courier.replication_set_remove_sequence(set_name text, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
    owned boolean;
    present courier.replication_set_sequence;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_remove_sequence.set_name);
    owned := exists (select from courier.owned_sequence w
                     where w.set_name = target_set.set_name and w.relation = replication_set_remove_sequence.relation);
    select q.* into present from courier.replication_set_sequence q
    where q.set_name = target_set.set_name and q.relation = replication_set_remove_sequence.relation;
    if not owned and not coalesce(present.included, false) then
        raise exception using
            errcode = 'undefined_object',
            message = format('%s is not in replication set "%s"', relation, target_set.set_name),
            hint = courier.known_names('sequence in it', array(
                select q.relation::text from courier.replication_set_sequence q
                where q.set_name = target_set.set_name and q.included
                union
                select w.relation::regclass::text from courier.owned_sequence w
                where w.set_name = target_set.set_name));
    elsif owned and coalesce(present.included, true) then
        insert into courier.replication_set_sequence as q (set_name, relation, included)
        values (target_set.set_name, replication_set_remove_sequence.relation, false)
        on conflict on constraint replication_set_sequence_pkey do update set included = false;
    elsif not owned then
        delete from courier.replication_set_sequence q
        where q.set_name = target_set.set_name and q.relation = replication_set_remove_sequence.relation;
    end if;
end
$$;
comment on function courier.replication_set_remove_sequence(text, regclass) is
    'takes a sequence out of a replication set; one that came with its table stays out until it is added';

create function courier.replication_set_remove_sequence(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_remove_sequence($1, courier.find_sequence($2))
$$;
comment on function courier.replication_set_remove_sequence(text, text) is
    'takes a sequence out of a replication set; one that came with its table stays out until it is added';

-- Like find_relation(), and without SET search_path for the same reason.
create function courier.find_sequence(relation text) returns regclass
language plpgsql stable
as $$
declare
    found_relation pg_catalog.regclass := pg_catalog.to_regclass(relation);
begin
    if found_relation is null and relation is not null then
        raise exception using
            errcode = 'undefined_table',
            message = pg_catalog.format('sequence "%s" does not exist', relation),
            hint = 'Name its schema if that is not in search_path; upper case and special characters need double quotes.';
    end if;
    return found_relation;
end
$$;
comment on function courier.find_sequence(text) is 'the sequence of that name by the caller''s search_path, or an error with a hint';

-- What was decided about a table's sequences goes with the table, and all of it
-- with the set.
create function courier.forget_sequences() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_table_name = 'replication_set' then
        delete from courier.replication_set_sequence q where q.set_name = old.set_name;
        return null;
    end if;
    delete from courier.replication_set_sequence q
    using pg_depend d
    where q.set_name = old.set_name and not q.included
      and d.classid = 'pg_class'::regclass and d.objid = q.relation and d.deptype in ('a', 'i')
      and d.refclassid = 'pg_class'::regclass and d.refobjid = old.relation;
    return null;
end
$$;
revoke execute on function courier.forget_sequences() from public;
comment on function courier.forget_sequences() is 'delete trigger: a table or set that goes takes along what was decided about its sequences';

create trigger forget_sequences after delete on courier.replication_set
    for each row execute function courier.forget_sequences();
create trigger forget_sequences after delete on courier.replication_set_table
    for each row execute function courier.forget_sequences();

-- Like forget_dropped_tables().
create function courier.forget_dropped_sequences() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from pg_event_trigger_dropped_objects() d
        join courier.replication_set_sequence q on q.relation = d.objid
        where d.classid = 'pg_class'::regclass and d.objsubid = 0) then
        delete from courier.replication_set_sequence q
        using pg_event_trigger_dropped_objects() d
        where d.classid = 'pg_class'::regclass and d.objsubid = 0 and q.relation = d.objid;
    end if;
end
$$;
revoke execute on function courier.forget_dropped_sequences() from public;
comment on function courier.forget_dropped_sequences() is 'event trigger: takes dropped sequences out of replication sets';

create event trigger pg_courier_forget_dropped_sequences on sql_drop
    execute function courier.forget_dropped_sequences();
comment on event trigger pg_courier_forget_dropped_sequences is 'takes dropped sequences out of replication sets';

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
