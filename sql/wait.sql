-- Waiting until a subscription has caught up.

-- All segments of the queue, without the changes themselves. Conditions on xid
-- and k reach the indexes of the segments.
create view courier.queue_chunk as
select 'queue_0' as segment, q.k, q.xid, q.seq, q.clock, q.changes, pg_catalog.length(q.data) as bytes
from courier.queue_0 q
union all
select 'queue_1', q.k, q.xid, q.seq, q.clock, q.changes, pg_catalog.length(q.data)
from courier.queue_1 q
union all
select 'queue_2', q.k, q.xid, q.seq, q.clock, q.changes, pg_catalog.length(q.data)
from courier.queue_2 q;
comment on view courier.queue_chunk is 'chunks of the queue in all segments, without the changes themselves';
comment on column courier.queue_chunk.segment is 'segment that holds it';
comment on column courier.queue_chunk.k is 'place of its transaction in the order of shipping';
comment on column courier.queue_chunk.xid is 'its transaction';
comment on column courier.queue_chunk.seq is 'its place in that transaction';
comment on column courier.queue_chunk.clock is 'hybrid logical clock: milliseconds since 1970 times 65536, plus a counter';
comment on column courier.queue_chunk.changes is 'changes that start in it';
comment on column courier.queue_chunk.bytes is 'length of its data';

-- Whether a subscription at the given position has everything that is visible
-- in the target snapshot: no chunk of the queue lies between them. The position
-- is a snapshot P, or P|S|K|XID: in the interval (P,S], up to (K,XID).
create function courier.is_applied("position" text, target pg_snapshot) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select courier.unapplied_since(null, "position", target) is null
$$;
revoke execute on function courier.is_applied(text, pg_snapshot) from public;
comment on function courier.is_applied(text, pg_snapshot) is
    'whether everything visible in the snapshot is applied by a subscription at the position';

create function courier.wait_for_subscription(subscription_name text, timeout interval default '1 min')
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target pg_snapshot;
    deadline timestamptz := clock_timestamp() + timeout;
    pause double precision := 0.005;
    present courier.subscription;
    state courier.subscription_state;
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('wait_for_subscription');
    target := courier.position();
    loop
        present := courier.find_subscription(wait_for_subscription.subscription_name);
        select t.* into state from courier.subscription_state t
        where t.subscription_id = present.subscription_id;
        -- While the position is null, existing rows are still being copied; those of
        -- a table added since, while it is from before that.
        if state.position is not null and state.state <> 'copying'
           and courier.is_applied(state.position, target)
           and not (present.copy_data and exists (
               select from courier.subscription_table t
               where t.subscription_id = present.subscription_id
                 and pg_snapshot_xmax(t.added) > pg_snapshot_xmax(split_part(state.position, '|', 1)::pg_snapshot))) then
            return true;
        elsif not present.enabled or state.state = 'disabled' then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('subscription "%s" is disabled', present.subscription_name),
                hint = 'Run SELECT courier.alter_subscription_enable(...).';
        elsif state.state in ('stopped', 'needs_resync') then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = case state.state
                    when 'stopped' then format('subscription "%s" has stopped', present.subscription_name)
                    else format('subscription "%s" needs a resync', present.subscription_name) end,
                detail = state.last_error,
                hint = coalesce(state.last_error_hint, 'See courier.subscription_status.');
        elsif clock_timestamp() >= deadline then
            return false;
        end if;
        perform pg_sleep(pause);
        pause := least(pause * 1.5, 0.1);
    end loop;
end
$$;
comment on function courier.wait_for_subscription(text, interval) is
    'waits until everything committed before the call is applied on the node: true; false when the timeout, if not null, came first';
