-- Chunks that are pulled: a transaction here each, with rows and progress.

-- Asks the node for the chunk behind the position.
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

-- Writes the rows that the node has answered.
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

-- One chunk, rows and progress, and the question for the next. A query that
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
