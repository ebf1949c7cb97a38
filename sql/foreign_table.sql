-- Tables of a node as foreign tables: what was imported, and importing more.

create table courier.foreign_import (
    node_name name not null,
    remote_schema name not null,
    local_schema name not null,
    all_tables boolean not null,
    constraint foreign_import_pkey primary key (node_name, remote_schema, local_schema)
);
comment on table courier.foreign_import is 'schemas of nodes of which tables were imported';
comment on column courier.foreign_import.node_name is 'the node';
comment on column courier.foreign_import.remote_schema is 'schema on the node';
comment on column courier.foreign_import.local_schema is 'schema that the foreign tables are in';
comment on column courier.foreign_import.all_tables is 'whether tables that the node gets later are imported by a refresh, too';

create table courier.foreign_table (
    relation regclass not null,
    node_name name not null,
    remote_schema name not null,
    local_schema name not null,
    remote_table name not null,
    remote_oid oid not null,
    columns jsonb not null,
    refreshed_at timestamptz not null default clock_timestamp(),
    constraint foreign_table_pkey primary key (relation)
);
comment on table courier.foreign_table is 'foreign tables that courier.import_tables() has made';
comment on column courier.foreign_table.relation is 'the foreign table';
comment on column courier.foreign_table.node_name is 'node it is of';
comment on column courier.foreign_table.remote_schema is 'schema on the node';
comment on column courier.foreign_table.local_schema is 'schema it was imported into';
comment on column courier.foreign_table.remote_table is 'table on the node';
comment on column courier.foreign_table.remote_oid is 'its OID there: a table that was made anew has another';
comment on column courier.foreign_table.columns is 'columns of the node''s table when it was last looked at: number, name, type, whether not null';
comment on column courier.foreign_table.refreshed_at is 'when it was last looked at';

create table courier.foreign_refresh (
    node_name name not null,
    every interval,
    next_at timestamptz not null default clock_timestamp(),
    last_at timestamptz,
    last_changes int,
    last_error text,
    last_error_sqlstate text,
    constraint foreign_refresh_pkey primary key (node_name),
    constraint foreign_refresh_takes_time check (every >= interval '1 s')
);
comment on table courier.foreign_refresh is 'when the foreign tables of a node are refreshed, and what came of it';
comment on column courier.foreign_refresh.node_name is 'the node';
comment on column courier.foreign_refresh.every is 'how often housekeeping refreshes them; null: never by itself';
comment on column courier.foreign_refresh.next_at is 'when it does so next';
comment on column courier.foreign_refresh.last_at is 'when they were last refreshed';
comment on column courier.foreign_refresh.last_changes is 'how many changes that found';
comment on column courier.foreign_refresh.last_error is 'why the last attempt by housekeeping failed, if it did';
comment on column courier.foreign_refresh.last_error_sqlstate is 'its SQLSTATE';

select pg_catalog.pg_extension_config_dump('courier.foreign_import', '');
select pg_catalog.pg_extension_config_dump('courier.foreign_table', '');
select pg_catalog.pg_extension_config_dump('courier.foreign_refresh', '');

-- One at a time: imports, refreshes, and the end of a node. Not the lock of the
-- configuration: to analyze large tables takes long.
create function courier.lock_foreign_tables() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    lock table courier.foreign_import in exclusive mode;
end
$$;
revoke execute on function courier.lock_foreign_tables() from public;
comment on function courier.lock_foreign_tables() is 'makes changes of foreign tables wait for each other until the end of the transaction';

