-- Subscriptions: which replication sets go to which node, and how far that is.

create function courier.find_subscription(subscription_name text) returns courier.subscription
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
    wanted name := courier.require_name('subscription', find_subscription.subscription_name);
begin
    select s.* into present from courier.subscription s where s.subscription_name = wanted;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('subscription "%s" does not exist', wanted),
            hint = courier.known_names('subscription',
                    array(select s.subscription_name::text from courier.subscription s))
                || ' Create one with SELECT courier.create_subscription(...).';
    end if;
    return present;
end
$$;
revoke execute on function courier.find_subscription(text) from public;
comment on function courier.find_subscription(text) is
    'the subscription of that name, or an error with the names that exist';

-- What the engine captures and ships, one row a table and subscription. Where
-- several sets of a subscription have a table, it gets what any of them gives.
create view courier.subscription_table as
select s.subscription_id,
       s.subscription_name,
       c.oid as relation,
       n.nspname as schema_name,
       c.relname as table_name,
       case when bool_and(t.columns is not null)
            then (select array_agg(distinct u.column_name order by u.column_name)
                  from courier.replication_set_table v
                  cross join unnest(v.columns) u (column_name)
                  where v.relation = c.oid and v.set_name = any (s.replication_sets))
       end as columns,
       bool_or(r.replicate_insert) as replicate_insert,
       bool_or(r.replicate_update) as replicate_update,
       bool_or(r.replicate_delete) as replicate_delete,
       bool_or(r.replicate_truncate) as replicate_truncate,
       (array_agg(t.added order by pg_snapshot_xmax(t.added), pg_snapshot_xmin(t.added)))[1] as added
from courier.subscription s
join courier.replication_set r on r.set_name = any (s.replication_sets)
join courier.replication_set_table t on t.set_name = r.set_name
join pg_catalog.pg_class c on c.oid = t.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
group by s.subscription_id, s.subscription_name, s.replication_sets, c.oid, n.nspname, c.relname;
comment on view courier.subscription_table is 'tables of each subscription, with what is sent of them';
comment on column courier.subscription_table.subscription_id is 'the subscription';
comment on column courier.subscription_table.subscription_name is 'its name';
comment on column courier.subscription_table.relation is 'OID of the table';
comment on column courier.subscription_table.schema_name is 'schema of the table';
comment on column courier.subscription_table.table_name is 'name of the table';
comment on column courier.subscription_table.columns is 'columns that are sent; null for all';
comment on column courier.subscription_table.replicate_insert is 'whether inserted rows are sent';
comment on column courier.subscription_table.replicate_update is 'whether updated rows are sent';
comment on column courier.subscription_table.replicate_delete is 'whether deleted rows are sent';
comment on column courier.subscription_table.replicate_truncate is 'whether TRUNCATE is sent';
comment on column courier.subscription_table.added is 'position at which the table was first added to one of the sets';

-- Options and what they may be: a list of words, or null for a whole number
-- greater than zero.
create function courier.subscription_options(out option text, out words text[])
returns setof record
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    values ('batch_bytes', null::text[]),
           ('batch_rows', null),
           ('driver', '{auto,sidecar,none}'),
           ('on_conflict', '{apply_remote,keep_local,error}'),
           ('on_error', '{stop,dead_letter}')
$$;
comment on function courier.subscription_options() is
    'options of create_subscription with the words each may be; null for a whole number greater than zero';

