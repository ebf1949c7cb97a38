-- Chunks that are pushed: a transaction of the node each, with rows and progress.
-- While the node works on one the next is read here.

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

-- The progress of a chunk there, by compare-and-set.
create function courier.push_progress_command(
    job jsonb, from_position text, "position" text, rows int8, bytes int8) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format('do %L;', format($q$begin
    update courier_target.table_copy
    set "position" = %1$L, rows = rows + %2$s, bytes = bytes + %3$s, chunks = chunks + 1, updated_at = clock_timestamp()
    where copy = %4$L and "position" = %5$L;
    if not found then
        raise exception 'the copy is not at the position that this chunk starts from' using errcode = 'PC001';
    end if;
end$q$, "position", rows, bytes, job ->> 'progress_key', from_position))
$f$;
revoke execute on function courier.push_progress_command(jsonb, text, text, int8, int8) from public;
comment on function courier.push_progress_command(jsonb, text, text, int8, int8) is
    'statement that writes down on the node of a push how far it is';

-- The chunk behind a position, as statements for the node: the progress there, and
-- the rows. Null if there are no more, or if there is a large row in it, which goes
-- by courier.copy_table_send_large(). The snapshot may be older than the copy, of
-- which no table can be asked therefore.
create function courier.copy_table_read(
    job jsonb, from_position text, out command text, out "position" text, out rows int8, out bytes int8, out large boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    plan jsonb := job -> 'plan';
    chunk record;
    told jsonb;
begin
    "position" := from_position;
    loop
        if courier.is_copied(plan, "position") then
            return;
        end if;
        execute format($q$
select max(r.told) as told, concat(%1$s) as arrays
from (%2$s) r (told, %3$s)$q$,
            (select string_agg(format('quote_literal(array_agg(c%s::text)::text), ''::text[]''', n), ', '', '', ' order by n)
             from generate_series(1, jsonb_array_length(plan -> 'columns')) n),
            courier.chunk_query(plan, "position"),
            (select string_agg('c' || n, ', ' order by n) from generate_series(1, jsonb_array_length(plan -> 'columns')) n))
        into chunk;
        told := chunk.told;
        large := told ->> 'large';
        if large then
            return;
        end if;
        "position" := courier.next_position(plan, "position", told);
        exit when told is not null;
    end loop;
    rows := told ->> 'rows';
    bytes := told ->> 'bytes';
    command := courier.push_progress_command(job, from_position, "position", rows, bytes) || format($q$
insert into %1$s (%2$s) overriding system value select %3$s from unnest(%4$s) as u (%5$s)$q$,
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

-- Waits for the chunk that the node works on, writes down how far that is,
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
