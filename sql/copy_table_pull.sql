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
        perform courier.node_run(copy.node_name, 'courier_copy',
            'declare courier_source no scroll cursor for ' || courier.whole_query(copy.plan));
    elsif not courier.is_copied(copy.plan, copy."position") then
        perform courier.remote_send('courier_copy', courier.chunk_query(copy.plan, copy."position"), 30000);
    end if;
end
$$;
revoke execute on function courier.copy_table_ask(int8) from public;
comment on function courier.copy_table_ask(int8) is 'asks the node of a pull for the next chunk';

-- Writes the rows that the node has answered, but what stands for large ones, and
-- returns what the last of them tells of all; null if there are none. A setting takes
-- it from that row to here: a second look at the rows would keep them all a second time.
create function courier.insert_answer(target text, plan jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dblink name := courier.dblink_schema();
    leftover text;
begin
    perform courier.node_wait('courier_copy');
    perform set_config('courier_copy.chunk', '', true);
    execute format($q$
insert into %1$s (%2$s) overriding system value
select %3$s from %4$I.dblink_get_result('courier_copy') as answer (%5$s)
where case when answer.told is null then true when set_config('courier_copy.chunk', answer.told, true) is not null then %6$s end$q$,
        target,
        (select string_agg(quote_ident(c ->> 'name'), ', ' order by n)
         from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)),
        (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n),
        dblink,
        case when (plan ->> 'whole')::boolean then courier.whole_columns(plan) else 'told text, ' || courier.answer_columns(plan) end,
        case when (plan ->> 'whole')::boolean then 'answer.col is null' else 'not (answer.told::json ->> ''large'')::boolean' end);
    execute format('select r from %I.dblink_get_result(''courier_copy'') as t (r text)', dblink) into leftover;
    return nullif(current_setting('courier_copy.chunk'), '')::jsonb;
end
$$;
revoke execute on function courier.insert_answer(text, jsonb) from public;
comment on function courier.insert_answer(text, jsonb) is
    'writes the rows that a node has answered into a table here; what the last of them tells';

-- One chunk, rows and progress, and the question for the next. A query that
-- can't be cut is one chunk, in pieces that memory can hold.
create function courier.copy_table_pull(copy_id int8) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    copy courier.table_copy;
    chunk jsonb;
    told jsonb;
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
            -- each row tells how many rows and bytes there are up to it, and those
            -- before a large one how many of them are to come
            loop
                perform courier.remote_send('courier_copy', format('fetch %s from courier_source', fetched), 30000);
                told := courier.insert_answer(copy.target, copy.plan);
                exit when told is null;
                chunk := told;
                if told ? 'large_row_in' then
                    perform courier.node_run(copy.node_name, 'courier_copy',
                        format('move %s from courier_source', (told ->> 'large_row_in')::int - 1));
                    perform courier.pull_pieces(copy, 'courier_source');
                    fetched := 1;
                    continue;
                end if;
                fetched := greatest(1, least(fetched * 8, (copy.plan ->> 'rows')::int8,
                    (copy.plan ->> 'bytes')::int8 * (chunk ->> 'rows')::int8 / greatest((chunk ->> 'bytes')::int8, 1)));
            end loop;
            behind := courier.next_position(copy.plan, copy."position", null);
        else
            chunk := courier.insert_answer(copy.target, copy.plan);
            if (chunk ->> 'large')::boolean then
                chunk := courier.pull_large(copy);
            end if;
            behind := courier.next_position(copy.plan, copy."position", chunk);
        end if;
        update courier.table_copy c
        set "position" = behind, rows = c.rows + coalesce((chunk ->> 'rows')::int8, 0),
            bytes = c.bytes + coalesce((chunk ->> 'bytes')::int8, 0),
            chunks = c.chunks + (chunk is not null)::int, updated_at = clock_timestamp()
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
