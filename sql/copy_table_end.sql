-- The end of a copy: it is done, has failed, or is given up.

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
