-- Housekeeping: what is to be done about once a second in every database that
-- ships, by the housekeeping worker or by the sidecar.

-- Small tables that are updated all the time. Under a snapshot held open for hours
-- vacuum can't remove their dead rows; TRUNCATE can, so they are written anew when
-- they have grown. An old snapshot then sees them empty.
create function courier.rewrite_table(relation regclass, patient boolean) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
set datestyle = 'ISO'
as $$
declare
    live text[];
begin
    -- No subscription is being dropped, whose rows the foreign keys would wait for.
    lock table courier.configuration in row share mode nowait;
    execute format('lock table %s in access exclusive mode %s', relation, case when patient then '' else 'nowait' end);
    execute format('select array_agg(t::text) from %s t', relation) into live;
    execute format('truncate table %s', relation);
    execute format('insert into %1$s select (r::%1$s).* from unnest($1) r', relation) using live;
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
revoke execute on function courier.rewrite_table(regclass, boolean) from public;
comment on function courier.rewrite_table(regclass, boolean) is
    'frees the dead rows of a small table, whatever snapshots there are; false if it is in use';

-- Rewrites one of the small tables that has grown far beyond what is in it.
create function courier.compact() returns regclass
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    tidy constant int8 := 128 * 1024;
    relation regclass;
    size int8;
    live int8;
begin
    for relation in
        select to_regclass('courier.' || n)
        from unnest('{subscription_state,subscription_statistics,table_statistics,node_state,queue_current}'::text[]) n
        where to_regclass('courier.' || n) is not null
    loop
        size := pg_relation_size(relation);
        continue when size <= tidy;
        execute format('select coalesce(sum(pg_column_size(t.*)), 0) from %s t', relation) into live;
        -- Half of a page stays free when rows are inserted.
        if size > tidy + 4 * live and courier.rewrite_table(relation, size > 4 * (tidy + 4 * live)) then
            return relation;
        end if;
    end loop;
    return null;
end
$$;
revoke execute on function courier.compact() from public;
comment on function courier.compact() is
    'writes one of the small tables anew that has grown far beyond what is in it; that one, or null';

-- Detaches the slowest subscription if the queue is beyond its limit and that is
-- why. It is not if a segment waits to be emptied that no subscription holds, or if
-- all that is held is a few seconds old.
create function courier.detach_slowest(max_bytes int8) returns name
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
as $$
declare
    patience constant interval := '5 s';
    slowest record;
    oldest int8;
begin
    if exists (select from generate_series(0, 2) n, courier.queue_current c
               where n <> c.segment and pg_relation_size(courier.segment_name(n)) > 0
                 and not courier.is_held(n)) then
        return null;
    end if;
    select h.subscription_id, h.subscription_name, h.node_name, u.clock into slowest
    from courier.queue_holder h
    cross join lateral (select courier.unapplied_since(null, h."position", null) as clock) u
    where u.clock is not null
    order by u.clock, h.subscription_id limit 1;
    if not found or courier.clock_time(slowest.clock) > clock_timestamp() - patience then
        return null;
    end if;
    update courier.subscription_state t
    set state = 'needs_resync',
        detached_at = clock_timestamp(),
        updated_at = clock_timestamp(),
        next_retry_at = null,
        last_error = format('it was detached: the queue had reached courier.queue_max_size (%s), and it had not '
                            'confirmed changes since %s',
                            pg_size_pretty(max_bytes), courier.time_text(courier.clock_time(slowest.clock))),
        last_error_sqlstate = '53400',
        last_error_hint = format('Drop the subscription, empty its tables on node %I, and create it again with copy_data => true.',
                                 slowest.node_name)
    where t.subscription_id = slowest.subscription_id;
    -- so that shippers notice
    update courier.configuration c set generation = c.generation + 1;
    return slowest.subscription_name;
exception
    when lock_not_available then
        return null;
end
$$;
revoke execute on function courier.detach_slowest(int8) from public;
comment on function courier.detach_slowest(int8) is
    'detaches the subscription that is farthest behind, if that is what keeps the queue beyond its limit; its name, or null';

-- Does what is due. Safe to be called by anyone at any time: it does nothing in a
-- transaction that goes on, whose locks it would keep, nor while another session
-- does it. With nothing due it takes less than a millisecond.
create function courier.housekeep() returns table (action text, object text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.queue_current;
    limits record;
    moved_to int;
    others int8;
    detached name;
    compacted regclass;
    n int;
    busy boolean := false;
begin
    perform courier.require_administrator();
    if courier.in_transaction_block() or pg_is_in_recovery()
       or current_setting('transaction_read_only')::boolean
       or current_setting('transaction_isolation') not in ('read committed', 'read uncommitted')
       or not pg_try_advisory_xact_lock('courier.queue_current'::regclass::oid::int8::bit(32)::int, 0) then
        return;
    end if;

    select c.* into present from courier.queue_current c;
    for n in select s from generate_series(0, 2) s where s <> present.segment loop
        if pg_relation_size(courier.segment_name(n)) > 0 and not courier.is_held(n)
           and courier.truncate_segment(n) then
            busy := true;
            action := 'truncate';
            object := courier.segment_name(n);
            return next;
        end if;
    end loop;

    moved_to := courier.rotate();
    if moved_to is not null then
        busy := true;
        action := 'rotate';
        object := courier.segment_name(moved_to);
        return next;
    else
        others := courier.queue_bytes(present.segment);
        if abs(others - present.held_bytes) > 65536 then
            update courier.queue_current c set held_bytes = others;
        end if;
    end if;

    select l.* into limits from courier.queue_limits() l;
    if limits.detach and limits.max_bytes > 0 and courier.queue_bytes() >= limits.max_bytes and not busy then
        detached := courier.detach_slowest(limits.max_bytes);
        if detached is not null then
            busy := true;
            action := 'detach';
            object := detached;
            return next;
        end if;
    end if;

    if not busy then
        compacted := courier.compact();
        if compacted is not null then
            action := 'compact';
            object := compacted;
            return next;
        end if;
    end if;
end
$$;
comment on function courier.housekeep() is
    'does what is due: moves writers on to another segment, empties segments, keeps to courier.queue_max_size, compacts small tables; called once a second by a worker or the sidecar';
