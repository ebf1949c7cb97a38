-- The beginning of a call of courier.copy_table(), in its worker: what is to be
-- copied how, what is wrong with it, and where an earlier call has come to.

-- The copy a call goes on with or begins; nobody else is at it from here on.
create function courier.take_copy(request jsonb, definition jsonb) returns courier.table_copy
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
    patience text := current_setting('lock_timeout');
    other int;
begin
    insert into courier.table_copy (node_name, direction, source, target, definition)
    values (request ->> 'node', request ->> 'direction', request ->> 'source', request ->> 'target', definition)
    on conflict on constraint table_copy_key do nothing;
    select c.* into copy from courier.table_copy c
    where c.node_name = request ->> 'node' and c.direction = request ->> 'direction' and c.target = request ->> 'target';
    -- the worker of a call that has just been cut short may take a moment to end
    perform set_config('lock_timeout', '5s', true);
    begin
        perform pg_advisory_lock(courier.table_copy_lock_class(), copy.copy_id::int);
    exception when lock_not_available then
        select s.pid into other from courier.copy_table_status s where s.copy_id = copy.copy_id;
        raise exception using
            errcode = 'object_in_use',
            message = format('%s is being copied into already', copy.target),
            detail = format('The process that does it has PID %s.', other),
            hint = 'Wait until it is done: see SELECT * FROM courier.copy_table_status.';
    end;
    perform set_config('lock_timeout', patience, true);
    -- what the other had come to
    select c.* into copy from courier.table_copy c where c.copy_id = copy.copy_id for update;
    if copy.finished_at is null and copy.definition <> definition
       and not coalesce((request -> 'options' ->> 'restart')::boolean, false) and copy.chunks > 0 then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('an unfinished copy of %s into %s has other columns, another key or another source',
                             copy.source, copy.target),
            hint = 'Make the same call again to finish it, or say options => ''{"restart": true}'' to give it up.';
    end if;
    return copy;
end
$$;
revoke execute on function courier.take_copy(jsonb, jsonb) from public;
comment on function courier.take_copy(jsonb, jsonb) is
    'the copy into a target, new if need be, locked for this session; an error if it is another one or somebody else is at it';

