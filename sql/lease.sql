-- Leases: who ships a subscription.

-- Takes the lease of a subscription for the calling session, as an advisory lock
-- that ends with it. A holder of which nothing has been heard for so long that
-- it must be cut off, or stopped, is terminated: a daemon that lives lets its
-- session speak several times a second. The lease comes free a moment later.
create function courier.take_lease(subscription_id int, stale interval) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    class constant oid := 'courier.subscription'::regclass;
begin
    if pg_try_advisory_lock(class::int8::bit(32)::int, subscription_id) then
        return true;
    end if;
    perform pg_terminate_backend(a.pid)
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.objsubid = 2 and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.classid = class and l.objid = subscription_id::oid
      and a.application_name = 'pg_courier control'
      and a.state = 'idle' and a.state_change < clock_timestamp() - stale;
    return false;
end
$$;
revoke execute on function courier.take_lease(int, interval) from public;
comment on function courier.take_lease(int, interval) is
    'takes the lease of a subscription for this session; false if another one holds it, which is terminated if it was silent for longer than stale';

create function courier.give_lease(subscription_id int) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select pg_advisory_unlock('courier.subscription'::regclass::oid::int8::bit(32)::int, subscription_id)
$$;
revoke execute on function courier.give_lease(int) from public;
comment on function courier.give_lease(int) is 'gives back a lease of this session';