-- What a schema of a node has: an object of tables by name.
create function courier.remote_tables(node courier.node, remote_schema name) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return courier.ask_node(node, format($q$
select json_build_object(
    'exists', exists (select from pg_namespace n where n.nspname = %1$L),
    'usable', exists (select from pg_namespace n where n.nspname = %1$L and has_schema_privilege(n.oid, 'USAGE')),
    'role', current_user,
    'tables', coalesce((
        select json_object_agg(c.relname, json_build_object(
            'oid', c.oid::int8,
            'part', c.relispartition,
            'may_select', has_table_privilege(c.oid, 'SELECT') or has_any_column_privilege(c.oid, 'SELECT'),
            'columns', (select coalesce(json_agg(json_build_object(
                            'number', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                            'not_null', a.attnotnull) order by a.attnum), '[]')
                        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)))
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = %1$L and c.relkind in ('r', 'p', 'v', 'm', 'f')), '{}'))$q$, remote_schema))::jsonb;
end
$$;
revoke execute on function courier.remote_tables(courier.node, name) from public;
comment on function courier.remote_tables(courier.node, name) is 'tables of a schema of a node, with their columns';

-- Foreign tables that are gone, by whoever dropped them; a schema with all of them.
create function courier.forget_foreign_tables(node_name name) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from courier.foreign_import i
    where i.node_name = forget_foreign_tables.node_name
      and not exists (select from pg_namespace n where n.nspname = i.local_schema);
    delete from courier.foreign_table t
    where t.node_name = forget_foreign_tables.node_name
      and not exists (select from pg_class c where c.oid = t.relation and c.relkind = 'f')
$$;
revoke execute on function courier.forget_foreign_tables(name) from public;
comment on function courier.forget_foreign_tables(name) is 'takes foreign tables that were dropped out of the record';

