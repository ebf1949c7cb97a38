-- The server of postgres_fdw of a node, made from the node's own definition, and
-- the end of it.

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
            hint = format('Run ALTER SERVER %I RENAME TO ..., or drop it.', server);
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
            hint = case failed_state
                when '42501' then format('Run GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO %I. Besides, you have to be a member of the role '
                                         'that owns the extension.', current_user)
                else format('See that server %I and its user mappings have options that postgres_fdw knows, too.', node.server_name) end;
    end;
    perform set_config('log_min_error_statement', logged, true)
    where current_setting('log_min_error_statement') <> logged;
    return server;
end
$$;
revoke execute on function courier.sync_foreign_server(courier.node) from public;
comment on function courier.sync_foreign_server(courier.node) is
    'makes the server of postgres_fdw and the user mappings of a node what the node''s own are; its name';

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
