-- What the queue holds, and who holds it up: for people.

create function courier.clock_time(clock int8) returns timestamptz
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
    select to_timestamp((clock >> 16) / 1000.0::float8)
$$;
comment on function courier.clock_time(int8) is 'time of a hybrid logical clock';

create function courier.time_text("time" timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(to_char("time", 'YYYY-MM-DD HH24:MI:SSOF'), 'it is not known when')
$$;
comment on function courier.time_text(timestamptz) is 'a time in a sentence, to the second';

-- A small segment is counted; of a large one the first and last pages are, and
-- the rest is taken to be like those. With its owner's privileges, as are those
-- below: the view is open to PUBLIC, and shows numbers, times and names.
create function courier.segment_content(
    segment int, out chunks int8, out changes int8, out exact boolean, out oldest timestamptz, out newest timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
-- A segment has no statistics: its indexes are to be used whatever the planner thinks.
set enable_seqscan = off
set jit = off
as $$
declare
    counted constant int := 64;  -- pages at either end
    segment_table constant regclass := courier.segment_name(segment);
    pages constant int8 := pg_relation_size(segment_table) / current_setting('block_size')::int;
    factor float8 := 1;
begin
    exact := pages <= 2 * counted;
    if exact then
        execute format('select count(*), coalesce(sum(q.changes), 0) from %s q', segment_table) into chunks, changes;
    else
        execute format('select count(*), coalesce(sum(q.changes), 0) from %s q '
                       'where q.ctid < $1 or q.ctid >= $2', segment_table)
        into chunks, changes
        using format('(%s,0)', counted)::tid, format('(%s,0)', pages - counted)::tid;
        factor := pages / (2.0 * counted);
    end if;
    chunks := (factor * chunks)::int8;
    changes := (factor * changes)::int8;
    execute format('select courier.clock_time((select q.clock from %1$s q order by q.k limit 1)), '
                   'courier.clock_time((select q.clock from %1$s q order by q.k desc limit 1))', segment_table)
    into oldest, newest;
end
$$;
comment on function courier.segment_content(int) is
    'how much a segment of the queue holds: counted, or (not exact) estimated from its first and last pages';

-- Sentences about who keeps a segment from being emptied.
create function courier.segment_obstacles(segment int) returns setof text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    segment_table constant regclass := courier.segment_name(segment);
    -- Shorter ones have read or written in passing.
    long constant interval := '2 s';
begin
    return query
    select format('subscription "%s" has not confirmed changes since %s: %s',
                  h.subscription_name, courier.time_text(courier.clock_time(u.clock)),
                  case h.state
                      when 'disabled' then 'it is disabled'
                      when 'copying' then format('existing rows are being copied to node "%s"', h.node_name)
                      when 'retrying' then format('node "%s" is tried again and again', h.node_name)
                      when 'stopped' then 'it has stopped, see courier.subscription_status'
                      else 'it is on its way'
                  end)
           || coalesce(format(', last heard of at %s', courier.time_text(h.updated_at)), '')
    from courier.queue_holder h
    cross join lateral (select courier.unapplied_since(segment_obstacles.segment, h."position", null) as clock) u
    where u.clock is not null
    order by u.clock, h.subscription_name;

    return query
    select case
               when p.gid is not null then
                   format('prepared transaction "%s", open since %s, has written into it', p.gid, courier.time_text(p.prepared))
               when bool_or(l.mode = 'RowExclusiveLock') then
                   format('a transaction of process %s%s, open since %s, has written into it',
                          l.pid, coalesce(' (' || nullif(a.application_name, '') || ')', ''), courier.time_text(a.xact_start))
               else
                   format('process %s%s, whose transaction is open since %s, reads it',
                          l.pid, coalesce(' (' || nullif(a.application_name, '') || ')', ''), courier.time_text(a.xact_start))
           end
    from pg_locks l
    left join pg_stat_activity a on a.pid = l.pid
    left join pg_locks x
        on l.pid is null and x.pid is null and x.locktype = 'transactionid' and x.virtualtransaction = l.virtualtransaction
    left join pg_prepared_xacts p on p.transaction = x.transactionid
    where l.locktype = 'relation' and l.granted and l.relation = segment_table
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.pid is distinct from pg_backend_pid()
      and (a.xact_start is null or a.xact_start < clock_timestamp() - long)
    group by l.pid, l.virtualtransaction, p.gid, p.prepared, a.application_name, a.xact_start
    order by 1;
end
$$;
comment on function courier.segment_obstacles(int) is 'who keeps a segment of the queue from being emptied, in words';

create view courier.queue_status as
select r.relname as segment,
       n.segment = c.segment as current,
       pg_catalog.pg_total_relation_size(r.oid) as bytes,
       s.chunks,
       s.changes,
       s.exact,
       s.oldest as oldest_change,
       s.newest as newest_change,
       case
           when s.chunks = 0 and pg_catalog.pg_relation_size(r.oid) = 0 then null
           when o.reasons is not null then o.reasons
           when n.segment = c.segment then 'nobody; it is written to'
           else 'nobody; the next courier.housekeep(), by a worker or a sidecar, empties it'
       end as held_by
from pg_catalog.generate_series(0, 2) n (segment)
cross join courier.queue_current c
join pg_catalog.pg_class r on r.oid = courier.segment_name(n.segment)
cross join lateral courier.segment_content(n.segment) s
cross join lateral (select pg_catalog.string_agg(b.reason, E'\n') as reasons
                    from courier.segment_obstacles(n.segment) b (reason)) o
order by r.relname;
comment on view courier.queue_status is 'what each segment of the queue holds, and who keeps it from being emptied';
comment on column courier.queue_status.segment is 'the segment';
comment on column courier.queue_status.current is 'whether it is written to';
comment on column courier.queue_status.bytes is 'its size on disk, indexes included';
comment on column courier.queue_status.chunks is 'rows in it, shipped or not';
comment on column courier.queue_status.changes is 'changes in it, shipped or not';
comment on column courier.queue_status.exact is 'whether chunks and changes are counted; else they are estimated from its first and last pages';
comment on column courier.queue_status.oldest_change is 'when its oldest change was committed';
comment on column courier.queue_status.newest_change is 'when its newest change was committed';
comment on column courier.queue_status.held_by is 'who needs it or has locked it, and why, a line each';
grant select on courier.queue_status to public;

-- For the error of a write that courier.queue_max_size refuses.
create function courier.queue_full_reason(out who text, out hint text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    slowest record;
    obstacle text;
begin
    select h.subscription_name, h.node_name, h.state, u.clock into slowest
    from courier.queue_holder h
    cross join lateral (select courier.unapplied_since(null, h."position", null) as clock) u
    where u.clock is not null
    order by u.clock, h.subscription_id limit 1;
    if found then
        who := format('subscription "%s" to node "%s" (%s) has not confirmed changes since %s',
                      slowest.subscription_name, slowest.node_name, slowest.state,
                      courier.time_text(courier.clock_time(slowest.clock)));
        hint := format('See courier.queue_status. Get the subscription going again, or give it up with SELECT '
                       'courier.drop_subscription(%L), or raise courier.queue_max_size. Writes then pass again.',
                       slowest.subscription_name);
        return;
    end if;
    select o into obstacle from generate_series(0, 2) n cross join lateral courier.segment_obstacles(n) o limit 1;
    who := coalesce(obstacle, 'all of it is confirmed, but not emptied yet');
    hint := 'See courier.queue_status. Space is given back by courier.housekeep(), which a worker or a sidecar '
            'calls once a second; or raise courier.queue_max_size.';
end
$$;
comment on function courier.queue_full_reason() is 'why the queue is full, for an error message';
