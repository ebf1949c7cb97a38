-- Replication sets: which tables, which columns, which operations.

create function courier.find_replication_set(set_name text) returns courier.replication_set
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.replication_set;
    wanted name := courier.require_name('replication set', find_replication_set.set_name);
begin
    select s.* into present from courier.replication_set s where s.set_name = wanted;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('replication set "%s" does not exist', wanted),
            hint = courier.known_names('replication set', array(select s.set_name::text from courier.replication_set s))
                || ' Create one with SELECT courier.create_replication_set(...).';
    end if;
    return present;
end
$$;
revoke execute on function courier.find_replication_set(text) from public;
comment on function courier.find_replication_set(text) is
    'the replication set of that name, or an error with the names that exist';

create function courier.create_replication_set(
    set_name text,
    replicate_insert boolean default true,
    replicate_update boolean default true,
    replicate_delete boolean default true,
    replicate_truncate boolean default true) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted courier.replication_set;
    present courier.replication_set;
begin
    perform courier.require_administrator();
    wanted := row(courier.require_name('replication set', create_replication_set.set_name),
                  replicate_insert, replicate_update, replicate_delete, replicate_truncate);
    if (replicate_insert or replicate_update or replicate_delete or replicate_truncate) is not true
       or num_nulls(replicate_insert, replicate_update, replicate_delete, replicate_truncate) > 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('replication set "%s" must replicate something', wanted.set_name),
            hint = 'Let at least one of replicate_insert, replicate_update, replicate_delete and '
                || 'replicate_truncate be true, and none null.';
    end if;
    perform courier.lock_configuration();
    select s.* into present from courier.replication_set s where s.set_name = wanted.set_name;
    if not found then
        insert into courier.replication_set select wanted.*;
    elsif present is distinct from wanted then
        raise exception using
            errcode = 'duplicate_object',
            message = format('replication set "%s" exists already with other operations', wanted.set_name),
            hint = 'Choose another name, or drop the set first.';
    end if;
end
$$;
comment on function courier.create_replication_set(text, boolean, boolean, boolean, boolean) is
    'creates a replication set that sends the given operations of its tables';

