-- DDL on tables of sets with ddl => 'auto': which schemas they cover, and what
-- the event triggers (ext/pg/ddl_capture.c) are told to capture.
--
-- The functions that they call have the rights of the extension's owner, since
-- anyone may alter a table of theirs; and they are STABLE, so that they see the
-- configuration as it is now, by the snapshot that the trigger has taken.

create function courier.replication_set_add_schema(set_name text, schema_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
    wanted name := courier.require_name('schema', schema_name);
    found_schema regnamespace;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_schema.set_name);
    if target_set.ddl <> 'auto' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('replication set "%s" does not replicate DDL', target_set.set_name),
            hint = format('Run SELECT courier.alter_replication_set(%L, ddl => ''auto''); or add the tables that are there '
                          'with SELECT courier.replication_set_add_all_tables(...).', target_set.set_name);
    end if;
    select n.oid into found_schema from pg_namespace n where n.nspname = wanted;
    if not found then
        raise exception using
            errcode = 'invalid_schema_name',
            message = format('schema "%s" does not exist', wanted),
            hint = 'Name an existing schema; upper case is kept as it is written.';
    elsif wanted in ('courier', 'courier_target', 'pg_catalog', 'information_schema', 'pg_toast') or wanted like 'pg\_%temp\_%' then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('tables of schema "%s" cannot be replicated', wanted),
            hint = 'Name a schema with tables of your own.';
    end if;
    insert into courier.replication_set_schema (set_name, schema) values (target_set.set_name, found_schema)
    on conflict do nothing;
end
$$;
comment on function courier.replication_set_add_schema(text, text) is
    'lets a set with ddl => auto take the tables that are created in a schema from now on';

create function courier.replication_set_remove_schema(set_name text, schema_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_remove_schema.set_name);
    delete from courier.replication_set_schema t using pg_namespace n
    where t.set_name = target_set.set_name and t.schema = n.oid and n.nspname = courier.require_name('schema', schema_name);
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('schema "%s" is not in replication set "%s"', schema_name, target_set.set_name),
            hint = courier.known_names('schema in it', array(
                select n.nspname::text from courier.replication_set_schema t join pg_namespace n on n.oid = t.schema
                where t.set_name = target_set.set_name));
    end if;
end
$$;
comment on function courier.replication_set_remove_schema(text, text) is
    'the set takes no more new tables of the schema; those it has stay';

-- Sets with ddl => auto of which DDL has to be sent: some subscription has them.
-- One without a starting position is of a restored dump, and will not ship.
create view courier.auto_set as
select s.set_name
from courier.replication_set s
where s.ddl = 'auto'
  and exists (select from courier.subscription u
              where s.set_name = any (u.replication_sets) and u.start_position is not null);
comment on view courier.auto_set is 'replication sets with ddl => auto that a subscription has';
comment on column courier.auto_set.set_name is 'the set';

-- Those that have a table, or one that it is a partition of.
create function courier.auto_sets(relation oid) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(distinct s.set_name::text)
    from courier.auto_set s
    join courier.replication_set_table t on t.set_name = s.set_name
    where (t.relation = auto_sets.relation
           or t.relation in (select p.relid from pg_partition_ancestors(auto_sets.relation::regclass) p))
$$;
revoke execute on function courier.auto_sets(oid) from public;
comment on function courier.auto_sets(oid) is 'replication sets with ddl => auto that have the table, or null';

create function courier.auto_schema_sets(schema oid) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(s.set_name::text order by s.set_name)
    from courier.auto_set s
    join courier.replication_set_schema t on t.set_name = s.set_name
    where t.schema = auto_schema_sets.schema
$$;
revoke execute on function courier.auto_schema_sets(oid) from public;
comment on function courier.auto_schema_sets(oid) is 'replication sets with ddl => auto that cover the schema, or null';

-- A privilege that is given on tables of a set and on others by one statement
-- can't be sent as it is.
create function courier.ddl_grant_sets(tag text, tables oid[], schemas text[]) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_sets text[];
    partial text;
