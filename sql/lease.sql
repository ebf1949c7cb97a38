-- Leases: who ships a subscription.
--
-- Advisory locks whose class is the oid of a table: a lease is an exclusive one of
-- courier.subscription, the wish for one a shared one of courier.node; the number
-- in the class is the subscription's.

-- Terminates the control sessions of sidecars that hold leases or wishes and of
-- which nothing has been heard for so long that they must be cut off, or stopped:
-- one that lives speaks several times a second. What they hold comes free a moment
-- later. Those that the caller may not terminate are left alone.
create function courier.end_silent_sessions(stale interval) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select pg_terminate_backend(a.pid)
    from pg_stat_activity a
    join pg_roles r on r.oid = a.usesysid
    join pg_roles m on m.rolname = current_user
    where a.datname = current_database() and a.application_name = 'pg_courier control'
      and a.state = 'idle' and a.state_change < clock_timestamp() - stale
      and (m.rolsuper or not r.rolsuper)
      and (pg_has_role(a.usesysid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE'))
      and exists (select from pg_locks l
                  where l.pid = a.pid and l.locktype = 'advisory' and l.objsubid = 2 and l.granted
                    and l.classid in ('courier.subscription'::regclass, 'courier.node'::regclass))
$$;
revoke execute on function courier.end_silent_sessions(interval) from public;
comment on function courier.end_silent_sessions(interval) is
    'terminates control sessions of sidecars that hold leases or wishes and were silent for longer than stale';

-- Takes the lease of a subscription for the calling session, as an advisory lock
-- that ends with it.
create function courier.take_lease(subscription_id int, stale interval) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_try_advisory_lock('courier.subscription'::regclass::oid::int8::bit(32)::int, subscription_id) then
        return true;
    end if;
    perform courier.end_silent_sessions(stale);
    return false;
end
$$;
revoke execute on function courier.take_lease(int, interval) from public;
comment on function courier.take_lease(int, interval) is
    'takes the lease of a subscription for this session; false if another one holds it, which is terminated if it is a sidecar that was silent for longer than stale';

create function courier.give_lease(subscription_id int) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select pg_advisory_unlock('courier.subscription'::regclass::oid::int8::bit(32)::int, subscription_id)
$$;
revoke execute on function courier.give_lease(int) from public;
comment on function courier.give_lease(int) is 'gives back a lease of this session';

-- A sidecar that finds a lease taken says that it wishes for it: a worker that has
-- it gives it up behind the batch under way, and none starts while the wish lasts,
-- which is until it is withdrawn or the session ends.
create function courier.wish_lease(subscription_id int) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select pg_try_advisory_lock_shared('courier.node'::regclass::oid::int8::bit(32)::int, subscription_id)
$$;
revoke execute on function courier.wish_lease(int) from public;
comment on function courier.wish_lease(int) is
    'announces the wish of this session for a lease that a worker may have; false if it is to be tried again';

create function courier.withdraw_wish(subscription_id int) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select pg_advisory_unlock_shared('courier.node'::regclass::oid::int8::bit(32)::int, subscription_id)
$$;
revoke execute on function courier.withdraw_wish(int) from public;
comment on function courier.withdraw_wish(int) is 'takes back a wish of this session for a lease';
