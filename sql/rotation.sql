-- Rotation: which segment of the queue is written to, and when another one may
-- be emptied.
--
-- Writers hold their lock on the segment until their transaction ends, prepared
-- ones too, and readers look into all segments. So a segment that is not the
-- current one, that nobody has a lock on, and in which no row is missing from
-- what the subscriptions have confirmed for good, can be emptied; who still
-- takes it for the current one writes into it afterwards, and loses nothing.

create table courier.queue_current (
    segment int not null,
    held_bytes int8 not null default 0,
    since timestamptz not null default now(),
    truncated_xid xid8,
    rotations int8 not null default 0,
    truncations int8 not null default 0,
    only_row boolean not null default true,
    constraint queue_current_pkey primary key (only_row),
    constraint queue_current_only_row check (only_row),
    constraint queue_current_segment_exists check (segment between 0 and 2)
);
comment on table courier.queue_current is
    'one row: which segment of the queue is written to; also the lock that orders the emptying of segments and what asks for their content';
comment on column courier.queue_current.segment is 'number of the segment that is written to';
comment on column courier.queue_current.held_bytes is 'size of the other segments, for writers that mind courier.queue_max_size';
comment on column courier.queue_current.since is 'when writers moved on to it';
comment on column courier.queue_current.truncated_xid is 'highest transaction that was ever removed with a segment';
comment on column courier.queue_current.rotations is 'how often writers moved on';
comment on column courier.queue_current.truncations is 'how often a segment was emptied';
comment on column courier.queue_current.only_row is 'always true: keeps the table at one row';
insert into courier.queue_current (segment) values (0);

create function courier.segment_changed() returns trigger
language c
as 'MODULE_PATHNAME', 'courier_segment_changed';
revoke execute on function courier.segment_changed() from public;
comment on function courier.segment_changed() is 'statement trigger: tells all sessions that queue_current has changed';

create trigger segment_changed after insert or update on courier.queue_current
    for each statement execute function courier.segment_changed();

create function courier.unapplied_since(segment int, "position" text, target pg_snapshot) returns int8
language c
as 'MODULE_PATHNAME', 'courier_unapplied_since';
revoke execute on function courier.unapplied_since(int, text, pg_snapshot) from public;
comment on function courier.unapplied_since(int, text, pg_snapshot) is
    'clock of one of the oldest changes in a segment (null: in any) that a subscription at the position has not applied, of those that target sees if it is not null; null if there is none';

create function courier.still_holds(subscription_id int) returns boolean
language c strict
as 'MODULE_PATHNAME', 'courier_still_holds';
revoke execute on function courier.still_holds(int) from public;
comment on function courier.still_holds(int) is
    'whether the queue keeps what a subscription has not confirmed, by what is committed now';

create function courier.queue_limits(
    out segment_bytes int8, out segment_age int, out max_bytes int8, out detach boolean)
language c
as 'MODULE_PATHNAME', 'courier_queue_limits';
revoke execute on function courier.queue_limits() from public;
comment on function courier.queue_limits() is
    'the settings courier.segment_size, segment_age, queue_max_size (0: none) and whether queue_full_policy is detach';

create function courier.in_transaction_block() returns boolean
language c
as 'MODULE_PATHNAME', 'courier_in_transaction_block';
revoke execute on function courier.in_transaction_block() from public;
comment on function courier.in_transaction_block() is 'whether the caller''s transaction goes on after the statement';

-- A subscription holds what it has not confirmed for good, enabled or not, and
-- while rows are copied too: the copy begins at or after start_position, and what
-- is committed behind it is shipped. One that needs a resync holds nothing, as it
-- will not be shipped from where it is. Tables add nothing to that: what is sent of
-- a table added later was committed after it was added, or is in its copy.
create view courier.queue_holder as
select s.subscription_id,
       s.subscription_name,
       s.node_name,
       coalesce(t.durable_position, s.start_position::text) as "position",
       case when not s.enabled then 'disabled' else coalesce(t.state, 'disabled') end as state,
       t.updated_at
from courier.subscription s
left join courier.subscription_state t on t.subscription_id = s.subscription_id
where s.start_position is not null
  and t.detached_at is null
  and coalesce(t.state, '') <> 'needs_resync';
comment on view courier.queue_holder is 'subscriptions for which the queue keeps changes';
comment on column courier.queue_holder.subscription_id is 'the subscription';
comment on column courier.queue_holder.subscription_name is 'its name';
comment on column courier.queue_holder.node_name is 'node that it sends to';
comment on column courier.queue_holder."position" is 'what is behind it is kept';
comment on column courier.queue_holder.state is 'its state';
comment on column courier.queue_holder.updated_at is 'when a shipper last wrote its state down';

create function courier.segment_name(segment int) returns regclass
language sql stable strict
set search_path = pg_catalog, pg_temp
as $$
    select format('courier.queue_%s', segment)::regclass
$$;
comment on function courier.segment_name(int) is 'the table of a segment of the queue';

-- Whether a segment holds what some subscription has not confirmed.
create function courier.is_held(segment int) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from courier.queue_holder h
                   where courier.unapplied_since(is_held.segment, h."position", null) is not null)
