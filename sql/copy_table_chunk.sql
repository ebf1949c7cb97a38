-- The chunks of a copy: one query, bounded in rows and in bytes, of the rows
-- behind the last one; and what is done with them.

-- What a value of a column takes, without reading it if it is out of line.
create function courier.size_expression(col jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (col ->> 'length')::int > 0 then col ->> 'length'
        when col ->> 'base' in ('text', 'varchar', 'bpchar', 'bytea') then format('coalesce(octet_length(%I), 0)', col ->> 'name')
        else format('coalesce(pg_column_size(%I), 0)', col ->> 'name')
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

-- The rows behind a position: columns c1 to cN, and before them, in the last row
-- only, its key, the bytes of all, and whether the chunk ends where the rows do
-- and not at a bound. Rows of equal keys are not parted, and there is at least
-- one row if there is any behind the position.
create function courier.chunk_query(plan jsonb, "position" text) returns text
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
select case when is_last then array_to_json(array[%1$s])::text end, case when is_last then bytes end, case when is_last then at_end end, %2$s
from (select cut.*, lead(false, 1, true) over w as is_last
      from (select chunk.*, sum(size) over w as bytes, rank() over w as rank, lead(false, 1, true) over w as at_end
            from (select %3$s, %4$s, %5$s as size from %6$s where %7$s order by %8$s fetch first %9$s rows with ties) chunk
            window w as (order by %8$s)) cut
      where bytes <= %10$s or rank = 1
      window w as (order by %8$s)) rows$q$,
        (select string_agg(a || '::text', ', ') from unnest(string_to_array(key_aliases, ', ')) a),
        (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n),
        key_names,
        (select string_agg(quote_ident(c ->> 'name') || ' as c' || n, ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        (select string_agg(courier.size_expression(c), ' + ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        part ->> 'from', condition, key_aliases, plan ->> 'rows', plan ->> 'bytes');
end
$$;
revoke execute on function courier.chunk_query(jsonb, text) from public;
comment on function courier.chunk_query(jsonb, text) is 'query of the chunk behind a position';

-- The position behind a chunk of so many rows.
create function courier.next_position(plan jsonb, "position" text, last_key text, at_end boolean, rows int8) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    place jsonb := coalesce(nullif("position", ''), '{}');
    number int := coalesce((place ->> 'part')::int, 0);
    part jsonb := plan -> 'parts' -> number;
    block int8;
begin
    if rows > 0 and not (at_end and rows < (plan ->> 'rows')::int8) then
        return jsonb_build_object('part', number, 'block', place -> 'block', 'after', last_key::jsonb);
    elsif plan -> 'key' = 'null' and not (plan ->> 'whole')::boolean then
        block := coalesce((place ->> 'block')::int8, 0) + courier.chunk_blocks(plan);
        if block < (part ->> 'blocks')::int8 then
            return jsonb_build_object('part', number, 'block', block);
        end if;
    end if;
    return jsonb_build_object('part', number + 1);
end
$$;
revoke execute on function courier.next_position(jsonb, text, text, boolean, int8) from public;
comment on function courier.next_position(jsonb, text, text, boolean, int8) is 'the position behind a chunk';

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

-- Pull: asks the node for the chunk behind the position.
create function courier.copy_table_ask(copy_id int8) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
begin
    select c.* into copy from courier.table_copy c where c.copy_id = copy_table_ask.copy_id;
    if (copy.plan ->> 'whole')::boolean then
        perform courier.node_run(copy.node_name, 'courier_copy', format(
            'declare courier_source no scroll cursor for select null::text, %s, null::boolean, %s from %s',
            (select string_agg(courier.size_expression(c), ' + ' order by n)
             from jsonb_array_elements(copy.plan -> 'columns') with ordinality u (c, n)),
            (select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
             from jsonb_array_elements(copy.plan -> 'columns') with ordinality u (c, n)),
            copy.plan -> 'parts' -> 0 ->> 'from'));
    elsif not courier.is_copied(copy.plan, copy."position") then
        perform courier.remote_send('courier_copy', courier.chunk_query(copy.plan, copy."position"), 30000);
    end if;
end
$$;
revoke execute on function courier.copy_table_ask(int8) from public;
comment on function courier.copy_table_ask(int8) is 'asks the node of a pull for the next chunk';

-- Pull: writes the rows that the node has answered.
create function courier.insert_answer(
    target text, plan jsonb, out rows int8, out last_key text, out bytes int8, out at_end boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dblink name := courier.dblink_schema();
    leftover text;
begin
    perform courier.node_wait('courier_copy');
    execute format($q$
with answer as materialized (
    select * from %1$I.dblink_get_result('courier_copy') as t (last_key text, bytes int8, at_end boolean, %2$s)
), written as (
    insert into %3$s (%4$s) overriding system value select %5$s from answer)
select count(*), max(a.last_key), sum(a.bytes), bool_and(a.at_end) from answer a$q$,
        dblink,
        (select string_agg(format('c%s %s', n, c ->> 'write_type'), ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        target,
        (select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n))
    into rows, last_key, bytes, at_end;
    execute format('select r from %I.dblink_get_result(''courier_copy'') as t (r text)', dblink) into leftover;
end
$$;
revoke execute on function courier.insert_answer(text, jsonb) from public;
comment on function courier.insert_answer(text, jsonb) is 'writes the rows that a node has answered into a table here';

-- Pull: one chunk, rows and progress, and the question for the next. A query that
-- can't be cut is one chunk, in pieces that memory can hold.
create function courier.copy_table_pull(copy_id int8) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
    chunk record;
    copied_rows int8 := 0;
    copied_bytes int8 := 0;
    fetched int8 := 1;
    behind text;
    more boolean;
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    select c.* into copy from courier.table_copy c where c.copy_id = copy_table_pull.copy_id for update;
    begin
        if courier.is_copied(copy.plan, copy."position") then
            return false;
        end if;
        if (copy.plan ->> 'whole')::boolean then
            loop
                perform courier.remote_send('courier_copy', format('fetch %s from courier_source', fetched), 30000);
                chunk := courier.insert_answer(copy.target, copy.plan);
                exit when chunk.rows = 0;
                copied_rows := copied_rows + chunk.rows;
                copied_bytes := copied_bytes + chunk.bytes;
                fetched := greatest(1, least(fetched * 8, (copy.plan ->> 'rows')::int8,
                                             (copy.plan ->> 'bytes')::int8 * chunk.rows / greatest(chunk.bytes, 1)));
            end loop;
            behind := courier.next_position(copy.plan, copy."position", null, true, 0);
        else
            chunk := courier.insert_answer(copy.target, copy.plan);
            copied_rows := chunk.rows;
            copied_bytes := coalesce(chunk.bytes, 0);
            behind := courier.next_position(copy.plan, copy."position", chunk.last_key, chunk.at_end, chunk.rows);
        end if;
        update courier.table_copy c
        set "position" = behind, rows = c.rows + copied_rows, bytes = c.bytes + copied_bytes,
            chunks = c.chunks + (copied_rows > 0)::int, updated_at = clock_timestamp()
        where c.copy_id = copy.copy_id;
        more := not courier.is_copied(copy.plan, behind);
        if more then
            perform courier.copy_table_ask(copy.copy_id);
        end if;
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        perform courier.raise_copy_error(failed_state, failed_message, failed_detail, failed_hint, copy.target, copy.node_name);
    end;
    return more;
end
$$;
revoke execute on function courier.copy_table_pull(int8) from public;
comment on function courier.copy_table_pull(int8) is 'one chunk of a pull; whether there are more';

-- Push: the chunk behind a position, as statements for the node: the progress
-- there by compare-and-set, and the rows. Null if there are no more. The snapshot
-- may be older than the copy, of which no table can be asked therefore.
create function courier.copy_table_read(
    job jsonb, from_position text, out command text, out "position" text, out rows int8, out bytes int8)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    plan jsonb := job -> 'plan';
    chunk record;
begin
    "position" := from_position;
    loop
        if courier.is_copied(plan, "position") then
            return;
        end if;
        execute format($q$
select count(*) as rows, max(r.last_key) as last_key, sum(r.bytes) as bytes, bool_and(r.at_end) as at_end, %1$s as arrays
from (%2$s) r (last_key, bytes, at_end, %3$s)$q$,
            (select string_agg(format('quote_literal(array_agg(c%s::text)::text) || ''::text[]''', n), ' || '', '' || ' order by n)
             from generate_series(1, jsonb_array_length(plan -> 'columns')) n),
            courier.chunk_query(plan, "position"),
            (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n))
        into chunk;
        "position" := courier.next_position(plan, "position", chunk.last_key, chunk.at_end, chunk.rows);
        exit when chunk.rows > 0;
    end loop;
    rows := chunk.rows;
    bytes := chunk.bytes;
    command := format($q$
do %1$L;
insert into %2$s (%3$s) overriding system value select %4$s from unnest(%5$s) as u (%6$s)$q$,
        format($b$begin
    update courier_target.table_copy
    set "position" = %1$L, rows = rows + %2$s, bytes = bytes + %3$s, chunks = chunks + 1, updated_at = clock_timestamp()
    where copy = %4$L and "position" = %5$L;
    if not found then
        raise exception 'the copy is not at the position that this chunk starts from' using errcode = 'PC001';
    end if;
end$b$, "position", rows, bytes, job ->> 'progress_key', from_position),
        job ->> 'target',
        (select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        (select string_agg(format('c%s::%s', n, c ->> 'write_type'), ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        chunk.arrays,
        (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n));
end
$$;
revoke execute on function courier.copy_table_read(jsonb, text) from public;
comment on function courier.copy_table_read(jsonb, text) is 'reads the next chunk of a push';

-- Push: waits for the chunk that the node works on, writes down how far that is,
-- and sends the next.
create function courier.copy_table_confirm(
    copy_id int8, "position" text, rows int8, bytes int8, next_command text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
    answer record;
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    select c.* into copy from courier.table_copy c where c.copy_id = copy_table_confirm.copy_id for update;
    begin
        if copy_table_confirm."position" is not null then
            loop
                select r.* into answer from courier.remote_wait('courier_copy', 10000) r;
                exit when answer.ready;
            end loop;
            if answer.sqlstate is not null then
                perform courier.raise_error(answer.sqlstate, format('node "%s": %s', copy.node_name, answer.message),
                                            answer.detail, answer.hint);
            end if;
            update courier.table_copy c
            set "position" = copy_table_confirm."position", rows = c.rows + copy_table_confirm.rows,
                bytes = c.bytes + copy_table_confirm.bytes, chunks = c.chunks + 1, updated_at = clock_timestamp()
            where c.copy_id = copy.copy_id;
        end if;
        if next_command is not null then
            perform courier.remote_send('courier_copy', next_command, 30000);
        end if;
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        perform courier.raise_copy_error(failed_state, failed_message, failed_detail, failed_hint, copy.target, copy.node_name);
    end;
end
$$;
revoke execute on function courier.copy_table_confirm(int8, text, int8, int8, text) from public;
comment on function courier.copy_table_confirm(int8, text, int8, int8, text) is
    'waits for a chunk of a push, and sends the next';

-- On the node of a push, the progress of a copy that is done or given up.
create function courier.forget_push_command(progress_key uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format('do %L', format($q$begin
    perform pg_advisory_xact_lock(7236837, 1);
    if to_regclass('courier_target.table_copy') is not null then
        delete from courier_target.table_copy where copy = %L;
        if not exists (select from courier_target.table_copy) then
            drop table courier_target.table_copy;
            if not exists (select from pg_class where relnamespace = 'courier_target'::regnamespace) then
                drop schema courier_target;
            end if;
        end if;
    end if;
end$q$, progress_key))
$f$;
revoke execute on function courier.forget_push_command(uuid) from public;
comment on function courier.forget_push_command(uuid) is
    'statement that removes the progress of a copy from its node, and schema courier_target with the last of it';

-- All is copied. What the node has is on disk there before that is said here.
create function courier.copy_table_finish(copy_id int8) returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
begin
    select c.* into copy from courier.table_copy c where c.copy_id = copy_table_finish.copy_id for update;
    if copy.direction = 'push' then
        perform courier.node_run(copy.node_name, 'courier_copy', format(
            'set synchronous_commit = on; update courier_target.table_copy set updated_at = clock_timestamp() where copy = %L',
            copy.progress_key));
    end if;
    update courier.table_copy c
    set finished_at = clock_timestamp(), last_error = null, last_error_sqlstate = null
    where c.copy_id = copy.copy_id;
    return copy.rows;
end
$$;
revoke execute on function courier.copy_table_finish(int8) from public;
comment on function courier.copy_table_finish(int8) is 'writes down that a copy is done; the rows copied';

-- Behind copy_table_finish(): what the node needs no longer.
create function courier.copy_table_tidy(copy_id int8) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
begin
    select c.* into copy from courier.table_copy c where c.copy_id = copy_table_tidy.copy_id;
    if copy.direction = 'push' then
        perform courier.node_run(copy.node_name, 'courier_copy', courier.forget_push_command(copy.progress_key));
    end if;
    perform courier.remote_disconnect('courier_copy');
end
$$;
revoke execute on function courier.copy_table_tidy(int8) from public;
comment on function courier.copy_table_tidy(int8) is 'removes what a copy that is done has left on its node';

create function courier.copy_table_failed(copy_id int8, failed_state text, message text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update courier.table_copy c
    set last_error = message, last_error_sqlstate = failed_state
    where c.copy_id = copy_table_failed.copy_id
$$;
revoke execute on function courier.copy_table_failed(int8, text, text) from public;
comment on function courier.copy_table_failed(int8, text, text) is 'writes down what ended a call of courier.copy_table()';

create function courier.forget_copies(node_name text) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    copy courier.table_copy;
    number int := 0;
begin
    perform courier.require_administrator();
    node := courier.find_node(forget_copies.node_name);
    for copy in select c.* from courier.table_copy c where c.node_name = node.node_name order by c.copy_id for update loop
        if not pg_try_advisory_xact_lock(courier.table_copy_lock_class(), copy.copy_id::int) then
            raise exception using
                errcode = 'object_in_use',
                message = format('%s is being copied into', copy.target),
                hint = 'Wait until that is done, or cancel it: see SELECT * FROM courier.copy_table_status.';
        end if;
        if copy.direction = 'push' and copy.finished_at is null then
            perform courier.ask_node(node, courier.forget_push_command(copy.progress_key));
        end if;
        delete from courier.table_copy c where c.copy_id = copy.copy_id;
        number := number + 1;
    end loop;
    return number;
end
$$;
comment on function courier.forget_copies(text) is
    'gives up the copies from and to a node that were interrupted, and forgets those that are done; the rows that were copied stay; returns how many';
