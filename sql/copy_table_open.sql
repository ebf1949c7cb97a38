-- The beginning of a call of courier.copy_table(), in its worker: what is to be
-- copied how, what is wrong with it, and where an earlier call has come to.

-- Columns that are read and written: those of the source, or the ones listed,
-- that the target does not compute itself.
create function courier.copy_columns(node_name name, source jsonb, target jsonb, options jsonb, source_name text, target_name text)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    listed text[] := courier.option_names(options, 'columns');
    missing text;
    columns jsonb;
begin
    select string_agg(l, ', ') into missing from unnest(listed) l
    where not exists (select from jsonb_array_elements(source -> 'columns') c where c ->> 'name' = l);
    if missing is not null then
        raise exception using
            errcode = 'undefined_column',
            message = format('%s has no column %s', source_name, missing),
            hint = 'Option "columns" lists columns of the source.';
    end if;
    if target is not null then
        select string_agg(c ->> 'name', ', ' order by n) into missing
        from jsonb_array_elements(source -> 'columns') with ordinality u (c, n)
        where (listed is null or c ->> 'name' = any (listed))
          and not exists (select from jsonb_array_elements(target -> 'columns') t where t ->> 'name' = c ->> 'name');
        if missing is not null then
            raise exception using
                errcode = 'undefined_column',
                message = format('%s has no column %s', target_name, missing),
                hint = 'Add it there, or leave it out: options => ''{"columns": [...]}'' lists those to copy.';
        end if;
        select string_agg(t ->> 'name', ', ') into missing
        from jsonb_array_elements(target -> 'columns') t
        where (t ->> 'not_null')::boolean and not (t ->> 'default')::boolean and not (t ->> 'generated')::boolean
          and not exists (select from jsonb_array_elements(source -> 'columns') c
                          where c ->> 'name' = t ->> 'name' and (listed is null or c ->> 'name' = any (listed)));
        if missing is not null then
            raise exception using
                errcode = 'not_null_violation',
                message = format('column %s of %s must not be null, and the source has none of that name', missing, target_name),
                hint = 'Give it a default, or allow nulls.';
        end if;
    end if;
    select jsonb_agg(c || jsonb_build_object('write_type', coalesce(t ->> 'bare', c ->> 'bare')) order by n) into columns
    from jsonb_array_elements(source -> 'columns') with ordinality u (c, n)
    left join jsonb_array_elements(target -> 'columns') t on t ->> 'name' = c ->> 'name'
    where (listed is null or c ->> 'name' = any (listed))
      and not coalesce((t ->> 'generated')::boolean, false);
    if columns is null then
        raise exception using
            errcode = 'undefined_column',
            message = format('%s has no column to copy', source_name),
            hint = 'Copy a table that has columns.';
    end if;
    return columns;
end
$$;
revoke execute on function courier.copy_columns(name, jsonb, jsonb, jsonb, text, text) from public;
comment on function courier.copy_columns(name, jsonb, jsonb, jsonb, text, text) is
    'columns of a copy, each with the type it is written as; or an error that says which one the target lacks';