$$;
revoke execute on function courier.is_held(int) from public;
comment on function courier.is_held(int) is 'whether a segment holds what some subscription has not confirmed';

-- Empties a segment if nobody needs it: true if it did. Locks are tried for, not
-- waited for, so a long transaction only puts it off. The order matters:
--   - no change of the configuration is under way, which might be a subscription
--     that starts from a position in this segment;
--   - nobody is about to ask for changes behind an old position (hold_queue);
--   - nobody writes to the segment or reads it. Every row there will be is visible
--     from now on, and is looked at once more.
create function courier.truncate_segment(segment int) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '100ms'
-- A segment has no statistics; and what the planner is kept from looks so dear to it
-- that it would be compiled.
set enable_seqscan = off
set jit = off
as $$
declare
    segment_table constant regclass := courier.segment_name(segment);
    highest xid8;
begin
    lock table courier.configuration in row share mode nowait;
    lock table courier.queue_current in exclusive mode nowait;
    execute format('lock table %s in access exclusive mode nowait', segment_table);
    if courier.is_held(segment)
       or segment = (select c.segment from courier.queue_current c) then
        raise exception using
            errcode = 'lock_not_available',
            message = format('segment %s of the queue is in use', segment);
    end if;

    -- Who holds nothing may lose something: what it was to be sent has a gap now.
    update courier.subscription_state t set detached_at = clock_timestamp()
    from courier.subscription s
    where s.subscription_id = t.subscription_id and s.start_position is not null
      and t.state = 'needs_resync' and t.detached_at is null
      and courier.unapplied_since(truncate_segment.segment,
                                  coalesce(t.durable_position, s.start_position::text), null) is not null;

    execute format('select q.xid from %s q order by q.xid desc limit 1', segment_table) into highest;
    execute format('truncate table %s', segment_table);
    update courier.queue_current c
    set truncated_xid = greatest(c.truncated_xid, highest), truncations = c.truncations + 1;
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
revoke execute on function courier.truncate_segment(int) from public;
comment on function courier.truncate_segment(int) is
    'empties a segment of the queue that nobody writes to, reads or needs; true if it did';

-- Moves writers on to an empty segment when the current one is full or old: its
-- number, or null. Without an empty one they stay.
create function courier.rotate() returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.queue_current;
    limits record;
    candidate int;
begin
    select c.* into present from courier.queue_current c;
    select l.* into limits from courier.queue_limits() l;
    -- A queue that may not grow to the size of a segment needs smaller ones.
    if limits.max_bytes > 0 then
        limits.segment_bytes := least(limits.segment_bytes, limits.max_bytes / 4);
    end if;
    if pg_relation_size(courier.segment_name(present.segment)) = 0
       or (pg_total_relation_size(courier.segment_name(present.segment)) < limits.segment_bytes
           and (limits.segment_age = 0
                or present.since > clock_timestamp() - make_interval(secs => limits.segment_age))) then
        return null;
    end if;
    for candidate in select (present.segment + n) % 3 from generate_series(1, 2) n order by n loop
        if pg_relation_size(courier.segment_name(candidate)) = 0 then
            update courier.queue_current c
            set segment = candidate, since = clock_timestamp(), rotations = c.rotations + 1,
                held_bytes = courier.queue_bytes(candidate);
            return candidate;
        end if;
    end loop;
    return null;
end
$$;
revoke execute on function courier.rotate() from public;
comment on function courier.rotate() is
    'moves writers on to an empty segment when the current one is full or old; its number, or null';

create function courier.queue_bytes(except_segment int default null) returns int8
language sql
set search_path = pg_catalog, pg_temp
as $$
    select sum(pg_total_relation_size(courier.segment_name(n)))::int8
    from generate_series(0, 2) n
    where n is distinct from except_segment
$$;
revoke execute on function courier.queue_bytes(int) from public;
comment on function courier.queue_bytes(int) is 'size of the queue on disk, without one segment if given, indexes included';

-- What a shipper asks for that finds the node behind what the node had confirmed:
-- a backup was restored there. From the commit on nothing behind the position
-- (null: the present one) is removed; what was removed before, the caller finds out
-- afterwards from truncated_xid.
create function courier.hold_queue(subscription_id int, "position" text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.require_read_committed('shipping to a node that is behind what it had confirmed');
    -- conflicts with the lock of truncate_segment()
    lock table courier.queue_current in row share mode;
    insert into courier.subscription_state as t (subscription_id, state, "position", durable_position)
    values (hold_queue.subscription_id, 'retrying', hold_queue."position",
            coalesce(hold_queue."position", courier.position()::text))
    on conflict on constraint subscription_state_pkey do update
    set durable_position = excluded.durable_position,
        "position" = excluded."position",
        state = case t.state when 'needs_resync' then 'retrying' else t.state end
    where t.detached_at is null;
end
$$;
revoke execute on function courier.hold_queue(int, text) from public;
comment on function courier.hold_queue(int, text) is
    'keeps what is behind a position (null: the present one) for a subscription from now on, unless it is detached';
