-- Nodes: names for databases, how to reach them, and whether they answer.

create function courier.set_local_node(node_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted name;
    present name;
begin
    perform courier.require_administrator();
    wanted := courier.require_name('node', set_local_node.node_name);
    perform courier.lock_configuration();
    select l.node_name into present from courier.local_node l;
    if present is null then
        insert into courier.local_node (node_name) values (wanted);
    elsif present <> wanted then
        if exists (select from courier.subscription) then
            raise exception using
                errcode = 'object_in_use',
                message = format('this database is known as node "%s" to the targets of its subscriptions', present),
                hint = 'Drop the subscriptions first.';
        end if;
        update courier.local_node l set node_name = wanted;
    end if;
end
$$;
comment on function courier.set_local_node(text) is 'says what this database is called as a node';

create function courier.find_node(node_name text) returns courier.node
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    wanted name := courier.require_name('node', find_node.node_name);
begin
    select n.* into node from courier.node n where n.node_name = wanted;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('node "%s" does not exist', wanted),
            hint = courier.known_names('node', array(select n.node_name::text from courier.node n))
                || ' Create one with SELECT courier.create_node(...).';
    end if;
    return node;
end
$$;
revoke execute on function courier.find_node(text) from public;
comment on function courier.find_node(text) is 'the node of that name, or an error with the names that exist';

-- Options of the foreign server and of the user mapping that a DSN comes to.
-- What the DSN leaves open and would let a dead link hang is set here: dblink
-- itself does not bound a connection attempt by statement_timeout. A node that
-- has vanished is noticed within 15 seconds.
create function courier.dsn_options(
    node_name name, dsn text, out server_options text[], out mapping_options text[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    with given as (
        select d.keyword, d.value, d.secret or d.keyword = 'user' as personal
        from courier.parse_dsn(dsn_options.dsn) d
    ), complete as (
        select g.keyword, g.value, g.personal from given g
        union all
        select s.keyword, s.value, false
        from (values ('connect_timeout', '5'),
                     ('keepalives', '1'),
                     ('keepalives_idle', '5'),
                     ('keepalives_interval', '3'),
                     ('keepalives_count', '3'),
                     ('tcp_user_timeout', '15000'),
                     ('application_name', 'pg_courier')) s (keyword, value)
        where not exists (select from given g where g.keyword = s.keyword)
    )
    select array_agg(c.keyword || '=' || c.value order by c.keyword) filter (where not c.personal),
           coalesce(array_agg(c.keyword || '=' || c.value order by c.keyword) filter (where c.personal), '{}')
    into server_options, mapping_options
    from complete c;
exception
    -- libpq quotes the piece it stumbled over, which may be one of a password.
    when invalid_parameter_value then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('dsn of node "%s" does not parse', node_name),
            hint = 'Write it as libpq does: ''host=... port=... dbname=... user=... password=...'' or '
                || '''postgresql://user:password@host:port/dbname''; a value with a space goes in single quotes.';
end
$$;
revoke execute on function courier.dsn_options(name, text) from public;
comment on function courier.dsn_options(name, text) is
    'takes a DSN apart into options of a foreign server and of a user mapping, as key=value, sorted';

create function courier.option_list(options text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        'options (' || string_agg(
            format('%I %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') || ')',
        '')
    from unnest(options) o
$$;
revoke execute on function courier.option_list(text[]) from public;
comment on function courier.option_list(text[]) is 'OPTIONS clause for key=value strings';

-- Makes the foreign server and the user mapping of a node. The mapping is for
-- PUBLIC, but only who has USAGE on the server can use it, and only its owner,
-- the role that owns the extension, can read it: so every administrator
-- reaches the node, and nobody else.
create function courier.create_node_server(
    node_name name, server_name name, server_options text[], mapping_options text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner name;
    failed_state text;
    failed_message text;
begin
    if exists (select from pg_foreign_server s where s.srvname = create_node_server.server_name) then
        raise exception using
            errcode = 'duplicate_object',
            message = format('foreign server "%s" exists already', server_name),
            hint = format('Drop it, or use it with create_node(%L, server => %L).', node_name, server_name);
    end if;
    select pg_get_userbyid(e.extowner) into owner from pg_extension e where e.extname = 'pg_courier';
    begin
        execute format('create server %I foreign data wrapper dblink_fdw %s',
                       server_name, courier.option_list(server_options));
        execute format('comment on server %I is %L', server_name,
                       format('how pg_courier reaches node %s; made by courier.create_node', node_name));
        execute format('create user mapping for public server %I %s',
                       server_name, courier.option_list(mapping_options));
        execute format('alter server %I owner to %I', server_name, owner);
    exception when others then
        -- The context of the original error would quote the statement, and
        -- with it the password.
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text;
        raise exception using
            errcode = failed_state,
            message = format('foreign server of node "%s" could not be created: %s', node_name, failed_message),
            hint = 'Leave client_encoding and replication out of the dsn; for anything else, make a server of '
                || 'dblink_fdw and a user mapping yourself and name it with create_node(..., server => ...).';
    end;
end
$$;
revoke execute on function courier.create_node_server(name, name, text[], text[]) from public;
comment on function courier.create_node_server(name, name, text[], text[]) is
    'makes the foreign server and user mapping of a node';

-- Name of the server that create_node makes for a node, within 63 bytes.
create function courier.node_server_name(node_name name) returns name
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when octet_length('courier_' || node_name::text) <= 63 then 'courier_' || node_name::text
        else 'courier_' || md5(node_name::text)
    end::name
$$;
comment on function courier.node_server_name(name) is 'name of the foreign server that create_node makes for a node';

create function courier.create_node(node_name text, dsn text default null, server text default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted name;
    wanted_server name;
    wanted_options record;
    present courier.node;
    same boolean;
    logged text := current_setting('log_min_error_statement');
begin
    perform courier.require_administrator();
    -- From here on an error does not write the statement, and with it the
    -- password in the dsn, to the server's log.
    if (select r.rolsuper from pg_roles r where r.rolname = current_user) then
        perform set_config('log_min_error_statement', 'panic', true);
    end if;

    wanted := courier.require_name('node', create_node.node_name);
    if (create_node.dsn is null) = (create_node.server is null) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('node "%s" needs either a dsn or a server', wanted),
            hint = 'Give a libpq connection string as dsn, or the name of an existing foreign server of '
                || 'dblink_fdw as server, and not both.';
    end if;
    if create_node.server is not null then
        wanted_server := courier.require_name('server', create_node.server);
        if not exists (
            select from pg_foreign_server s
            join pg_foreign_data_wrapper w on w.oid = s.srvfdw
            where s.srvname = wanted_server and w.fdwname = 'dblink_fdw') then
            raise exception using
                errcode = 'undefined_object',
                message = format('foreign server "%s" of dblink_fdw does not exist', wanted_server),
                hint = format('Make it with CREATE SERVER %I FOREIGN DATA WRAPPER dblink_fdw OPTIONS (...), and a '
                              'user mapping for it; or give create_node a dsn.', wanted_server);
        end if;
    else
        wanted_server := courier.node_server_name(wanted);
        wanted_options := courier.dsn_options(wanted, create_node.dsn);
    end if;

    perform courier.lock_configuration();
    select n.* into present from courier.node n where n.node_name = wanted;
    if not found then
        if create_node.dsn is not null then
            perform courier.create_node_server(
                wanted, wanted_server, wanted_options.server_options, wanted_options.mapping_options);
        end if;
        insert into courier.node (node_name, server_name, server_owned)
        values (wanted, wanted_server, create_node.dsn is not null);
    else
        same := present.server_name = wanted_server
            and present.server_owned = (create_node.dsn is not null);
        if same and present.server_owned then
            select array(select o from unnest(m.srvoptions) o order by o) = wanted_options.server_options
               and array(select o from unnest(m.umoptions) o order by o) = wanted_options.mapping_options
            into same
            from (select s.srvoptions, u.umoptions
                  from pg_foreign_server s
                  join pg_user_mappings u on u.srvid = s.oid and u.umuser = 0
                  where s.srvname = wanted_server) m;
        end if;
        if same is not true then
            raise exception using
                errcode = 'duplicate_object',
                message = format('node "%s" exists already with another definition', wanted),
                hint = format('Change it with ALTER SERVER %I OPTIONS (SET ...) and ALTER USER MAPPING FOR PUBLIC '
                              'SERVER %1$I OPTIONS (SET ...), or drop it with SELECT courier.drop_node(%L).',
                              present.server_name, wanted);
        end if;
    end if;
    perform set_config('log_min_error_statement', logged, true)
    where current_setting('log_min_error_statement') <> logged;
end
$$;
comment on function courier.create_node(text, text, text) is
    'names a database that changes can be sent to: by a DSN, or by an existing foreign server of dblink_fdw';

create function courier.drop_node(node_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    users text;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    node := courier.find_node(drop_node.node_name);
    select string_agg(s.subscription_name, ', ' order by s.subscription_name) into users
    from courier.subscription s where s.node_name = node.node_name;
    if users is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('node "%s" is in use by subscriptions', node.node_name),
            detail = format('Subscriptions: %s.', users),
            hint = 'Drop them first with SELECT courier.drop_subscription(...).';
    end if;
    perform courier.leave_node(node);
    -- Subscriptions dropped earlier in this transaction still have to be
    -- removed from the target, for which the server is needed.
    set constraints courier.subscription_end immediate;
    set constraints courier.subscription_end deferred;

    delete from courier.node n where n.node_name = node.node_name;
    if node.server_owned and exists (select from pg_foreign_server s where s.srvname = node.server_name) then
        execute format('drop user mapping if exists for public server %I', node.server_name);
        execute format('drop server %I cascade', node.server_name);
    end if;
end
$$;
comment on function courier.drop_node(text) is
    'forgets a node that no subscription, foreign table or copy uses, and the foreign servers that were made for it';

-- Opens a dblink connection under a name that is ours alone; one that a
-- canceled call left open is closed first.
create function courier.open_connection(connection text, server_name name) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dblink name := courier.dblink_schema();
    open_ones text[];
begin
    execute format('select %I.dblink_get_connections()', dblink) into open_ones;
    if connection = any (open_ones) then
        execute format('select %I.dblink_disconnect($1)', dblink) using connection;
    end if;
    execute format('select %I.dblink_connect($1, $2)', dblink) using connection, server_name::text;
end
$$;
revoke execute on function courier.open_connection(text, name) from public;
comment on function courier.open_connection(text, name) is
    'opens a named dblink connection to a foreign server, after closing one left open under that name';

create type courier.ping_result as (
    node_name name,
    server_version text,
    database_name name,
    role_name name,
    in_recovery boolean,
    round_trip interval,
    clock_offset interval
);
comment on type courier.ping_result is
    'answer of ping: what is at the other end, time for a question and its answer, and how far its clock is ahead of ours';

-- Opens a connection of its own, so that it tells what a shipper would meet.
-- An error of connecting bears libpq's words as its detail; those may name
-- host, port, database and user, never a password.
create function courier.ping(node_name text) returns courier.ping_result
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    answer courier.ping_result;
    dblink name;
    connection text := 'courier_ping_' || pg_backend_pid();
    connected boolean := false;
    asked timestamptz;
    told timestamptz;
    answered timestamptz;
    failed_state text;
    failed_message text;
    failed_detail text;
begin
    perform courier.require_administrator();
    node := courier.find_node(ping.node_name);
    dblink := courier.dblink_schema();
    begin
        perform courier.open_connection(connection, node.server_name);
        connected := true;
        execute format('select %I.dblink_exec($1, $2)', dblink)
            using connection, 'set statement_timeout = ''10s''; set search_path = pg_catalog';
        execute format($q$
            select $3, d.* from %I.dblink($1, $2)
                as d (server_version text, database_name name, role_name name, in_recovery boolean)$q$, dblink)
            into answer
            using connection,
                'select current_setting(''server_version''), current_database(), current_user, pg_is_in_recovery()',
                node.node_name;
        asked := clock_timestamp();
        execute format('select d.told from %I.dblink($1, $2) as d (told timestamptz)', dblink)
            into told using connection, 'select clock_timestamp()';
        answered := clock_timestamp();
        execute format('select %I.dblink_disconnect($1)', dblink) using connection;
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail;
        if connected then
            execute format('select %I.dblink_disconnect($1)', dblink) using connection;
        end if;
        raise exception using
            errcode = failed_state,
            message = format('node "%s" cannot be reached: %s', node.node_name, failed_message),
            detail = failed_detail,
            hint = format('See that the server runs and lets this role in; set the address right with ALTER SERVER %I '
                          'OPTIONS (SET host ...), and user or password with ALTER USER MAPPING FOR PUBLIC SERVER %1$I '
                          'OPTIONS (SET password ...).', node.server_name);
    end;
    answer.round_trip := answered - asked;
    answer.clock_offset := told - (asked + (answered - asked) / 2);
    return answer;
end
$$;
comment on function courier.ping(text) is
    'connects to a node and tells what is there, how long an answer takes and how far its clock is off; an error says why it cannot be reached';