-- The columns by which the source is gone through, null if it goes by place.
create function courier.copy_key(source jsonb, options jsonb, source_name text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    names text[] := coalesce(courier.option_names(options, 'key'),
                             array(select k from jsonb_array_elements_text(nullif(source -> 'key', 'null')) k));
    name text;
    key jsonb := '[]';
    col jsonb;
begin
    foreach name in array names loop
        select c into col from jsonb_array_elements(source -> 'columns') c where c ->> 'name' = name;
        if not found then
            raise exception using
                errcode = 'undefined_column',
                message = format('%s has no column %s to go by', source_name, name),
                hint = format('Its columns are: %s.', (select string_agg(c ->> 'name', ', ' order by n)
                              from jsonb_array_elements(source -> 'columns') with ordinality u (c, n)));
        elsif col ->> 'order_schema' is null then
            raise exception using
                errcode = 'datatype_mismatch',
                message = format('%s cannot be gone through by column %s: type %s has no order', source_name, name, col ->> 'type'),
                hint = 'Name columns of other types in option "key".';
        end if;
        key := key || jsonb_build_array(col);
    end loop;
    return nullif(key, '[]');
end
$$;
revoke execute on function courier.copy_key(jsonb, jsonb, text) from public;
comment on function courier.copy_key(jsonb, jsonb, text) is
    'columns that the chunks of a copy go by: those of option key, else of a unique index; null if there are none';

create function courier.create_staging_table(target text, columns jsonb) returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    unknown record;
begin
    if to_regnamespace(quote_ident((parse_ident(target))[1])) is null then
        raise exception using
            errcode = 'invalid_schema_name',
            message = format('schema %s does not exist', quote_ident((parse_ident(target))[1])),
            hint = format('Run CREATE SCHEMA %I.', (parse_ident(target))[1]);
    end if;
    select c ->> 'name' as name, c ->> 'type' as type into unknown
    from jsonb_array_elements(columns) c where to_regtype(c ->> 'type') is null limit 1;
    if found then
        raise exception using
            errcode = 'undefined_object',
            message = format('table %s cannot be created: type %s of column %s is not known here', target, unknown.type, unknown.name),
            hint = format('Create the type, or its extension; or pull a query that casts the column: (SELECT %I::text, ... FROM ...).',
                          unknown.name);
    end if;
    execute format('create table %s (%s)', target,
                   (select string_agg(format('%I %s', c ->> 'name', c ->> 'type'), ', ' order by n)
                    from jsonb_array_elements(columns) with ordinality u (c, n)));
    return to_regclass(target);
end
$$;
revoke execute on function courier.create_staging_table(text, jsonb) from public;
comment on function courier.create_staging_table(text, jsonb) is 'creates the table that rows are pulled into, with the source''s columns';

create function courier.require_copy_source(source jsonb, name text, place text, options jsonb, direction text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if source is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('table %s does not exist %s', name, place),
            hint = 'Write its schema before its name; without one, public is looked into on a node.';
    elsif source ->> 'kind' not in ('r', 'p', 'm', 'v', 'f', 'q') then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s %s is not a table', name, place),
            hint = 'Tables, views, materialized views and foreign tables can be copied.';
    elsif source ->> 'persistence' = 't' then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s is a temporary table, which no other session sees', name),
            hint = 'Copy a table that is not temporary.';
    elsif not (source ->> 'may_select')::boolean then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for table %s %s', name, place),
            hint = format('Run there: GRANT SELECT ON %s TO %I;', source ->> 'name', source ->> 'role');
    end if;
end
$$;
revoke execute on function courier.require_copy_source(jsonb, text, text, jsonb, text) from public;
comment on function courier.require_copy_source(jsonb, text, text, jsonb, text) is 'refuses what cannot be read by a copy';

create function courier.require_copy_target(target jsonb, name text, place text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if target ->> 'kind' not in ('r', 'p', 'f', 'v') or target ->> 'persistence' = 't' or name ~ '^(courier|courier_target|pg_catalog)\.' then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('rows cannot be copied into %s %s', name, place),
            hint = 'Name a table that is not temporary, a system''s or pg_courier''s.';
    elsif not (target ->> 'may_insert')::boolean or not (target ->> 'may_select')::boolean then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for table %s %s', name, place),
            hint = format('Run there: GRANT SELECT, INSERT ON %s TO %I;', name, target ->> 'role');
    elsif (target ->> 'in_recovery')::boolean then
        raise exception using
            errcode = 'read_only_sql_transaction',
            message = format('rows cannot be copied into %s %s: that is a standby', name, place),
            hint = 'Point the node to its primary with ALTER SERVER.';
    end if;
end
$$;
revoke execute on function courier.require_copy_target(jsonb, text, text) from public;
comment on function courier.require_copy_target(jsonb, text, text) is 'refuses what a copy cannot write into';

-- Rows that are there when a copy begins, and rows that are not when it goes on.
create function courier.require_copy_rows(
    holds_rows boolean, going_on boolean, copied int8, options jsonb, target text, place text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if going_on and copied > 0 and not holds_rows then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('table %s %s has been emptied since %s rows were copied into it', target, place, copied),
            hint = 'Say options => ''{"restart": true}'' to begin again.';
    elsif not going_on and holds_rows and coalesce(options ->> 'on_existing', 'error') = 'error' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('table %s %s already holds rows', target, place),
            hint = 'Say options => ''{"on_existing": "truncate"}'' to empty it first, or "append" to keep them.';
    end if;
end
$$;
revoke execute on function courier.require_copy_rows(boolean, boolean, int8, jsonb, text, text) from public;
comment on function courier.require_copy_rows(boolean, boolean, int8, jsonb, text, text) is
    'refuses a target that holds rows, or has lost those that were copied';

-- The copy a call goes on with or begins; nobody else is at it from here on.
create function courier.take_copy(request jsonb, definition jsonb) returns courier.table_copy
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
    other int;
begin
    insert into courier.table_copy (node_name, direction, source, target, definition)
    values (request ->> 'node', request ->> 'direction', request ->> 'source', request ->> 'target', definition)
    on conflict on constraint table_copy_key do nothing;
    select c.* into copy from courier.table_copy c
    where c.node_name = request ->> 'node' and c.direction = request ->> 'direction' and c.target = request ->> 'target';
    if not pg_try_advisory_lock(courier.table_copy_lock_class(), copy.copy_id::int) then
        select s.pid into other from courier.copy_table_status s where s.copy_id = copy.copy_id;
        raise exception using
            errcode = 'object_in_use',
            message = format('%s is being copied into already', copy.target),
            detail = format('Process %s does that.', other),
            hint = 'Wait until it is done: see SELECT * FROM courier.copy_table_status.';
    end if;
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

-- What pg_courier keeps on a node of a push, in one transaction; with the target
-- emptied in it, if that is wished.
create function courier.begin_push_command(progress_key uuid, target text, truncates boolean) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$
select pg_advisory_xact_lock(7236837, 1);
create schema if not exists courier_target;
create table if not exists courier_target.table_copy (
    copy uuid not null,
    "position" text not null,
    rows int8 not null default 0,
    bytes int8 not null default 0,
    chunks int8 not null default 0,
    updated_at timestamptz not null default clock_timestamp(),
    constraint table_copy_pkey primary key (copy));
comment on table courier_target.table_copy is 'How far copies are that other databases push into this one.';
comment on column courier_target.table_copy.copy is 'courier.table_copy.progress_key of the source.';
comment on column courier_target.table_copy."position" is 'Behind the last chunk.';
comment on column courier_target.table_copy.rows is 'Rows copied.';
comment on column courier_target.table_copy.bytes is 'Bytes copied.';
comment on column courier_target.table_copy.chunks is 'Chunks copied, each of them one transaction.';
comment on column courier_target.table_copy.updated_at is 'When the last chunk was copied.';
%s;
insert into courier_target.table_copy (copy, "position") values (%L, '')$q$,
        case when truncates then 'truncate table ' || target else 'select 1' end, progress_key)
$f$;
revoke execute on function courier.begin_push_command(uuid, text, boolean) from public;
comment on function courier.begin_push_command(uuid, text, boolean) is
    'statements that make a node ready to take the chunks of a push';

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
        perform courier.require_copy_target(target, target_name, target_place);
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
    job := jsonb_build_object('plan', copy.plan, 'progress_key', copy.progress_key, 'target', copy.target);
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
