-- Views for people and monitoring. Open to PUBLIC, since they show names,
-- numbers and states only; the texts of errors, which may name keys, are for
-- administrators and members of pg_monitor.

-- What lies in the queue beyond a position, by the condition of is_applied().
-- With its owner's privileges, since the views that ask are open to PUBLIC; it
-- gives away no more than they do.
create function courier.backlog(
    "position" text, out chunks int8, out changes int8, out bytes int8, out oldest_clock int8)
language plpgsql stable strict security definer
set search_path = pg_catalog, pg_temp
-- As in is_applied().
set enable_seqscan = off
set jit = off
as $$
declare
    p constant pg_snapshot := split_part("position", '|', 1);
    s constant pg_snapshot := nullif(split_part("position", '|', 2), '');
    last_k constant pg_lsn := nullif(split_part("position", '|', 3), '');
    last_xid constant xid8 := nullif(split_part("position", '|', 4), '');
    since constant xid8 := pg_snapshot_xmax(p);
    waiting constant xid8[] := array(select pg_snapshot_xip(p));
begin
    select count(*), coalesce(sum(q.changes), 0), coalesce(sum(q.bytes), 0), min(q.clock)
    into chunks, changes, bytes, oldest_clock
    from (select c.* from courier.queue_chunk c where c.xid >= since
          union all
          select c.* from courier.queue_chunk c where c.xid = any (waiting)) q
    where s is null or not pg_visible_in_snapshot(q.xid, s) or (q.k, q.xid) > (last_k, last_xid);
end
$$;
comment on function courier.backlog(text) is 'counts what lies in the queue beyond a position';

create view courier.subscription_status as
select s.subscription_name,
       s.node_name,
       case when not s.enabled then 'disabled' else coalesce(t.state, 'disabled') end as state,
       b.bytes as lag_bytes,
       case when b.chunks = 0 then interval '0'
            when b.chunks > 0 then
                greatest(pg_catalog.clock_timestamp()
                         - pg_catalog.to_timestamp((b.oldest_clock >> 16) / 1000.0::float8), interval '0')
       end as lag_time,
       b.changes as pending_changes,
       case when a.may_see then t.last_error end as last_error,
       t.last_error_sqlstate,
       case when a.may_see then t.last_error_hint end as last_error_hint,
       t.last_error_xid,
       case when t.last_error_table is not null then
            pg_catalog.format('%I.%I', t.last_error_schema, t.last_error_table) end as last_error_table,
       t.last_error_operation,
       case when a.may_see then t.last_error_key end as last_error_key,
       (select pg_catalog.count(*) from courier.dead_letter_entry d
        where d.subscription_id = s.subscription_id and d.state in ('open', 'skipped', 'retrying')) as dead_letters,
       t.next_retry_at,
       t.shipper,
       coalesce(u.shipped, 0) as shipped,
       t.updated_at,
       s.replication_sets,
       s.capture,
       s.copy_data
from courier.subscription s
left join courier.subscription_state t on t.subscription_id = s.subscription_id
left join courier.subscription_statistics u on u.subscription_id = s.subscription_id
cross join lateral (
    select courier.is_administrator() or pg_catalog.pg_has_role('pg_monitor', 'USAGE') as may_see) a
left join lateral courier.backlog(coalesce(t.position, s.start_position::text)) b on true;
comment on view courier.subscription_status is 'state, lag and last error of each subscription';
comment on column courier.subscription_status.subscription_name is 'the subscription';
comment on column courier.subscription_status.node_name is 'node that it sends to';
comment on column courier.subscription_status.state is 'copying, streaming, retrying, stopped, disabled or needs_resync';
comment on column courier.subscription_status.lag_bytes is 'bytes in the queue that it has not passed yet';
comment on column courier.subscription_status.lag_time is 'age of the oldest of them';
comment on column courier.subscription_status.pending_changes is
    'changes in the queue that it has not passed yet, those of other subscriptions'' tables counted too';
comment on column courier.subscription_status.last_error is 'last error; for administrators and pg_monitor';
comment on column courier.subscription_status.last_error_sqlstate is 'its SQLSTATE';
comment on column courier.subscription_status.last_error_hint is 'what to do about it; for administrators and pg_monitor';
comment on column courier.subscription_status.last_error_xid is
    'transaction that it stopped at; courier.skip_transaction() passes it';
comment on column courier.subscription_status.last_error_table is 'table at fault';
comment on column courier.subscription_status.last_error_operation is 'what the change at fault does: insert, update, delete, upsert, truncate, event or ddl';
comment on column courier.subscription_status.last_error_key is 'key of the row at fault; for administrators and pg_monitor';
comment on column courier.subscription_status.dead_letters is
    'transactions that were set aside and wait for a person; see courier.dead_letter';
comment on column courier.subscription_status.next_retry_at is 'when it is tried again';
comment on column courier.subscription_status.shipper is 'who shipped last: sidecar, worker or session';
comment on column courier.subscription_status.shipped is 'changes shipped since statistics were last reset; see courier.stat_subscription';
comment on column courier.subscription_status.updated_at is 'when a shipper last wrote its state down';
comment on column courier.subscription_status.replication_sets is 'replication sets that it sends';
comment on column courier.subscription_status.capture is 'how changes are captured';
comment on column courier.subscription_status.copy_data is 'whether rows that existed before were to be copied';

grant select on courier.subscription_status to public;
