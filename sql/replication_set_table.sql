-- The tables of replication sets: adding, removing, and what is refused.

-- Columns by which a row is found on the target: those of the replica identity
-- index or of the primary key; of REPLICA IDENTITY FULL without a primary key,
-- every column. A deferrable key does not count: rows may bear it twice for a
-- while. Null when there are none, and for REPLICA IDENTITY NOTHING.
create function courier.key_columns(relation regclass) returns name[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with key_index as (
        select i.indrelid, i.indkey, i.indnkeyatts
        from pg_index i join pg_class c on c.oid = i.indrelid
        where c.oid = key_columns.relation
          and i.indisvalid
          and i.indimmediate
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

create function courier.announce_unlogged(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise notice using
        message = format('%s is unlogged: a crash of this server empties it here and not on the nodes', relation),
        hint = format('To keep its rows, run ALTER TABLE %s SET LOGGED.', relation);
end
$$;
revoke execute on function courier.announce_unlogged(regclass) from public;
comment on function courier.announce_unlogged(regclass) is 'says what becomes of an unlogged table that is replicated';

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
        when class.nspname in ('courier', 'courier_target') then 'it belongs to pg_courier'
        when class.nspname in ('pg_catalog', 'information_schema', 'pg_toast') then 'it is a system table'
    end;
    if reason is not null then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s cannot be replicated: %s', relation, reason),
            hint = 'Only tables and partitioned tables that are not temporary can be in a replication set.';
    end if;

    if class.relpersistence = 'u' then
        perform courier.announce_unlogged(relation);
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
        select p.relid into related
        from pg_partition_tree(require_table.relation) p join pg_class c on c.oid = p.relid
        where c.relkind = 'f'
        order by p.relid limit 1;
        if related is not null then
            raise exception using
                errcode = 'wrong_object_type',
                message = format('%s cannot be replicated: its partition %s is a foreign table', relation, related),
                hint = 'Its rows are in another database, and others may change them there. '
                    || 'Detach it, or add the other partitions one by one.';
        end if;
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
    found_relation pg_catalog.regclass;
begin
    begin
        found_relation := pg_catalog.to_regclass(relation);
    exception when insufficient_privilege then
        raise exception using
            errcode = 'insufficient_privilege',
            message = sqlerrm,
            hint = pg_catalog.format('Run GRANT USAGE ON SCHEMA %I TO %I.', (pg_catalog.parse_ident(relation))[1], current_user);
    end;
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
        join pg_attribute a on a.attrelid = relation and a.attname = u.k and a.attgenerated = ''
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
    wanted_filter text;
    wanted_filter_id int;
    present courier.replication_set_table;
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('replication_set_add_table');
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_table.set_name);
    perform courier.require_table(relation);
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
    wanted_filter := courier.check_row_filter(relation, row_filter);

    select t.* into present from courier.replication_set_table t
    where t.set_name = target_set.set_name and t.relation = replication_set_add_table.relation;
    if not found then
        if wanted_filter is not null then
            select coalesce(min(t.filter_id), nextval('courier.row_filter_id_seq')::int) into wanted_filter_id
            from courier.replication_set_table t
            where t.relation = replication_set_add_table.relation and t.row_filter = wanted_filter;
        end if;
        insert into courier.replication_set_table (set_name, relation, columns, row_filter, filter_id, added)
        values (target_set.set_name, relation, wanted_columns, wanted_filter, wanted_filter_id, courier.position());
        perform courier.sync_row_filters();
        perform courier.sync_capture();
        -- Again, now that capture is in place and who wrote before is done.
        perform courier.lock_captured(array[relation]);
        update courier.replication_set_table t set added = courier.position()
        where t.set_name = target_set.set_name and t.relation = replication_set_add_table.relation;
    elsif present.columns is distinct from wanted_columns
        -- a list has the names, too, that its columns had before
        and array(select distinct unnest(present.column_numbers) order by 1)
            <> array(select distinct unnest(courier.column_numbers(relation, wanted_columns)) order by 1) then
        raise exception using
            errcode = 'duplicate_object',
            message = format('%s is in replication set "%s" already with other columns', relation, target_set.set_name),
            hint = 'Take it out first with SELECT courier.replication_set_remove_table(...).';
    elsif present.row_filter is distinct from wanted_filter then
        raise exception using
            errcode = 'duplicate_object',
            message = format('%s is in replication set "%s" already with another row filter', relation, target_set.set_name),
            detail = format('Its row filter there: %s.', coalesce(present.row_filter, 'none')),
            hint = 'Take it out first with SELECT courier.replication_set_remove_table(...). What it then '
                || 'takes for the rows that are on the nodes already to match the new filter is in docs/filters.md.';
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
      and c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.relispartition
      and not exists (select from pg_depend d
                      where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
      and not exists (select from courier.replication_set_table t
                      where t.set_name = target_set.set_name and t.relation = c.oid);

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
    perform courier.lock_captured(wanted);
    update courier.replication_set_table t set added = courier.position()
    where t.set_name = target_set.set_name and t.relation = any (wanted);
    if target_set.ddl = 'auto' then
        perform courier.replication_set_add_schema(target_set.set_name, s) from unnest(schema_names) s;
    end if;
    return coalesce(cardinality(wanted), 0);
end
$$;
comment on function courier.replication_set_add_all_tables(text, text[]) is
    'adds all tables of some schemas that are not in the set yet; returns how many';

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
    perform courier.sync_row_filters();
end
$$;
comment on function courier.replication_set_remove_table(text, regclass) is 'takes a table out of a replication set';

create function courier.replication_set_remove_table(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_remove_table($1, courier.find_relation($2))
$$;
comment on function courier.replication_set_remove_table(text, text) is 'takes a table out of a replication set';