-- Types that a table needs and that are not here.
create function courier.require_known_types(described jsonb, remote_table text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    unknown record;
begin
    select c ->> 'name' as name, c ->> 'type' as type into unknown
    from jsonb_array_elements(described -> 'columns') with ordinality u (c, n)
    where to_regtype(c ->> 'type') is null order by n limit 1;
    if found then
        raise exception using
            errcode = 'undefined_object',
            message = format('type %s of column %s of %s is not known here', unknown.type, unknown.name, remote_table),
            hint = 'Create the type, or its extension, here; or leave the table out, with tables => ''{...}''.';
    end if;
end
$$;
revoke execute on function courier.require_known_types(jsonb, text) from public;
comment on function courier.require_known_types(jsonb, text) is 'refuses a table of a node that has columns of types that are not here';

create function courier.import_one_table(
    node courier.node, server name, remote_schema name, local_schema name, remote_table text, described jsonb) returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    made regclass;
begin
    perform courier.require_known_types(described, format('%I.%I', remote_schema, remote_table));
    if to_regclass(format('%I.%I', local_schema, remote_table)) is not null then
        raise exception using
            errcode = 'duplicate_table',
            message = format('%I.%I exists already', local_schema, remote_table),
            hint = 'Drop or rename it, import into another schema, or leave the table out, with tables => ''{...}''.';
    end if;
    execute format('import foreign schema %I limit to (%I) from server %I into %I', remote_schema, remote_table, server, local_schema);
    made := to_regclass(format('%I.%I', local_schema, remote_table));
    if made is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('%I.%I of node "%s" could not be imported', remote_schema, remote_table, node.node_name),
            hint = format('It was there a moment ago. If it was dropped meanwhile, call this again; '
                'else see that the role of SERVER %I is the same as that of SERVER %I.', server, node.server_name);
    end if;
    insert into courier.foreign_table (relation, node_name, remote_schema, local_schema, remote_table, remote_oid, columns)
    values (made, node.node_name, remote_schema, local_schema, remote_table, (described ->> 'oid')::oid, described -> 'columns');
    return made;
end
$$;
revoke execute on function courier.import_one_table(courier.node, name, name, name, text, jsonb) from public;
comment on function courier.import_one_table(courier.node, name, name, name, text, jsonb) is 'imports one table of a node and records it';

create function courier.import_tables(
    node_name text, remote_schema text, local_schema text, tables name[] default null) returns setof regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    server name;
    there name;
    here name;
    found_there jsonb;
    wanted record;
    wrong text;
begin
    perform courier.require_administrator();
    perform courier.lock_foreign_tables();
    node := courier.find_node(import_tables.node_name);
    there := courier.require_name('schema', import_tables.remote_schema);
    here := courier.require_name('schema', import_tables.local_schema);
    if cardinality(tables) = 0 or array_position(tables, null) is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'tables must be names of tables',
            hint = 'Leave it out, or say null, to import all of the schema.';
    elsif not exists (select from pg_namespace n where n.nspname = here) then
        raise exception using
            errcode = 'invalid_schema_name',
            message = format('schema "%s" does not exist', here),
            hint = format('Run CREATE SCHEMA %I.', here);
    elsif here in ('courier', 'courier_target', 'pg_catalog', 'information_schema') then
        raise exception using
            errcode = 'invalid_schema_name',
            message = format('tables cannot be imported into schema "%s"', here),
            hint = 'Import into a schema of your own.';
    elsif not has_schema_privilege(here, 'USAGE') or not has_schema_privilege(here, 'CREATE') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for schema "%s"', here),
            hint = format('Run GRANT USAGE, CREATE ON SCHEMA %I TO %I.', here, current_user);
    end if;
    server := courier.sync_foreign_server(node);
    found_there := courier.remote_tables(node, there);
    if not (found_there ->> 'exists')::boolean then
        raise exception using
            errcode = 'invalid_schema_name',
            message = format('schema "%s" does not exist on node "%s"', there, node.node_name),
            hint = 'Name a schema of the node.';
    elsif not (found_there ->> 'usable')::boolean then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for schema "%s" on node "%s"', there, node.node_name),
            hint = format('Run there: GRANT USAGE ON SCHEMA %I TO %I;', there, found_there ->> 'role');
    end if;
    select string_agg(t, ', ' order by t) into wrong from unnest(tables) t where not found_there -> 'tables' ? t::text;
    if wrong is not null then
        raise exception using
            errcode = 'undefined_table',
            message = format('schema "%s" of node "%s" has no table %s', there, node.node_name, wrong),
            hint = 'Name tables, views, materialized views or foreign tables of that schema.';
    end if;
    select string_agg(format('%I.%I', there, e.key), ', ' order by e.key) into wrong
    from jsonb_each(found_there -> 'tables') e
    where not (e.value ->> 'may_select')::boolean
      and case when tables is null then not (e.value ->> 'part')::boolean else e.key = any (tables) end;
    if wrong is not null and tables is not null then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for table %s on node "%s"', wrong, node.node_name),
            hint = format('Run there: GRANT SELECT ON %s TO %I;', wrong, found_there ->> 'role');
    elsif wrong is not null then
        raise warning using
            errcode = 'insufficient_privilege',
            message = format('the role of node "%s" may not read %s', node.node_name, wrong),
            hint = format('To read the foreign tables, run there: GRANT SELECT ON %s TO %I;', wrong, found_there ->> 'role');
    end if;

    perform courier.forget_foreign_tables(node.node_name);
    insert into courier.foreign_import as i (node_name, remote_schema, local_schema, all_tables)
    values (node.node_name, there, here, tables is null)
    on conflict on constraint foreign_import_pkey do update set all_tables = i.all_tables or excluded.all_tables;
    for wanted in
        select e.key, e.value from jsonb_each(found_there -> 'tables') e
        where case when tables is null then not (e.value ->> 'part')::boolean else e.key = any (tables) end
          and not exists (select from courier.foreign_table t
                          where t.node_name = node.node_name and t.remote_schema = there
                            and t.local_schema = here and t.remote_table = e.key)
        order by e.key
    loop
        return next courier.import_one_table(node, server, there, here, wanted.key, wanted.value);
    end loop;
end
$$;
comment on function courier.import_tables(text, text, text, name[]) is
    'imports tables of a node as foreign tables, those that are not yet; returns them';
