-- What the background workers ask of the database.

-- Which subscriptions workers may ship. A sidecar's wish for the lease and
-- somebody's lease are advisory locks: to find one free it is taken, and given
-- back at once. Running are the subscriptions that a worker ships, whose leases
-- need not be looked at.
--
-- A sidecar that is stopped or cut off while it has a lease or a wish would keep
-- everybody from shipping: its session is terminated.
create function courier.worker_plan(
    running int[], out subscription_id int, out subscription_name name, out wished boolean, out free boolean,
    out generation int8) returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    sidecar boolean := false; -- one has a lease or a wish
    leases constant int := 'courier.subscription'::regclass::oid::int8::bit(32)::int;
    wishes constant int := 'courier.node'::regclass::oid::int8::bit(32)::int;
begin
    for subscription_id, subscription_name, generation in
        select s.subscription_id, s.subscription_name, c.generation
        from courier.subscription s cross join courier.configuration c
        where s.enabled and coalesce(s.options ->> 'driver', 'auto') in ('auto', 'worker')
        order by s.subscription_id
    loop
        wished := not pg_try_advisory_lock(wishes, worker_plan.subscription_id);
        if not wished then
            perform pg_advisory_unlock(wishes, worker_plan.subscription_id);
        end if;
        free := false;
        if worker_plan.subscription_id <> all (running) then
            free := pg_try_advisory_lock(leases, worker_plan.subscription_id);
            if free then
                perform pg_advisory_unlock(leases, worker_plan.subscription_id);
            end if;
            sidecar := sidecar or wished or not free;
        end if;
        return next;
    end loop;
    if sidecar then
        perform courier.end_silent_sessions('7 s');
    end if;
end
$$;
revoke execute on function courier.worker_plan(int[]) from public;
comment on function courier.worker_plan(int[]) is
    'the enabled subscriptions that workers may ship, whether a sidecar wishes to and whether nobody does';

-- A worker could not be started, or failed outside of the engine.
create function courier.report_worker(
    subscription_id int, message text, sqlstate text, hint text, pause_milliseconds int) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update courier.subscription_state t
    set state = case when t.state in ('stopped', 'needs_resync') then t.state else 'retrying' end,
        last_error = report_worker.message, last_error_sqlstate = report_worker.sqlstate,
        last_error_hint = report_worker.hint,
        next_retry_at = clock_timestamp() + report_worker.pause_milliseconds * interval '1 millisecond',
        shipper = 'worker', updated_at = clock_timestamp()
    where t.subscription_id = report_worker.subscription_id
$$;
revoke execute on function courier.report_worker(int, text, text, text, int) from public;
comment on function courier.report_worker(int, text, text, text, int) is
    'notes an error of the worker that was to ship a subscription';

create function courier.announce_extension() returns void
language c volatile
as 'MODULE_PATHNAME', 'courier_announce_extension';
revoke execute on function courier.announce_extension() from public;
comment on function courier.announce_extension() is
    'tells the launcher, at commit, that this database has the extension; does nothing where pg_courier is not preloaded';

select courier.announce_extension();