create function courier.drop_replication_set(set_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.replication_set;
    users text;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_replication_set(drop_replication_set.set_name);
    if present.set_name = 'default' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'replication set "default" cannot be dropped',
            hint = 'Take its tables out with SELECT courier.replication_set_remove_table(...).';
    end if;
    select string_agg(s.subscription_name, ', ' order by s.subscription_name) into users
    from courier.subscription s where present.set_name = any (s.replication_sets);
    if users is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('replication set "%s" is in use by subscriptions', present.set_name),
            detail = format('Subscriptions: %s.', users),
            hint = 'Drop them first with SELECT courier.drop_subscription(...).';
    end if;
    delete from courier.replication_set_table t where t.set_name = present.set_name;
    delete from courier.replication_set s where s.set_name = present.set_name;
end
$$;
comment on function courier.drop_replication_set(text) is 'drops a replication set that no subscription uses; its tables stay as they are';

-- Columns by which a row is found on the target: those of the replica identity
-- index or of the primary key; of REPLICA IDENTITY FULL without a primary key,
-- every column. Null when there are none, and for REPLICA IDENTITY NOTHING.
create function courier.key_columns(relation regclass) returns name[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with key_index as (
        select i.indrelid, i.indkey, i.indnkeyatts
        from pg_index i join pg_class c on c.oid = i.indrelid
        where c.oid = key_columns.relation
          and i.indisvalid
          and case c.relreplident
                  when 'i' then i.indisreplident
                  when 'n' then false
                  else i.indisprimary
              end
    )
    select coalesce(
        (select array_agg(a.attname order by k.ord)
         from key_index i
         cross join unnest(i.indkey::int2[]) with ordinality k (attnum, ord)
         join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
         where k.ord <= i.indnkeyatts),
        (select array_agg(a.attname order by a.attnum)
         from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.oid = key_columns.relation and c.relreplident = 'f'
           and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''))
$$;
revoke execute on function courier.key_columns(regclass) from public;
comment on function courier.key_columns(regclass) is
    'columns by which a changed row is found on the target; null when the table has no key';

-- Refuses what cannot be captured as a table of its own.
create function courier.require_table(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    reason text;
    related regclass;
begin
    if relation is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'relation must not be null',
            hint = 'Name a table.';
    end if;
    select c.relkind, c.relpersistence, c.relispartition, n.nspname into class
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation;
    if not found then
        raise exception using
            errcode = 'undefined_table',
            message = format('relation with OID %s does not exist', relation::oid),
            hint = 'Name a table, with its schema if that is not in search_path.';
    end if;
    reason := case
        when class.relkind = 'v' then 'it is a view'
        when class.relkind = 'm' then 'it is a materialized view'
        when class.relkind = 'f' then 'it is a foreign table'
        when class.relkind = 'S' then 'it is a sequence'
        when class.relkind not in ('r', 'p') then 'it is not a table'
        when class.relpersistence = 't' then 'it is a temporary table'
        when class.relpersistence = 'u' then 'it is an unlogged table, which a crash empties'
        when class.nspname in ('courier', 'courier_target') then 'it belongs to pg_courier'
        when class.nspname in ('pg_catalog', 'information_schema', 'pg_toast') then 'it is a system table'
    end;
    if reason is not null then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s cannot be replicated: %s', relation, reason),
            hint = 'Only ordinary, permanent tables and partitioned tables can be in a replication set.';
    end if;

    -- Triggers of a partitioned table are cloned to its partitions, so each
    -- row would be captured twice.
    select t.relation into related
    from courier.replication_set_table t
    join pg_partition_ancestors(require_table.relation) p on p.relid = t.relation
    where p.relid <> require_table.relation
    order by t.relation::oid limit 1;
    if related is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s is replicated already as a partition of %s', relation, related),
            hint = format('Take %s out of its replication sets first.', related);
    end if;
    if class.relkind = 'p' then
        select t.relation into related
        from courier.replication_set_table t
        join pg_partition_tree(require_table.relation) p on p.relid = t.relation
        where p.relid <> require_table.relation
        order by t.relation::oid limit 1;
        if related is not null then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('partition %s of %s is in a replication set already', related, relation),
                hint = format('Take %s out of its replication sets first.', related);
        end if;
    end if;
end
$$;
revoke execute on function courier.require_table(regclass) from public;
comment on function courier.require_table(regclass) is 'raises an error unless the relation is a table that can be replicated';

-- Reads a relation name as the caller wrote it. Without SET search_path on
-- purpose: the name is to be found by the caller's path. All else is qualified.
create function courier.find_relation(relation text) returns regclass
language plpgsql stable
as $$
declare
    found_relation pg_catalog.regclass := pg_catalog.to_regclass(relation);
begin
    if found_relation is null then
        raise exception using
            errcode = 'undefined_table',
            message = pg_catalog.format('table "%s" does not exist', relation),
            hint = 'Name its schema if that is not in search_path; upper case and special characters need double quotes.';
    end if;
    return found_relation;
end
$$;
comment on function courier.find_relation(text) is 'the relation of that name by the caller''s search_path, or an error with a hint';

create function courier.require_columns(
    relation regclass, columns text[], replicates_changes boolean) returns name[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    checked name[] := '{}';
    given text;
    attribute record;
    missing text;
begin
    if columns is null then
        return null;
    end if;
    if cardinality(columns) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('list of columns for %s is empty', relation),
            hint = 'Name the columns to send, or leave columns out for all.';
    end if;
    foreach given in array columns loop
        select a.attname, a.attgenerated into attribute
        from pg_attribute a
        where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
          and a.attname = courier.require_name('column', given);
        if not found then
            raise exception using
                errcode = 'undefined_column',
                message = format('column "%s" of %s does not exist', given, relation),
                hint = format('Its columns are: %s.',
                    (select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a
                     where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''));
        elsif attribute.attgenerated <> '' then
            raise exception using
                errcode = 'invalid_column_reference',
                message = format('column "%s" of %s is generated', given, relation),
                hint = 'Leave it out: generated columns are computed on the target.';
        elsif attribute.attname = any (checked) then
            raise exception using
                errcode = 'duplicate_column',
                message = format('column "%s" of %s is named twice', given, relation),
                hint = 'Name each column once.';
        end if;
        checked := checked || attribute.attname;
    end loop;

    if replicates_changes or exists (
        select from pg_class c where c.oid = relation and c.relreplident <> 'f') then
        select string_agg(k, ', ' order by ord) into missing
        from unnest(courier.key_columns(relation)) with ordinality u (k, ord)
        where k <> all (checked);
    end if;
    if missing is not null then
        raise exception using
            errcode = 'invalid_column_reference',
            message = format('list of columns for %s leaves out columns of its key', relation),
            detail = format('Left out: %s.', missing),
            hint = 'Add them: without its whole key a row cannot be found on the target.';
    end if;
    return checked;
end
$$;
revoke execute on function courier.require_columns(regclass, text[], boolean) from public;
comment on function courier.require_columns(regclass, text[], boolean) is
    'checks a list of columns: present, not generated, none twice, key included';

create function courier.replication_set_add_table(
    set_name text,
    relation regclass,
    columns text[] default null,
    row_filter text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
    replicates_changes boolean;
    wanted_columns name[];
    present courier.replication_set_table;
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('replication_set_add_table');
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_table.set_name);
    perform courier.require_table(relation);
    if row_filter is not null then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'row filters are not supported yet',
            hint = 'Leave row_filter out; all rows are sent.';
    end if;
    replicates_changes := target_set.replicate_update or target_set.replicate_delete;
    if replicates_changes and courier.key_columns(relation) is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s has no key, and replication set "%s" replicates updates or deletes',
                             relation, target_set.set_name),
            hint = format('Run ALTER TABLE %s ADD PRIMARY KEY (...), or ALTER TABLE %1$s REPLICA IDENTITY FULL; or add it '
                          'to a set created with replicate_update => false, replicate_delete => false.', relation);
    end if;
    wanted_columns := courier.require_columns(relation, columns, replicates_changes);

    select t.* into present from courier.replication_set_table t
    where t.set_name = target_set.set_name and t.relation = replication_set_add_table.relation;
    if not found then
        insert into courier.replication_set_table (set_name, relation, columns, added)
        values (target_set.set_name, relation, wanted_columns, courier.position());
        perform courier.sync_capture();
        -- Again, now that capture is in place and who wrote before is done.
        update courier.replication_set_table t set added = courier.position()
        where t.set_name = target_set.set_name and t.relation = replication_set_add_table.relation;
    elsif present.columns is distinct from wanted_columns then
        raise exception using
            errcode = 'duplicate_object',
            message = format('%s is in replication set "%s" already with other columns', relation, target_set.set_name),
            hint = 'Take it out first with SELECT courier.replication_set_remove_table(...).';
    end if;
end
$$;
comment on function courier.replication_set_add_table(text, regclass, text[], text) is
    'adds a table, or the root of a partitioned one, to a replication set';

-- Chosen for a literal, so that a table that does not exist gives an error
-- with a hint. The caller's search_path applies, as it does for a regclass.
create function courier.replication_set_add_table(
    set_name text,
    relation text,
    columns text[] default null,
    row_filter text default null) returns void
language sql
as $$
    select courier.replication_set_add_table($1, courier.find_relation($2), $3, $4)
$$;
comment on function courier.replication_set_add_table(text, text, text[], text) is
    'adds a table, or the root of a partitioned one, to a replication set';

create function courier.replication_set_add_all_tables(set_name text, schema_names text[]) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
    wanted_schema text;
    wanted regclass[];
    listed text;
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('replication_set_add_all_tables');
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_all_tables.set_name);
    if coalesce(cardinality(schema_names), 0) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'list of schemas is empty',
            hint = 'Name at least one schema, as in ARRAY[''public''].';
    end if;
    foreach wanted_schema in array schema_names loop
        if not exists (select from pg_namespace n
                       where n.nspname = courier.require_name('schema', wanted_schema)) then
            raise exception using
                errcode = 'invalid_schema_name',
                message = format('schema "%s" does not exist', wanted_schema),
                hint = 'Name existing schemas; upper case is kept as it is written.';
        elsif wanted_schema in ('courier', 'courier_target', 'pg_catalog', 'information_schema', 'pg_toast')
              or wanted_schema like 'pg\_t%temp\_%' or wanted_schema like 'pg\_temp\_%' then
            raise exception using
                errcode = 'wrong_object_type',
                message = format('tables of schema "%s" cannot be replicated', wanted_schema),
                hint = 'Name schemas with tables of your own.';
        end if;
    end loop;

    -- Partitions go with their root; tables of an extension belong to it.
    select array_agg(c.oid::regclass order by c.oid) into wanted
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any (schema_names)
      and c.relkind in ('r', 'p') and c.relpersistence = 'p' and not c.relispartition
      and not exists (select from pg_depend d
                      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      and not exists (select from courier.replication_set_table t
                      where t.set_name = target_set.set_name and t.relation = c.oid);

    select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname) into listed
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = any (schema_names) and c.relkind = 'r' and c.relpersistence = 'u' and not c.relispartition;
    if listed is not null then
        raise notice using message = format('unlogged tables are not added: %s', listed);
    end if;

    if target_set.replicate_update or target_set.replicate_delete then
        select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname) into listed
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid = any (wanted::oid[]) and courier.key_columns(c.oid) is null;
        if listed is not null then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('tables have no key, and replication set "%s" replicates updates or deletes',
                                 target_set.set_name),
                detail = format('Tables: %s.', listed),
                hint = 'Run ALTER TABLE ... ADD PRIMARY KEY (...) or ALTER TABLE ... REPLICA IDENTITY FULL for each; or add '
                    || 'them to a set created with replicate_update => false, replicate_delete => false.';
        end if;
    end if;
    perform courier.require_table(w) from unnest(wanted) w;

    insert into courier.replication_set_table (set_name, relation, added)
    select target_set.set_name, w, courier.position() from unnest(wanted) w;
    perform courier.sync_capture();
    update courier.replication_set_table t set added = courier.position()
    where t.set_name = target_set.set_name and t.relation = any (wanted);
    return coalesce(cardinality(wanted), 0);
end
$$;
comment on function courier.replication_set_add_all_tables(text, text[]) is
    'adds all permanent tables of some schemas that are not in the set yet; returns how many';

create function courier.replication_set_remove_table(set_name text, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_remove_table.set_name);
    delete from courier.replication_set_table t
    where t.set_name = target_set.set_name and t.relation = replication_set_remove_table.relation;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('%s is not in replication set "%s"', relation, target_set.set_name),
            hint = courier.known_names('table in it', array(
                select t.relation::text from courier.replication_set_table t
                where t.set_name = target_set.set_name));
    end if;
    perform courier.sync_capture();
end
$$;
comment on function courier.replication_set_remove_table(text, regclass) is 'takes a table out of a replication set';

create function courier.replication_set_remove_table(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_remove_table($1, courier.find_relation($2))
$$;
comment on function courier.replication_set_remove_table(text, text) is 'takes a table out of a replication set';

-- Makes the capture triggers what the configuration asks for: a table has them
-- exactly while a set of a subscription that captures by trigger has it. Only
-- tables that change are locked, in order of their OID: against writers when
-- triggers are created, against all when they are dropped. Create triggers
-- wait for transactions that wrote without being captured, so that a position
-- taken afterwards, by a new statement, covers them.
--
-- A subscription without a starting position comes from a restored dump and
-- will not ship; nothing is captured for it.
--
-- The triggers depend on the extension, so that DROP EXTENSION takes them
-- along. '!' sorts before what users call their triggers.
create function courier.sync_capture() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    change record;
begin
    for change in
        with wanted as (
            select distinct c.oid as relation, g.trigger_name
            from courier.subscription s
            join courier.replication_set_table t on t.set_name = any (s.replication_sets)
            join pg_class c on c.oid = t.relation
            cross join (values ('!pg_courier_row'::name), ('!pg_courier_truncate')) g (trigger_name)
            where s.capture = 'trigger' and s.start_position is not null
        ), present as (
            select g.tgrelid as relation, g.tgname as trigger_name
            from pg_trigger g
            where g.tgparentid = 0
              and g.tgfoid in ('courier.capture_row()'::regprocedure, 'courier.capture_truncate()'::regprocedure)
        )
        select coalesce(w.relation, p.relation)::regclass as relation,
               coalesce(w.trigger_name, p.trigger_name) as trigger_name,
               p.relation is null as missing
        from wanted w
        full join present p on p.relation = w.relation and p.trigger_name = w.trigger_name
        where w.relation is null or p.relation is null
        order by coalesce(w.relation, p.relation), 2
    loop
        if not change.missing then
            execute format('drop trigger %I on %s', change.trigger_name, change.relation);
            continue;
        elsif change.trigger_name = '!pg_courier_row' then
            execute format('create trigger %I after insert or update or delete on %s '
                           'for each row execute function courier.capture_row()',
                           change.trigger_name, change.relation);
        else
            execute format('create trigger %I after truncate on %s '
                           'for each statement execute function courier.capture_truncate()',
                           change.trigger_name, change.relation);
        end if;
        execute format('alter trigger %I on %s depends on extension pg_courier',
                       change.trigger_name, change.relation);
    end loop;
end
$$;
revoke execute on function courier.sync_capture() from public;
comment on function courier.sync_capture() is 'creates and drops capture triggers until they match the configuration';

-- Dropped tables leave their sets. Runs as the owner of the extension, since
-- anyone may drop a table of theirs; touches nothing unless one was in a set.
create function courier.forget_dropped_tables() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from pg_event_trigger_dropped_objects() d
        join courier.replication_set_table t on t.relation = d.objid
        where d.classid = 'pg_class'::regclass and d.objsubid = 0) then
        delete from courier.replication_set_table t
        using pg_event_trigger_dropped_objects() d
        where d.classid = 'pg_class'::regclass and d.objsubid = 0 and t.relation = d.objid;
    end if;
end
$$;
revoke execute on function courier.forget_dropped_tables() from public;
comment on function courier.forget_dropped_tables() is 'event trigger: takes dropped tables out of replication sets';

create event trigger pg_courier_forget_dropped_tables on sql_drop
    execute function courier.forget_dropped_tables();
comment on event trigger pg_courier_forget_dropped_tables is 'takes dropped tables out of replication sets';
