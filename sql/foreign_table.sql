-- Tables of a node as foreign tables: a server of postgres_fdw made from the node's
-- own definition, and what was imported through it.

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

create function courier.foreign_server_name(node_name name) returns name
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when octet_length('courier_fdw_' || node_name::text) <= 63 then 'courier_fdw_' || node_name::text
        else 'courier_fdw_' || md5(node_name::text)
    end::name
$$;
comment on function courier.foreign_server_name(name) is 'name of the server of postgres_fdw that import_tables makes for a node';

create function courier.fdw_accepts(validator oid, option text, catalog regclass) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('select %s($1, $2)', validator::regproc) using array[option], catalog::oid;
    return true;
exception when fdw_invalid_option_name or syntax_error or invalid_parameter_value then
    return false;
end
$$;
revoke execute on function courier.fdw_accepts(oid, text, regclass) from public;
comment on function courier.fdw_accepts(oid, text, regclass) is 'whether a foreign data wrapper knows an option, given as key=value';

-- What brings options to those that are wanted; others that are there stay. Null
-- if there is nothing to do.
create function courier.option_changes(present text[], wanted text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select 'options (' || string_agg(format('%s %I %L',
               case when exists (select from unnest(present) p where split_part(p, '=', 1) = split_part(w, '=', 1)) then 'set' else 'add' end,
               split_part(w, '=', 1), substr(w, strpos(w, '=') + 1)), ', ') || ')'
    from unnest(wanted) w
    where w <> all (coalesce(present, '{}'))
$$;
revoke execute on function courier.option_changes(text[], text[]) from public;
comment on function courier.option_changes(text[], text[]) is 'OPTIONS clause that makes options what they should be; null if they are';

-- The user mappings of the node's own server whose options this role may see. A
-- mapping without any has none to hide.
create function courier.sync_foreign_mappings(node courier.node, server name, validator oid) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    mapping record;
    wanted text[];
    changes text;
begin
    for mapping in
        select case m.umuser when 0 then 'public' else quote_ident(m.usename) end as role, m.umoptions,
               p.umid is not null as exists, p.umoptions as present
        from pg_user_mappings m
        left join pg_user_mappings p on p.srvname = server and p.umuser = m.umuser
        where m.srvname = node.server_name
          and (m.umoptions is not null or not exists (
              select from pg_user_mappings o where o.srvname = node.server_name and o.umoptions is not null))
    loop
        wanted := array(select o from unnest(mapping.umoptions) o where courier.fdw_accepts(validator, o, 'pg_user_mapping'));
        changes := courier.option_changes(mapping.present, wanted);
        if not mapping.exists then
            execute format('create user mapping for %s server %I', mapping.role, server);
        end if;
        if changes is not null then
            execute format('alter user mapping for %s server %I %s', mapping.role, server, changes);
        end if;
    end loop;
end
$$;
revoke execute on function courier.sync_foreign_mappings(courier.node, name, oid) from public;
comment on function courier.sync_foreign_mappings(courier.node, name, oid) is
    'makes the user mappings of a node''s server of postgres_fdw what those of its own server are';

-- The options are the node's, as they are now, whatever ALTER SERVER and ALTER
-- USER MAPPING have made of them. Secrets go from user mapping to user mapping.
-- What postgres_fdw does not know, it sets itself.
create function courier.sync_foreign_server(node courier.node) returns name
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    server name := courier.foreign_server_name(node.node_name);
    validator oid;
    present record;
    wanted text[];
    changes text;
    failed_state text;
    failed_message text;
    logged text := current_setting('log_min_error_statement');
begin
    select w.fdwvalidator into validator from pg_foreign_data_wrapper w where w.fdwname = 'postgres_fdw';
    if validator is null then
        raise exception using
            errcode = 'undefined_object',
            message = 'extension postgres_fdw is not installed in this database',
            hint = 'Run CREATE EXTENSION postgres_fdw.';
    end if;
    select w.fdwname, s.srvoptions into present
    from pg_foreign_server s join pg_foreign_data_wrapper w on w.oid = s.srvfdw where s.srvname = server;
    if present.fdwname <> 'postgres_fdw' then
        raise exception using
            errcode = 'duplicate_object',
            message = format('foreign server "%s" exists already, and is not of postgres_fdw', server),
            hint = 'Rename or drop it.';
    end if;
    if (select r.rolsuper from pg_roles r where r.rolname = current_user) then
        perform set_config('log_min_error_statement', 'panic', true);
    end if;
    begin
        select array_agg(o) into wanted from pg_foreign_server s cross join unnest(s.srvoptions) o
        where s.srvname = node.server_name and courier.fdw_accepts(validator, o, 'pg_foreign_server');
        changes := courier.option_changes(present.srvoptions, wanted);
        if present.fdwname is null then
            execute format('create server %I foreign data wrapper postgres_fdw', server);
            execute format('comment on server %I is %L', server,
                           format('tables of node %s; made by courier.import_tables', node.node_name));
        end if;
        if changes is not null then
            execute format('alter server %I %s', server, changes);
        end if;
        perform courier.sync_foreign_mappings(node, server, validator);
        if present.fdwname is null then
            execute format('alter server %I owner to %I', server,
                           (select pg_get_userbyid(e.extowner) from pg_extension e where e.extname = 'pg_courier'));
        end if;
    exception when others then
        -- the context of the original error would quote a password
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text;
        raise exception using
            errcode = failed_state,
            message = format('server of postgres_fdw for node "%s" could not be made: %s', node.node_name, failed_message),
            hint = format('See that server %I and its user mappings have options that postgres_fdw knows, too, and that '
                          'you are a member of the role that owns the extension.', node.server_name);
    end;
    perform set_config('log_min_error_statement', logged, true)
    where current_setting('log_min_error_statement') <> logged;
    return server;
end
$$;
revoke execute on function courier.sync_foreign_server(courier.node) from public;
comment on function courier.sync_foreign_server(courier.node) is
    'makes the server of postgres_fdw and the user mappings of a node what the node''s own are; its name';

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

-- Foreign tables that are gone, by whoever dropped them.
create function courier.forget_foreign_tables(node_name name) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
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
            errcode = 'insufficient_privilege',
            message = format('%I.%I of node "%s" could not be imported', remote_schema, remote_table, node.node_name),
            hint = format('See that the role of SERVER %I is the same as that of SERVER %I.', server, node.server_name);
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

-- drop_node(): what still needs the node is named; what nobody needs goes with it.
create function courier.leave_node(node courier.node) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    users text;
    server name := courier.foreign_server_name(node.node_name);
begin
    perform courier.lock_foreign_tables();
    perform courier.forget_foreign_tables(node.node_name);
    select string_agg(courier.qualified_name(t.relation), ', ' order by t.relation::text) into users
    from courier.foreign_table t where t.node_name = node.node_name;
    if users is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('node "%s" is in use by foreign tables', node.node_name),
            detail = format('Foreign tables: %s.', users),
            hint = format('Drop them first: DROP FOREIGN TABLE %s;', users);
    end if;
    select string_agg(s.target, ', ' order by s.target) into users
    from courier.copy_table_status s where s.node_name = node.node_name and s.state = 'copying';
    if users is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format('node "%s" is in use by copies under way', node.node_name),
            detail = format('Tables that are copied into: %s.', users),
            hint = 'Wait until they are done, or cancel them: see SELECT * FROM courier.copy_table_status.';
    end if;
    select string_agg(format('%L, %L, %L', s.node_name, s.source, s.target), '; ' order by s.target) into users
    from courier.copy_table_status s
    where s.node_name = node.node_name and s.direction = 'push' and s.state = 'interrupted' and s.chunks > 0;
    if users is not null then
        raise exception using
            errcode = 'object_in_use',
            message = format('node "%s" keeps the progress of copies that were interrupted', node.node_name),
            detail = format('They are: %s.', users),
            hint = format('Finish them with courier.copy_table(), or give them up with SELECT courier.forget_copies(%L).', node.node_name);
    end if;
    delete from courier.table_copy c where c.node_name = node.node_name;
    delete from courier.foreign_import i where i.node_name = node.node_name;
    delete from courier.foreign_refresh f where f.node_name = node.node_name;
    if exists (select from pg_foreign_server s join pg_foreign_data_wrapper w on w.oid = s.srvfdw
               where s.srvname = server and w.fdwname = 'postgres_fdw') then
        if exists (select from pg_foreign_table t join pg_foreign_server s on s.oid = t.ftserver where s.srvname = server) then
            raise exception using
                errcode = 'dependent_objects_still_exist',
                message = format('server "%s" of node "%s" has foreign tables that were not imported by pg_courier', server, node.node_name),
                hint = format('Drop them, or run DROP SERVER %I CASCADE.', server);
        end if;
        execute format('drop server %I cascade', server);
    end if;
end
$$;
revoke execute on function courier.leave_node(courier.node) from public;
comment on function courier.leave_node(courier.node) is
    'refuses while foreign tables or copies need a node; else removes what is left of them';
