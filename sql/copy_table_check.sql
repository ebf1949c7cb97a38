-- What a copy needs of its source, its target and their columns, and what is wrong
-- with them.

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
    misfit record;
    -- of types that do not read the text of another category: arrays, booleans,
    -- dates, geometry, networks, numbers, ranges, intervals, bits
    categories constant text[] := '{A,B,D,G,I,N,R,T,V}';
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
        select c ->> 'name' as name, c ->> 'type' as type, t ->> 'type' as written_type into misfit
        from jsonb_array_elements(source -> 'columns') with ordinality u (c, n)
        join jsonb_array_elements(target -> 'columns') t on t ->> 'name' = c ->> 'name'
        where (listed is null or c ->> 'name' = any (listed)) and not (t ->> 'generated')::boolean
          and c ->> 'category' <> t ->> 'category'
          and c ->> 'category' = any (categories) and t ->> 'category' = any (categories)
        order by n limit 1;
        if found then
            raise exception using
                errcode = 'datatype_mismatch',
                message = format('column %s of %s is of type %s and that of %s of type %s, which does not read it',
                                 misfit.name, source_name, misfit.type, target_name, misfit.written_type),
                hint = format('Leave it out with option "columns"; or change the target: ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::text::%3$s;',
                              target_name, misfit.name, misfit.type);
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
    elsif not has_schema_privilege((parse_ident(target))[1], 'USAGE') or not has_schema_privilege((parse_ident(target))[1], 'CREATE') then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied to create %s', target),
            hint = format('Run GRANT USAGE, CREATE ON SCHEMA %I TO %I.', (parse_ident(target))[1], current_user);
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
    elsif not (source ->> 'may_use')::boolean then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for schema %I %s', source ->> 'schema', place),
            hint = format('Run there: GRANT USAGE ON SCHEMA %I TO %I;', source ->> 'schema', source ->> 'role');
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

create function courier.require_copy_target(target jsonb, name text, place text, options jsonb, direction text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    lacking text := concat_ws(', ', case when not (target ->> 'may_select')::boolean then 'SELECT' end,
                              case when not (target ->> 'may_insert')::boolean then 'INSERT' end,
                              case when options ->> 'on_existing' = 'truncate' and not (target ->> 'may_truncate')::boolean then 'TRUNCATE' end);
begin
    if target ->> 'kind' not in ('r', 'p', 'f', 'v') or target ->> 'persistence' = 't' or name ~ '^(courier|courier_target|pg_catalog)\.' then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('rows cannot be copied into %s %s', name, place),
            hint = 'Name a table that is not temporary, a system''s or pg_courier''s.';
    elsif not (target ->> 'may_use')::boolean then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for schema %I %s', target ->> 'schema', place),
            hint = format('Run there: GRANT USAGE ON SCHEMA %I TO %I;', target ->> 'schema', target ->> 'role');
    elsif lacking <> '' then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for table %s %s', name, place),
            hint = format('Run there: GRANT %s ON %s TO %I;', lacking, name, target ->> 'role');
    elsif direction = 'push' and target ->> 'lacks_for_progress' is not null then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('the progress of the copy cannot be kept %s', place),
            detail = 'It is kept in table courier_target.table_copy, which is there while a copy is under way.',
            hint = format('Run there: GRANT %s TO %I;', target ->> 'lacks_for_progress', target ->> 'role');
    elsif (target ->> 'in_recovery')::boolean then
        raise exception using
            errcode = 'read_only_sql_transaction',
            message = format('rows cannot be copied into %s %s: that is a standby', name, place),
            hint = 'Point the node to its primary with ALTER SERVER.';
    end if;
end
$$;
revoke execute on function courier.require_copy_target(jsonb, text, text, jsonb, text) from public;
comment on function courier.require_copy_target(jsonb, text, text, jsonb, text) is 'refuses what a copy cannot write into';

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
