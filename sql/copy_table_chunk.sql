-- The chunks of a copy: one query each, bounded in rows and in bytes, of the rows
-- behind the last one.

-- What a value of a column takes, without reading it if it is out of line. How much
-- a compressed one is of another type than text and bytea is not told without that;
-- one that is likely to be large counts as large.
create function courier.size_expression(col jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (col ->> 'length')::int > 0 then col ->> 'length'
        when col ->> 'base' in ('text', 'varchar', 'bpchar', 'bytea') then format('coalesce(octet_length(%I), 0)', col ->> 'name')
        when (col ->> 'length')::int < -1 then format('coalesce(pg_column_size(%I), 0)', col ->> 'name')
        else format('coalesce(pg_column_size(%1$I) * case when pg_column_size(%1$I) > 262144 and pg_column_compression(%1$I) is not null '
                    'then 16::int8 else 1 end, 0)', col ->> 'name')
    end
$$;
revoke execute on function courier.size_expression(jsonb) from public;
comment on function courier.size_expression(jsonb) is 'expression for the bytes of a column''s value';

-- Rows behind those of a key. A row comparison uses an index over all of the key,
-- and finds its operators in pg_catalog only.
create function courier.behind_key(key jsonb, values_behind jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    condition text;
    number int := jsonb_array_length(key);
begin
    if values_behind is null then
        return 'true';
    end if;
    if (select bool_and(k ->> 'order_schema' = 'pg_catalog') from jsonb_array_elements(key) k) then
        return format('(%s) > (%s)',
            (select string_agg(quote_ident(k ->> 'name'), ', ' order by n) from jsonb_array_elements(key) with ordinality u (k, n)),
            (select string_agg(format('%L::%s', values_behind ->> (n - 1)::int, k ->> 'bare'), ', ' order by n)
             from jsonb_array_elements(key) with ordinality u (k, n)));
    end if;
    for i in reverse number - 1 .. 0 loop
        condition := format(case when condition is null then '%1$I operator(%2$I.>) %3$L::%4$s'
                            else '%1$I operator(%2$I.>=) %3$L::%4$s and (%1$I operator(%2$I.>) %3$L::%4$s or %5$s)' end,
                            key -> i ->> 'name', key -> i ->> 'order_schema', values_behind ->> i, key -> i ->> 'bare', condition);
    end loop;
    return condition;
end
$$;
revoke execute on function courier.behind_key(jsonb, jsonb) from public;
comment on function courier.behind_key(jsonb, jsonb) is 'condition that is true of the rows behind a key';

-- How many blocks a chunk of a table without a key goes over.
create function courier.chunk_blocks(plan jsonb) returns int8
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select greatest((plan ->> 'bytes')::int8 / 8192, 1) $$;
revoke execute on function courier.chunk_blocks(jsonb) from public;
comment on function courier.chunk_blocks(jsonb) is 'how many blocks a chunk of a table without a key goes over';

-- The size from which on a row goes in pieces. A chunk in which there is such a row
-- has no others but those of the same key.
create function courier.large_row(plan jsonb) returns int8
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select greatest((plan ->> 'bytes')::int8, 4 * 1024 * 1024) $$;
revoke execute on function courier.large_row(jsonb) from public;
comment on function courier.large_row(jsonb) is 'the size from which on a row is copied in pieces';

-- The rows behind a position, of a chunk: columns c1 to cN, size of the largest row,
-- and what the last row tells: its key, how many rows and bytes they all are, whether
-- the chunk ends where the rows do and not at the bound of bytes, and whether there
-- is a large row in it. Rows of equal keys are not parted, and there is at least one
-- row if there is any behind the position.
create function courier.cut_query(plan jsonb, "position" text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    place jsonb := coalesce(nullif("position", ''), '{}');
    part jsonb := plan -> 'parts' -> coalesce((place ->> 'part')::int, 0);
    key jsonb := plan -> 'key';
    condition text;
    key_names text;
    key_aliases text;
    block int8 := coalesce((place ->> 'block')::int8, 0);
begin
    if key <> 'null' then
        condition := courier.behind_key(key, place -> 'after');
        select string_agg(quote_ident(k ->> 'name') || ' as k' || n, ', ' order by n), string_agg('k' || n, ', ' order by n)
        into key_names, key_aliases
        from jsonb_array_elements(key) with ordinality u (k, n);
    else
        condition := format('ctid >= %L::tid and ctid < %L::tid', format('(%s,0)', block),
                            format('(%s,0)', least(block + courier.chunk_blocks(plan), (part ->> 'blocks')::int8)));
        if place ? 'after' then
            condition := condition || format(' and ctid > %L::tid', place -> 'after' ->> 0);
        end if;
        key_names := 'ctid as k1';
        key_aliases := 'k1';
    end if;
    return format($q$
select cut.*, case when is_last then json_build_object(
           'key', array[%1$s], 'rows', number, 'bytes', bytes, 'at_end', at_end, 'large', largest > %2$s)::text end as told
from (select shortened.*, lead(false, 1, true) over w as is_last
      from (select chunk.*, sum(size) over w as bytes, max(size) over w as largest, rank() over w as rank, row_number() over w as number,
                   lead(false, 1, true) over w as at_end
            from (select %3$s, %4$s, %5$s as size from %6$s where %7$s order by %8$s fetch first %9$s rows with ties) chunk
            window w as (order by %8$s)) shortened
      where bytes <= %10$s or rank = 1
      window w as (order by %8$s)) cut$q$,
        (select string_agg(a || '::text', ', ') from unnest(string_to_array(key_aliases, ', ')) a),
        courier.large_row(plan),
        key_names,
        (select string_agg(quote_ident(c ->> 'name') || ' as c' || n, ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        (select string_agg(courier.size_expression(c), ' + ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        part ->> 'from', condition, key_aliases, plan ->> 'rows', plan ->> 'bytes');
end
$$;
revoke execute on function courier.cut_query(jsonb, text) from public;
comment on function courier.cut_query(jsonb, text) is 'query of the chunk behind a position, and what is to be known of it';

-- The chunk behind a position: what its last row tells, in the others null, and
-- columns c1 to cN. If there is a large row in it there is but the last, without its
-- values, and the chunk is to be had in pieces.
create function courier.chunk_query(plan jsonb, "position" text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select format('select told, %s from (%s) rows where largest <= %s or is_last',
                  string_agg(format('case when largest <= %2$s then c%1$s end as c%1$s', n, courier.large_row(plan)), ', ' order by n),
                  courier.cut_query(plan, "position"), courier.large_row(plan))
    from generate_series(1, jsonb_array_length(plan -> 'columns')) n
$$;
revoke execute on function courier.chunk_query(jsonb, text) from public;
comment on function courier.chunk_query(jsonb, text) is 'query of the chunk behind a position';

create function courier.answer_columns(plan jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(format('c%s %s', n, c ->> 'write_type'), ', ' order by n)
    from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)
$$;
revoke execute on function courier.answer_columns(jsonb) from public;
comment on function courier.answer_columns(jsonb) is 'definition of columns c1 to cN, as they are written';

-- The position behind a chunk, of which the last row has told this; null if it had
-- no rows.
create function courier.next_position(plan jsonb, "position" text, chunk jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    place jsonb := coalesce(nullif("position", ''), '{}');
    number int := coalesce((place ->> 'part')::int, 0);
    part jsonb := plan -> 'parts' -> number;
    block int8;
begin
    if chunk is not null and not ((chunk ->> 'at_end')::boolean and (chunk ->> 'rows')::int8 < (plan ->> 'rows')::int8) then
        return jsonb_build_object('part', number, 'block', place -> 'block', 'after', chunk -> 'key');
    elsif plan -> 'key' = 'null' and not (plan ->> 'whole')::boolean then
        block := coalesce((place ->> 'block')::int8, 0) + courier.chunk_blocks(plan);
        if block < (part ->> 'blocks')::int8 then
            return jsonb_build_object('part', number, 'block', block);
        end if;
    end if;
    return jsonb_build_object('part', number + 1);
end
$$;
revoke execute on function courier.next_position(jsonb, text, jsonb) from public;
comment on function courier.next_position(jsonb, text, jsonb) is 'the position behind a chunk';

create function courier.is_copied(plan jsonb, "position" text) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((nullif("position", '')::jsonb ->> 'part')::int, 0) >= jsonb_array_length(plan -> 'parts')
$$;
revoke execute on function courier.is_copied(jsonb, text) from public;
comment on function courier.is_copied(jsonb, text) is 'whether nothing is behind a position';

-- The error of a chunk, for the caller. Errors of values quote them, which has no
-- place in a log; those of the connection do not say whose it was.
create function courier.raise_copy_error(
    failed_state text, message text, detail text, hint text, target text, node_name name) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    goes_on constant text := 'Make the same call again when that is mended: it goes on behind the last chunk.';
begin
    case left(failed_state, 2)
        when '22' then
            perform courier.raise_error(failed_state,
                format('a value does not fit its column of %s (%s)', target, regexp_replace(message, ':? ".*$', '')), null,
                'Compare the types of the columns; the chunk is not copied, those before it are.');
        when '08' then
            perform courier.raise_error(failed_state, format('the connection to node "%s" was lost: %s', node_name, message), detail,
                'Make the same call again when the node can be reached: it goes on behind the last chunk.');
        when '23', '44' then
            perform courier.raise_error(failed_state, message, null, coalesce(nullif(hint, ''), goes_on));
        else
            perform courier.raise_error(failed_state, message, detail, coalesce(nullif(hint, ''), goes_on));
    end case;
end
$$;
revoke execute on function courier.raise_copy_error(text, text, text, text, text, name) from public;
comment on function courier.raise_copy_error(text, text, text, text, text, name) is
    'raises the error of a chunk, without what it quotes of rows';