-- A table without a key is gone through by place, which a change of it moves rows
-- about in: an interrupted copy of it goes on only if it is as it was.
create function courier.require_same_places(
    node_name name, connection text, plan jsonb, source jsonb, source_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    changed boolean;
begin
    changed := (select jsonb_agg(p ->> 'filenode') from jsonb_array_elements(plan -> 'parts') p)
            is distinct from (select jsonb_agg(p ->> 'filenode') from jsonb_array_elements(source -> 'parts') p);
    if not changed then
        changed := courier.ask_side(node_name, connection, (
            select 'select to_json(' || string_agg(format('exists (select %s where age(xmin) <= age(%L::xid8::xid))',
                                                          'from ' || (p ->> 'from'), plan ->> 'snapshot_xmin'), ' or ') || ')'
            from jsonb_array_elements(plan -> 'parts') p))::boolean;
    end if;
    if changed then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s has changed since its copy was interrupted', source_name),
            detail = 'It has no key to go by: some of its rows would be missing, or there twice.',
            hint = 'Begin again with options => ''{"restart": true, "on_existing": "truncate"}'', or name columns to go by in option "key".';
    end if;
end
$$;
revoke execute on function courier.require_same_places(name, text, jsonb, jsonb, text) from public;
comment on function courier.require_same_places(name, text, jsonb, jsonb, text) is
    'refuses to go on with the copy of a table without a key that has changed meanwhile';

-- Begins or goes on. Everything is checked before anything is changed.
create function courier.copy_table_open(
    request jsonb, out copy_id int8, out direction text, out "position" text, out job jsonb)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    link constant text := 'courier_copy';
    options jsonb := request -> 'options';
    node courier.node;
    copy courier.table_copy;
    source jsonb;
    target jsonb;
    source_link text;
    target_link text;
    source_place text;
    target_place text;
    source_name text := request ->> 'source';
    target_name text := request ->> 'target';
    is_query boolean := (request ->> 'query')::boolean;
    asked jsonb := jsonb_build_object('source', request -> 'source', 'key', options -> 'key', 'columns', options -> 'columns');
    everything text := request ->> 'source';
    columns jsonb;
    key jsonb;
    parts jsonb;
    whole boolean := false;
    going_on boolean;
    holds_rows boolean;
    progress jsonb;
begin
    direction := request ->> 'direction';
    node := courier.find_node(request ->> 'node');
    perform courier.open_node_link(node, link);
    if direction = 'pull' then
        source_link := link;
        source_place := format('on node "%s"', node.node_name);
        target_place := 'in this database';
        -- what is found out about a table without a key has to be of the
        -- snapshot that it is read with
        perform courier.node_run(node.node_name, link, 'begin isolation level repeatable read read only');
    else
        target_link := link;
        source_place := 'in this database';
        target_place := format('on node "%s"', node.node_name);
    end if;

    if is_query then
        -- its names are those of the node's role
        perform courier.node_run(node.node_name, link, 'set search_path to default');
        source := courier.describe_query(node.node_name, link, source_name);
        everything := source_name || E'\n as q';
    else
        source := courier.ask_side(node.node_name, source_link, courier.describe_relation_query(
            case direction when 'pull' then courier.remote_name(source_name) else source_name end));
        perform courier.require_copy_source(source, source_name, source_place, options, direction);
        source_name := source ->> 'name';
        everything := source_name;
        if direction = 'pull' and source ->> 'kind' = 'v' then
            perform courier.node_run(node.node_name, link, 'set search_path to default');
        end if;
    end if;
    target := courier.ask_side(node.node_name, target_link, courier.describe_relation_query(target_name));
    if target is not null then
        perform courier.require_copy_target(target, target_name, target_place, options, direction);
    elsif direction = 'push' then
        raise exception using
            errcode = 'undefined_table',
            message = format('table %s does not exist %s', target_name, target_place),
            hint = 'Create it there. If the node''s table was to be copied here, say {"direction": "pull"}.';
    end if;
    columns := courier.copy_columns(node.node_name, source, target, options, source_name, target_name);
    key := courier.copy_key(source, options, source_name);
    if key is not null then
        parts := jsonb_build_array(jsonb_build_object('from', everything));
    elsif not is_query and not exists (select from jsonb_array_elements(source -> 'parts') p where p ->> 'kind' not in ('r', 'm')) then
        parts := source -> 'parts';
    elsif direction = 'pull' then
        whole := true;
        parts := jsonb_build_array(jsonb_build_object('from', everything));
    else
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('%s has no key to go by', source_name),
            hint = 'Name columns that tell its rows apart: options => ''{"key": ["id"]}''.';
    end if;

    copy := courier.take_copy(request, asked);
    copy_id := copy.copy_id;
    going_on := copy.finished_at is null and copy.chunks > 0
        and not coalesce((options ->> 'restart')::boolean, false)
        and (direction = 'push' or copy.relation = (target ->> 'oid')::oid);
    if direction = 'push' and copy.finished_at is null and not coalesce((options ->> 'restart')::boolean, false)
       and courier.ask_side(node.node_name, link, 'select to_json(to_regclass(''courier_target.table_copy'') is not null)')::boolean then
        progress := courier.ask_side(node.node_name, link, format(
            'select to_json(p) from courier_target.table_copy p where p.copy = %L', copy.progress_key));
    end if;
    if direction = 'push' and going_on and progress is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('node "%s" does not know of the copy of %s that was interrupted', node.node_name, source_name),
            hint = 'Begin again with options => ''{"restart": true, "on_existing": "truncate"}''.';
    end if;
    going_on := going_on or coalesce((progress ->> 'chunks')::int8 > 0, false);

    holds_rows := target is not null and courier.ask_side(node.node_name, target_link, format(
        'select to_json(exists (select from %s))', target_name))::boolean;
    perform courier.require_copy_rows(holds_rows, going_on, coalesce((progress ->> 'rows')::int8, copy.rows),
                                      options, target_name, target_place);
    if going_on then
        if progress is not null then
            copy."position" := progress ->> 'position';
            copy.rows := progress ->> 'rows';
            copy.bytes := progress ->> 'bytes';
            copy.chunks := progress ->> 'chunks';
        end if;
        if key is null and not whole then
            perform courier.require_same_places(node.node_name, source_link, copy.plan, source, source_name);
        end if;
    else
        copy."position" := '';
        copy.rows := 0;
        copy.bytes := 0;
        copy.chunks := 0;
        copy.started_at := clock_timestamp();
    end if;

    if target is null then
        copy.relation := courier.create_staging_table(target_name, columns);
    elsif direction = 'pull' then
        copy.relation := target ->> 'oid';
        if not going_on and holds_rows and options ->> 'on_existing' = 'truncate' then
            execute format('truncate table %s', target_name);
        end if;
    else
        copy.relation := source ->> 'oid';
        if not going_on then
            perform courier.node_run(node.node_name, link, courier.forget_push_command(copy.progress_key));
            copy.progress_key := gen_random_uuid();
            perform courier.node_run(node.node_name, link, courier.begin_push_command(
                copy.progress_key, target_name, holds_rows and options ->> 'on_existing' = 'truncate'));
        end if;
    end if;

    copy.plan := jsonb_build_object(
        'columns', columns, 'key', key, 'parts', parts, 'whole', whole,
        'encoding', courier.ask_side(node.node_name, target_link, 'select to_json(getdatabaseencoding())'),
        'snapshot_xmin', case when going_on then copy.plan -> 'snapshot_xmin' else source -> 'snapshot_xmin' end,
        'rows', coalesce((options ->> 'chunk_rows')::int8, 20000),
        'bytes', coalesce((options ->> 'chunk_bytes')::int8, 4 * 1024 * 1024));
    update courier.table_copy c
    set source = source_name, relation = copy.relation, definition = asked, plan = copy.plan,
        progress_key = copy.progress_key, "position" = copy."position", rows = copy.rows, bytes = copy.bytes,
        chunks = copy.chunks, started_at = copy.started_at, updated_at = clock_timestamp(),
        run_rows = copy.rows, run_started_at = clock_timestamp(), finished_at = null,
        last_error = null, last_error_sqlstate = null,
        estimated_rows = (courier.ask_side(node.node_name, source_link, 
            'explain (format json) select * from ' || everything) -> 0 -> 'Plan' ->> 'Plan Rows')::int8
    where c.copy_id = copy.copy_id;
    "position" := copy."position";
    job := jsonb_build_object('plan', copy.plan, 'progress_key', copy.progress_key, 'target', copy.target, 'node', copy.node_name);
    if direction = 'pull' then
        if key is not null then
            perform courier.node_run(node.node_name, link, 'commit');
        end if;
        perform courier.copy_table_ask(copy_id);
    end if;
end
$$;
revoke execute on function courier.copy_table_open(jsonb) from public;
comment on function courier.copy_table_open(jsonb) is
    'begins a copy or goes on with it, in the session of its worker; which, from where, and what a reader has to know of it';