begin
    with covered as (
        select a.set_name, 't' || t::text as object from unnest(tables) t cross join unnest(courier.auto_sets(t)) a (set_name)
        union
        select a.set_name, 's' || s from unnest(schemas) s join pg_namespace n on n.nspname = s
        cross join unnest(courier.auto_schema_sets(n.oid)) a (set_name)
    ), counted as (
        select c.set_name, count(*) = cardinality(tables) + cardinality(schemas) as whole from covered c group by c.set_name
    )
    select array_agg(c.set_name order by c.set_name) filter (where c.whole),
           min(c.set_name) filter (where not c.whole)
    into found_sets, partial
    from counted c;
    if partial is not null then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('%s cannot be captured for replication set "%s", which replicates DDL', tag, partial),
            detail = 'It names tables of the set and others.',
            hint = 'Name those of the set in a statement of their own.';
    end if;
    return found_sets;
end
$$;
revoke execute on function courier.ddl_grant_sets(text, oid[], text[]) from public;
comment on function courier.ddl_grant_sets(text, oid[], text[]) is 'sets that a GRANT or REVOKE belongs to, or null';

-- Sets that a command belongs to, object by object.
create function courier.ddl_object_sets(
    tag text, classid oid, objid oid, object_type text) returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
begin
    case
        when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') and object_type = 'table' then
            select c.relnamespace, c.relpersistence, c.relispartition into class from pg_class c where c.oid = objid;
            return case
                when class.relpersistence = 't' then null
                when class.relispartition then courier.auto_sets(objid)
                else courier.auto_schema_sets(class.relnamespace)
            end;
        when tag in ('ALTER TABLE', 'COMMENT') and object_type in ('table', 'table column') then
            return courier.auto_sets(objid);
        when tag in ('ALTER TABLE', 'CREATE INDEX', 'ALTER INDEX', 'COMMENT') and object_type = 'index' then
            return courier.auto_sets((select i.indrelid from pg_index i where i.indexrelid = objid));
        when tag in ('ALTER TABLE', 'COMMENT') and object_type = 'table constraint' then
            return courier.auto_sets((select k.conrelid from pg_constraint k where k.oid = objid));
        when tag in ('CREATE TYPE', 'ALTER TYPE', 'CREATE DOMAIN', 'ALTER DOMAIN', 'COMMENT') and classid = 'pg_type'::regclass then
            return courier.auto_schema_sets((select t.typnamespace from pg_type t where t.oid = objid));
        when tag in ('ALTER TYPE', 'COMMENT') and object_type in ('composite type', 'composite type column') then -- its attributes
            return courier.auto_schema_sets((select c.relnamespace from pg_class c where c.oid = objid));
        when tag = 'ALTER SCHEMA' and object_type = 'schema' then
            return (select array_agg(distinct u.set_name)
                    from (select unnest(courier.auto_schema_sets(objid))
                          union select unnest(courier.auto_sets(c.oid)) from pg_class c
                          where c.relnamespace = objid and c.relkind in ('r', 'p')) u (set_name));
        else
            return null;
    end case;
end
$$;
revoke execute on function courier.ddl_object_sets(text, oid, oid, text) from public;
comment on function courier.ddl_object_sets(text, oid, oid, text) is
    'replication sets with ddl => auto that a command on an object belongs to, or null';