create function courier.require_options(options jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given record;
    allowed record;
begin
    if options is null or jsonb_typeof(options) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'options must be a JSON object',
            hint = 'Write them as ''{"on_conflict": "keep_local"}''.';
    end if;
    for given in select e.key, e.value, e.value #>> '{}' as text_value from jsonb_each(options) e order by e.key loop
        select o.option, o.words into allowed from courier.subscription_options() o where o.option = given.key;
        if not found then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" is unknown', given.key),
                hint = format('Options are: %s.',
                    (select string_agg(o.option, ', ' order by o.option) from courier.subscription_options() o));
        elsif allowed.words is not null
              and (jsonb_typeof(given.value) <> 'string' or given.text_value <> all (allowed.words)) then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" cannot be %s', given.key, given.value),
                hint = format('It can be: %s.', array_to_string(allowed.words, ', '));
        elsif allowed.words is null
              and (jsonb_typeof(given.value) <> 'number' or given.text_value !~ '^[1-9][0-9]{0,8}$') then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" cannot be %s', given.key, given.value),
                hint = 'It is a whole number from 1 to 999999999.';
        end if;
    end loop;
    if options ->> 'on_error' = 'dead_letter' then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'on_error "dead_letter" is not supported yet',
            hint = 'Leave it out, or set it to "stop": the subscription stops at a change that the target refuses.';
    end if;
end
$$;
comment on function courier.require_options(jsonb) is 'checks the options of a subscription';

create function courier.create_subscription(
    subscription_name text,
    node_name text,
    replication_sets text[] default '{default}',
    copy_data boolean default true,
    capture text default 'trigger',
    enabled boolean default true,
    options jsonb default '{}') returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted name;
    node courier.node;
    sets name[] := '{}';
    given text;
    present courier.subscription;
    new_id int;
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('create_subscription');
    wanted := courier.require_name('subscription', create_subscription.subscription_name);
    perform courier.lock_configuration();
    node := courier.find_node(create_subscription.node_name);
    if coalesce(cardinality(replication_sets), 0) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('subscription "%s" has no replication set', wanted),
            hint = 'Name at least one; set "default" exists from the start.';
    end if;
    foreach given in array replication_sets loop
        sets := sets || (courier.find_replication_set(given)).set_name;
    end loop;
    sets := array(select distinct s from unnest(sets) s order by s);
    if num_nulls(copy_data, capture, enabled) > 0 then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'copy_data, capture and enabled must not be null',
            hint = 'Give them a value or leave them out.';
    end if;
    if capture = 'wal' then
        raise exception using
            errcode = 'feature_not_supported',
            message = 'capture "wal" is not supported yet',
            hint = 'Use capture => ''trigger''.';
    elsif capture <> 'trigger' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('capture "%s" is unknown', capture),
            hint = 'It can be: trigger.';
    end if;
    perform courier.require_options(options);

    select s.* into present from courier.subscription s where s.subscription_name = wanted;
    if found then
        if (present.node_name, present.replication_sets, present.copy_data, present.capture, present.options)
           = (node.node_name, sets, create_subscription.copy_data, create_subscription.capture,
              create_subscription.options) then
            return present.subscription_id;
        end if;
        raise exception using
            errcode = 'duplicate_object',
            message = format('subscription "%s" exists already with another definition', wanted),
            hint = 'Choose another name, or drop it first with SELECT courier.drop_subscription(...).';
    end if;

    insert into courier.subscription as s
        (subscription_name, node_name, replication_sets, copy_data, capture, enabled, options)
    values (wanted, node.node_name, sets, create_subscription.copy_data, create_subscription.capture, false,
            create_subscription.options)
    returning s.subscription_id into new_id;
    -- A starting position makes it a subscription to capture for; the valid
    -- one is taken when the triggers are there and every transaction that
    -- wrote without them has ended.
    update courier.subscription s set start_position = courier.position() where s.subscription_id = new_id;
    perform courier.sync_capture();
    update courier.subscription s
    set start_position = courier.position(), enabled = create_subscription.enabled
    where s.subscription_id = new_id;

    insert into courier.subscription_state (subscription_id, state, position, durable_position)
    select s.subscription_id, case when s.copy_data then 'copying' else 'streaming' end,
           case when not s.copy_data then s.start_position::text end, s.start_position::text
    from courier.subscription s where s.subscription_id = new_id;
    return new_id;
end
$$;
comment on function courier.create_subscription(text, text, text[], boolean, text, boolean, jsonb) is
    'sends the tables of replication sets to a node from now on; returns the number of the subscription';

create function courier.alter_subscription_enable(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_subscription(alter_subscription_enable.subscription_name);
    if present.start_position is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('subscription "%s" has no starting position in this database', present.subscription_name),
            detail = 'It was restored from a dump; what the node has since received is not known here.',
            hint = 'Drop it and create it again, with copy_data as the node needs it.';
    elsif exists (select from courier.subscription_state t
                  where t.subscription_id = present.subscription_id and t.state = 'needs_resync') then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('subscription "%s" needs a resync', present.subscription_name),
            hint = 'Drop it and create it again with copy_data => true.';
    end if;
    if not present.enabled then
        update courier.subscription s set enabled = true where s.subscription_id = present.subscription_id;
    end if;
    -- A stopped one is tried again at once; its last error stays to be read
    -- until something has been shipped.
    update courier.subscription_state t
    set state = 'retrying', next_retry_at = clock_timestamp(), updated_at = clock_timestamp()
    where t.subscription_id = present.subscription_id and t.state in ('stopped', 'disabled');
end
$$;
comment on function courier.alter_subscription_enable(text) is
    'ships a subscription that was disabled or has stopped, from where it is';

create function courier.alter_subscription_disable(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_subscription(alter_subscription_disable.subscription_name);
    if present.enabled then
        update courier.subscription s set enabled = false where s.subscription_id = present.subscription_id;
    end if;
end
$$;
comment on function courier.alter_subscription_disable(text) is
    'stops shipping a subscription; what is captured for it waits in the queue';

-- The target keeps its bookkeeping until the drop is certain: the work over
-- dblink can't be rolled back, so a constraint trigger, end_subscription(),
-- does it at commit.
create function courier.drop_subscription(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_subscription(drop_subscription.subscription_name);
    delete from courier.subscription s where s.subscription_id = present.subscription_id;
end
$$;
comment on function courier.drop_subscription(text) is
    'ends a subscription and, at commit, removes its bookkeeping from the node; the rows stay there';

-- What removes a subscription's bookkeeping from its target, as one statement
-- that does no harm when there is none.
create function courier.clean_target_command(progress_key uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($c$
do $courier$
declare
    bookkeeping name;
begin
    foreach bookkeeping in array '{event,copied,progress}'::name[] loop
        if to_regclass(format('courier_target.%%I', bookkeeping)) is not null then
            execute format('delete from courier_target.%%I where subscription = %%L', bookkeeping, %L);
        end if;
    end loop;
    if to_regclass('courier_target.progress') is not null then
        if not exists (select from courier_target.progress) then
            drop schema courier_target cascade;
        end if;
    end if;
end
$courier$$c$, progress_key)
$f$;
revoke execute on function courier.clean_target_command(uuid) from public;
comment on function courier.clean_target_command(uuid) is
    'statement that removes the bookkeeping of a subscription from its target, and schema courier_target with the last one';

-- The rest of drop_subscription, at commit. The capture triggers go last: to
-- drop them takes locks that hold up everyone who uses the tables, which must
-- not last as long as it may take to find out that a node does not answer.
create function courier.end_subscription() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dblink name := courier.dblink_schema();
    connection text := 'courier_clean_' || pg_backend_pid();
    connected boolean := false;
    server name;
    failed_message text;
    failed_detail text;
begin
    begin
        select n.server_name into server from courier.node n where n.node_name = old.node_name;
        perform courier.open_connection(connection, server);
        connected := true;
        execute format('select %I.dblink_exec($1, $2)', dblink)
            using connection, 'set statement_timeout = ''10s''; set client_min_messages = warning; '
                           'set search_path = pg_catalog';
        execute format('select %I.dblink_exec($1, $2)', dblink)
            using connection, courier.clean_target_command(old.progress_key);
        execute format('select %I.dblink_disconnect($1)', dblink) using connection;
    exception when others then
        get stacked diagnostics
            failed_message = message_text,
            failed_detail = pg_exception_detail;
        if connected then
            execute format('select %I.dblink_disconnect($1)', dblink) using connection;
        end if;
        raise warning using
            message = format('subscription "%s" is dropped here, but node "%s" still has its bookkeeping: %s',
                             old.subscription_name, old.node_name, failed_message),
            detail = failed_detail,
            hint = format('If it was ever reached, run there: '
                          'DELETE FROM courier_target.event WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.copied WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.progress WHERE subscription = %1$L; '
                          'and, if progress is empty then, DROP SCHEMA courier_target CASCADE;', old.progress_key);
    end;
    perform courier.sync_capture();
    return null;
end
$$;
revoke execute on function courier.end_subscription() from public;
comment on function courier.end_subscription() is
    'constraint trigger, at commit: removes the bookkeeping of a dropped subscription from its target, or warns; then the capture triggers';

create constraint trigger subscription_end
    after delete on courier.subscription deferrable initially deferred
    for each row execute function courier.end_subscription();

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
language plpgsql stable
set search_path = pg_catalog, pg_temp
-- Segments have no statistics. From a guess the planner would read them whole,
-- and compile the query for longer than it runs.
set enable_seqscan = off
set jit = off
as $$
declare
    p constant pg_snapshot := split_part("position", '|', 1);
    s constant pg_snapshot := nullif(split_part("position", '|', 2), '');
    last_k constant pg_lsn := nullif(split_part("position", '|', 3), '');
    last_xid constant xid8 := nullif(split_part("position", '|', 4), '');
    since constant xid8 := pg_snapshot_xmax(p);
    until constant xid8 := pg_snapshot_xmax(target);
    waiting constant xid8[] := array(select pg_snapshot_xip(p));
begin
    return not exists (
            select from courier.queue_chunk q
            where q.xid >= since and q.xid < until and pg_visible_in_snapshot(q.xid, target)
              and (s is null or not pg_visible_in_snapshot(q.xid, s) or (q.k, q.xid) > (last_k, last_xid)))
        and not exists (
            select from courier.queue_chunk q
            where q.xid = any (waiting) and pg_visible_in_snapshot(q.xid, target)
              and (s is null or not pg_visible_in_snapshot(q.xid, s) or (q.k, q.xid) > (last_k, last_xid)));
end
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
        -- While the position is null, existing rows are still being copied.
        if state.position is not null and state.state <> 'copying'
           and courier.is_applied(state.position, target) then
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
