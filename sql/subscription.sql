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

create function courier.configure_subscription(subscription_name text) returns courier.subscription
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    return courier.find_subscription(subscription_name);
end
$$;
comment on function courier.configure_subscription(text) is
    'the subscription of that name, for an administrator who changes something about it';

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
       case when bool_and(t.filter_id is not null)
            then string_agg(distinct coalesce(courier.row_filter_expression(c.oid, t.filter_id), t.row_filter), ' OR ')
       end as row_filter,
       bool_or(r.replicate_insert) as replicate_insert,
       bool_or(r.replicate_update) as replicate_update,
       bool_or(r.replicate_delete) as replicate_delete,
       bool_or(r.replicate_truncate) as replicate_truncate,
       courier.first_added(s.subscription_id, c.oid,
           array_agg(t.added order by pg_snapshot_xmax(t.added), pg_snapshot_xmin(t.added), t.set_name)) as added
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
comment on column courier.subscription_table.row_filter is 'condition on the rows that are sent; null for all';
comment on column courier.subscription_table.replicate_insert is 'whether inserted rows are sent';
comment on column courier.subscription_table.replicate_update is 'whether updated rows are sent';
comment on column courier.subscription_table.replicate_delete is 'whether deleted rows are sent';
comment on column courier.subscription_table.replicate_truncate is 'whether TRUNCATE is sent';
comment on column courier.subscription_table.added is
    'position since which the table has been in one of the sets or another';

-- What decides about a row where row filters do, one row for each set of a
-- subscription that has the table.
create view courier.subscription_row_filter as
select s.subscription_id,
       t.relation::oid as relation,
       t.set_name,
       t.filter_id,
       r.replicate_insert,
       r.replicate_update,
       r.replicate_delete,
       t.added
from courier.subscription s
join courier.replication_set r on r.set_name = any (s.replication_sets)
join courier.replication_set_table t on t.set_name = r.set_name
where exists (select from courier.replication_set_table f
              where f.set_name = any (s.replication_sets) and f.relation = t.relation and f.filter_id is not null);
comment on view courier.subscription_row_filter is 'sets of each subscription that have a table of which rows are filtered';
comment on column courier.subscription_row_filter.subscription_id is 'the subscription';
comment on column courier.subscription_row_filter.relation is 'OID of the table';
comment on column courier.subscription_row_filter.set_name is 'the set';
comment on column courier.subscription_row_filter.filter_id is 'number of its row filter; null if it takes all rows';
comment on column courier.subscription_row_filter.replicate_insert is 'whether it sends inserted rows';
comment on column courier.subscription_row_filter.replicate_update is 'whether it sends updated rows';
comment on column courier.subscription_row_filter.replicate_delete is 'whether it sends deleted rows';
comment on column courier.subscription_row_filter.added is 'position at which the table was added to the set';

create function courier.create_subscription(
    subscription_name text,
    node_name text,
    replication_sets text[] default '{default}',
    copy_data boolean default true,
    capture text default 'trigger',
    enabled boolean default true,
    options jsonb default '{}',
    on_existing text default null,
    synchronize_structure boolean default null) returns int
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
    -- in words, as any other option
    options := options || jsonb_strip_nulls(jsonb_build_object(
        'on_existing', on_existing, 'synchronize_structure', synchronize_structure::text));
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
comment on function courier.create_subscription(text, text, text[], boolean, text, boolean, jsonb, text, boolean) is
    'sends the tables of replication sets to a node from now on; returns the number of the subscription';

create function courier.alter_subscription_enable(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    present := courier.configure_subscription(alter_subscription_enable.subscription_name);
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
    present := courier.configure_subscription(alter_subscription_disable.subscription_name);
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
    present := courier.configure_subscription(drop_subscription.subscription_name);
    delete from courier.subscription s where s.subscription_id = present.subscription_id;
end
$$;
comment on function courier.drop_subscription(text) is
    'ends a subscription and, at commit, removes its bookkeeping from the node; the rows stay there';