-- Called at the end of a command. tables: those that a GRANT names, or the
-- partition that is attached; schemas: those of a GRANT; differing: a column
-- whose values in rows that exist may be others on the nodes.
create function courier.ddl_sets(tag text, tables oid[], schemas text[], differing text) returns text[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set row_security = off
as $$
declare
    command record;
    sets text[];
    filled boolean;
begin
    if not exists (select from courier.auto_set) then
        return null;
    elsif tag in ('GRANT', 'REVOKE') then
        return courier.ddl_grant_sets(tag, tables, schemas);
    end if;
    select array_agg(distinct u.set_name order by u.set_name) into sets
    from pg_event_trigger_ddl_commands() c
    cross join unnest(courier.ddl_object_sets(tag, c.classid, c.objid, c.object_type)) u (set_name)
    where not c.in_extension;
    if sets is null then
        return null;
    end if;
    if tag in ('CREATE TABLE AS', 'SELECT INTO') then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('%s cannot be captured for replication set "%s", which covers the schema', tag, sets[1]),
            detail = 'Rows that a table is created with are not captured.',
            hint = 'Create the table first, and then INSERT INTO it.';
    end if;
    for command in
        select c.objid::regclass as relation from pg_event_trigger_ddl_commands() c
        where differing is not null and c.object_type = 'table' and courier.auto_sets(c.objid) is not null
    loop
        execute format('select exists (select from %s)', command.relation) into filled;
        if filled then
            raise exception using
                errcode = 'feature_not_supported',
                message = format('rows of %s could get other values of column "%s" on the nodes', command.relation, differing),
                detail = 'Each side would compute them for itself, by a sequence, the time or a volatile function.',
                hint = 'Add the column without them, fill it by UPDATE, which is replicated row by row, and set the default then; '
                    || 'or accept other values, by courier.replicate_ddl().';
        end if;
    end loop;
    if tag = 'ALTER TABLE' and cardinality(tables) > 0 then
        execute format('select exists (select from %s)', tables[1]::regclass) into filled;
        if filled then
            raise exception using
                errcode = 'feature_not_supported',
                message = format('partition %s cannot be attached: it holds rows, which are not captured', tables[1]::regclass),
                hint = 'Attach it empty and INSERT the rows then; or bring them to the nodes, and attach it by courier.replicate_ddl().';
        end if;
    end if;
    return sets;
end
$$;
revoke execute on function courier.ddl_sets(text, oid[], text[], text) from public;
comment on function courier.ddl_sets(text, oid[], text[], text) is
    'event trigger, at the end of a command: replication sets that it is to be sent to, or null; an error if it cannot be';

-- Called behind it for CREATE TABLE: with the sets of replicate_ddl(), or with
-- null for all that cover the schema, whether a subscription has them or not.
create function courier.ddl_add_tables(sets text[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    added record;
    locked boolean := false;
    announced regclass;
begin
    if not exists (select from courier.replication_set_schema) then
        return;
    end if;
    for added in
        select s.set_name, c.objid::regclass as relation, r.relpersistence = 'u' as unlogged,
               s.replicate_update or s.replicate_delete as changes
        from pg_event_trigger_ddl_commands() c
        join pg_class r on r.oid = c.objid and r.relkind in ('r', 'p') and r.relpersistence <> 't' and not r.relispartition
        join courier.replication_set_schema t on t.schema = r.relnamespace
        join courier.replication_set s on s.set_name = t.set_name and s.ddl = 'auto'
        where c.command_tag = 'CREATE TABLE' and not c.in_extension and (sets is null or s.set_name = any (sets))
        order by c.objid, s.set_name
    loop
        if not locked then
            perform courier.lock_configuration();
            locked := true;
        end if;
        insert into courier.replication_set_table (set_name, relation, added)
        values (added.set_name, added.relation, courier.position());
        if added.unlogged and added.relation is distinct from announced then
            announced := added.relation;
            perform courier.announce_unlogged(added.relation);
        end if;
        if added.changes and courier.key_columns(added.relation) is null then
            raise warning using
                message = format('%s has no key, and replication set "%s" replicates updates and deletes',
                                 added.relation, added.set_name),
                detail = 'An update or delete would stop the subscriptions.',
                hint = format('Before the first one run ALTER TABLE %s ADD PRIMARY KEY (...), or ALTER TABLE %1$s REPLICA IDENTITY FULL.',
                              added.relation);
        end if;
    end loop;
    if locked then
        perform courier.sync_capture();
    end if;
end
$$;
revoke execute on function courier.ddl_add_tables(text[]) from public;
comment on function courier.ddl_add_tables(text[]) is
    'event trigger, at the end of CREATE TABLE: takes the new table into those of the sets that cover its schema';

-- Called at the start of a command that runs CONCURRENTLY, in transactions of
-- its own: at its end nothing can be captured or refused any more.
create function courier.refuse_concurrent_ddl(tag text, tables oid[]) returns void
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    covered oid;
begin
    select t into covered from unnest(tables) t where courier.auto_sets(t) is not null limit 1;
    if found then
        raise exception using
            errcode = 'feature_not_supported',
            message = format('%s CONCURRENTLY on %s cannot be captured for replication set "%s", which replicates DDL',
                             tag, covered::regclass, (courier.auto_sets(covered))[1]),
            detail = 'It cannot run inside a transaction block, as it would have to on the nodes.',
            hint = 'Leave CONCURRENTLY out; or, with courier.capture_ddl set to off, run it on this database and on each node by itself.';
    end if;
end
$$;
revoke execute on function courier.refuse_concurrent_ddl(text, oid[]) from public;
comment on function courier.refuse_concurrent_ddl(text, oid[]) is
    'event trigger, at the start of a command that runs CONCURRENTLY: an error if a set replicates the DDL of its table';

-- Called before a table becomes a partition: the sets of the partitioned table
-- capture it from then on, and it can't have triggers of its own beside theirs.
create function courier.before_attach_partition(parent oid, partition oid) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    other text;
begin
    if not exists (select from courier.replication_set_table t where t.relation = partition)
       or not exists (select from courier.replication_set_table t
                      where t.relation in (select p.relid from pg_partition_ancestors(parent::regclass) p)) then
        return;
    end if;
    perform courier.lock_configuration();
    select t.set_name into other
    from courier.replication_set_table t
    where t.relation = partition and not exists (
        select from courier.replication_set_table r
        where r.set_name = t.set_name and r.relation in (select p.relid from pg_partition_ancestors(parent::regclass) p))
    order by t.set_name limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s cannot become a partition of %s: it is in replication set "%s", and that is not',
                             partition::regclass, parent::regclass, other),
            hint = format('Run first SELECT courier.replication_set_remove_table(%L, %L);', other, partition::regclass);
    end if;
    perform courier.forget_tables(array[partition], array[n.nspname], array[c.relname])
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = partition;
    perform courier.sync_row_filters();
    perform courier.sync_capture();
end
$$;
revoke execute on function courier.before_attach_partition(oid, oid) from public;
comment on function courier.before_attach_partition(oid, oid) is
    'event trigger, before ATTACH PARTITION: takes the table out of the sets that its partitioned table is in';

-- What to drop on the nodes, made up from what was dropped here, so that it is
-- right for DROP SCHEMA, DROP OWNED and whatever functions do as well. IF
-- EXISTS: what is gone there already is as it should be.
create function courier.dropped_commands(
    tag text, cascaded boolean, objects oid[], tables oid[], out command text, out sets text[])
returns setof record
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    ending text := case when cascaded then ' CASCADE' else '' end;
begin
    -- columns and constraints that went along with something else
    return query
    select format('ALTER TABLE %I.%I DROP COLUMN IF EXISTS %I CASCADE', d.address_names[1], d.address_names[2], d.address_names[3]),
           courier.auto_sets(d.objid)
    from pg_event_trigger_dropped_objects() d
    where d.object_type = 'table column' and tag <> 'ALTER TABLE' and courier.auto_sets(d.objid) is not null
      and exists (select from pg_class c where c.oid = d.objid);
    return query
    select format('ALTER TABLE %I.%I DROP CONSTRAINT IF EXISTS %I', d.address_names[1], d.address_names[2], d.address_names[3]),
           courier.auto_sets(c.oid)
    from pg_event_trigger_dropped_objects() d
    join pg_namespace n on n.nspname = d.address_names[1]
    join pg_class c on c.relnamespace = n.oid and c.relname = d.address_names[2]
    where d.object_type = 'table constraint' and tag <> 'ALTER TABLE' and courier.auto_sets(c.oid) is not null;

    return query
    select format('DROP INDEX IF EXISTS %s%s', string_agg(d.object_identity, ', ' order by d.object_identity), ending), u.sets
    from pg_event_trigger_dropped_objects() d
    cross join lateral (
        select array_agg(distinct a.set_name order by a.set_name)
        from unnest(objects, tables) o (object, table_of) cross join unnest(courier.auto_sets(o.table_of)) a (set_name)
        where o.object = d.objid) u (sets)
    where d.object_type = 'index' and d.original and u.sets is not null
    group by u.sets;
    return query
    select format('DROP TABLE IF EXISTS %s%s', string_agg(d.object_identity, ', ' order by d.object_identity), ending), u.sets
    from pg_event_trigger_dropped_objects() d
    cross join lateral (
        select array_agg(distinct s.set_name::text order by s.set_name::text)
        from courier.auto_set s join courier.replication_set_table t on t.set_name = s.set_name
        where (t.relation = d.objid
               or exists (select from unnest(objects, tables) o (object, table_of)
                          where o.object = d.objid and o.table_of = t.relation))) u (sets)
    where d.object_type = 'table' and not d.is_temporary and u.sets is not null
    group by u.sets;
    return query
    select format('DROP %s IF EXISTS %s%s', case d.object_type when 'domain' then 'DOMAIN' else 'TYPE' end, d.object_identity, ending),
           courier.auto_schema_sets(n.oid)
    from pg_event_trigger_dropped_objects() d join pg_namespace n on n.nspname = d.schema_name
    where d.classid = 'pg_type'::regclass and d.original and courier.auto_schema_sets(n.oid) is not null;
end
$$;
revoke execute on function courier.dropped_commands(text, boolean, oid[], oid[]) from public;
comment on function courier.dropped_commands(text, boolean, oid[], oid[]) is
    'in sql_drop: commands that drop on the nodes what a command has dropped here, with the sets they are for';

-- Called in sql_drop. objects and tables: what the command names, and the
-- tables that belongs to. Returns commands, each with its sets as text behind it.
create function courier.ddl_drops(tag text, cascaded boolean, objects oid[], tables oid[]) returns text[]
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    pairs text[];
    command record;
begin
    if not exists (select from courier.auto_set) then
        return null;
    end if;
    for command in select c.command, c.sets::text as sets from courier.dropped_commands(tag, cascaded, objects, tables) c loop
        pairs := pairs || command.command || command.sets;
    end loop;
    return pairs;
end
$$;
revoke execute on function courier.ddl_drops(text, boolean, oid[], oid[]) from public;
comment on function courier.ddl_drops(text, boolean, oid[], oid[]) is
    'event trigger, sql_drop: commands for the nodes, each followed by its replication sets; null for none';

-- What stays behind when the extension goes: nobody can clean the nodes then.
-- With the caller's rights: it runs before they are checked.
create function courier.before_drop_extension() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    left_over record;
begin
    if not courier.is_administrator() then
        return; -- and the command will be refused
    end if;
    for left_over in
        select s.subscription_name, s.node_name, s.progress_key from courier.subscription s order by s.subscription_name
    loop
        raise warning using
            message = format('subscription "%s" ends here, but node "%s" keeps its bookkeeping',
                             left_over.subscription_name, left_over.node_name),
            hint = format('Roll back and run SELECT courier.drop_subscription(%L) first. Or run on the node DROP SCHEMA '
                          'courier_target CASCADE, if nobody else ships to it; else delete there the rows of subscription '
                          '%s from the tables of that schema.', left_over.subscription_name, left_over.progress_key);
    end loop;
    for left_over in
        select n.server_name from courier.node n join pg_foreign_server f on f.srvname = n.server_name
        where n.server_owned order by n.server_name
    loop
        execute format('drop server %I cascade', left_over.server_name);
    end loop;
end
$$;
revoke execute on function courier.before_drop_extension() from public;
comment on function courier.before_drop_extension() is
    'event trigger, before DROP EXTENSION: drops the foreign servers of nodes, which hold passwords, and names what the nodes keep';

create function courier.capture_ddl() returns event_trigger
language c
as 'MODULE_PATHNAME', 'courier_capture_ddl';
revoke execute on function courier.capture_ddl() from public;
comment on function courier.capture_ddl() is 'event trigger: captures DDL for sets with ddl => auto';

create event trigger pg_courier_begin_ddl on ddl_command_start execute function courier.capture_ddl();
comment on event trigger pg_courier_begin_ddl is 'keeps what a command is, for its end';
create event trigger pg_courier_capture_ddl on ddl_command_end execute function courier.capture_ddl();
comment on event trigger pg_courier_capture_ddl is 'captures DDL for sets with ddl => auto';
-- By its name before pg_courier_forget_dropped_tables.
create event trigger pg_courier_capture_drop on sql_drop execute function courier.capture_ddl();
comment on event trigger pg_courier_capture_drop is 'captures DROP for sets with ddl => auto';
