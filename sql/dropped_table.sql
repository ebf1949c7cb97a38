-- Dropped tables leave their sets; what was captured of them before still
-- arrives, for which shippers have to know them as long as the queue has it: a node
-- that is restored from a backup is shipped again what it had confirmed.

create table courier.dropped_table (
    subscription_id int not null,
    relation oid not null,
    schema_name name not null,
    table_name name not null,
    columns name[],
    replicate_insert boolean not null,
    replicate_update boolean not null,
    replicate_delete boolean not null,
    replicate_truncate boolean not null,
    added pg_snapshot not null,
    dropped_by xid8 not null,
    constraint dropped_table_pkey primary key (subscription_id, relation),
    constraint dropped_table_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
);
comment on table courier.dropped_table is
    'tables that were dropped, for each subscription that had them; removed when the queue has no more changes of them';
comment on column courier.dropped_table.subscription_id is 'the subscription';
comment on column courier.dropped_table.relation is 'OID of the table';
comment on column courier.dropped_table.schema_name is 'schema it was in';
comment on column courier.dropped_table.table_name is 'name it had';
comment on column courier.dropped_table.columns is 'columns that are sent; null for all';
comment on column courier.dropped_table.replicate_insert is 'whether inserted rows are sent';
comment on column courier.dropped_table.replicate_update is 'whether updated rows are sent';
comment on column courier.dropped_table.replicate_delete is 'whether deleted rows are sent';
comment on column courier.dropped_table.replicate_truncate is 'whether TRUNCATE is sent';
comment on column courier.dropped_table.added is 'position since which the table had been in one of the sets or another';
comment on column courier.dropped_table.dropped_by is 'transaction that dropped it: behind it there are no changes of it';

-- What decided about its rows, where row filters did. Capture has noted with each
-- change which of them let the row in; see pkg/ship/rowfilter.go.
create table courier.dropped_table_filter (
    subscription_id int not null,
    relation oid not null,
    set_name name not null,
    filter_id int,
    replicate_insert boolean not null,
    replicate_update boolean not null,
    replicate_delete boolean not null,
    added pg_snapshot not null,
    constraint dropped_table_filter_pkey primary key (subscription_id, relation, set_name),
    constraint dropped_table_filter_table_fkey foreign key (subscription_id, relation)
        references courier.dropped_table (subscription_id, relation) on delete cascade
);
comment on table courier.dropped_table_filter is
    'sets of each subscription that had a dropped table of which rows were filtered; as in subscription_row_filter';
comment on column courier.dropped_table_filter.subscription_id is 'the subscription';
comment on column courier.dropped_table_filter.relation is 'OID of the table';
comment on column courier.dropped_table_filter.set_name is 'the set';
comment on column courier.dropped_table_filter.filter_id is 'number of its row filter; null if it took all rows';
comment on column courier.dropped_table_filter.replicate_insert is 'whether it sent inserted rows';
comment on column courier.dropped_table_filter.replicate_update is 'whether it sent updated rows';
comment on column courier.dropped_table_filter.replicate_delete is 'whether it sent deleted rows';
comment on column courier.dropped_table_filter.added is 'position at which the table was added to the set';

-- Those that a subscription needs no more: the node has everything, on disk, up to
-- the transaction that dropped them; and a node restored from a backup of before that
-- is not shipped to, since the queue has been emptied beyond (hasAll in pkg/ship/hold.go).
create function courier.forget_settled_tables(subscription_id int) returns setof oid
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from courier.dropped_table d
    using courier.subscription_state t, courier.queue_current c
    where d.subscription_id = forget_settled_tables.subscription_id
      and t.subscription_id = d.subscription_id
      and pg_visible_in_snapshot(d.dropped_by, split_part(t.durable_position, '|', 1)::pg_snapshot)
      and d.dropped_by <= c.truncated_xid
    returning d.relation
$$;
revoke execute on function courier.forget_settled_tables(int) from public;
comment on function courier.forget_settled_tables(int) is
    'removes the dropped tables of which a subscription has sent everything for good and the queue has nothing any more; returns them';

-- Takes tables out of all sets. What is queued of them goes by the names given.
create function courier.forget_tables(relations oid[], schema_names name[], table_names name[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into courier.dropped_table as d
    select s.subscription_id, g.relation, g.schema_name, g.table_name,
           case when bool_and(t.columns is not null)
                then array(select distinct u.column_name
                           from courier.replication_set_table v cross join unnest(v.columns) u (column_name)
                           where v.relation = g.relation and v.set_name = any (s.replication_sets))
           end,
           bool_or(r.replicate_insert), bool_or(r.replicate_update),
           bool_or(r.replicate_delete), bool_or(r.replicate_truncate),
           courier.first_added(s.subscription_id, g.relation,
               array_agg(t.added order by pg_snapshot_xmax(t.added), pg_snapshot_xmin(t.added), t.set_name)),
           pg_current_xact_id()
    from unnest(relations, schema_names, table_names) g (relation, schema_name, table_name)
    join courier.replication_set_table t on t.relation = g.relation
    join courier.replication_set r on r.set_name = t.set_name
    join courier.subscription s on t.set_name = any (s.replication_sets) and s.start_position is not null
    group by s.subscription_id, s.replication_sets, g.relation, g.schema_name, g.table_name
    -- a partition that was attached, detached, and added again
    on conflict on constraint dropped_table_pkey do update
    set schema_name = excluded.schema_name, table_name = excluded.table_name, columns = excluded.columns,
        replicate_insert = excluded.replicate_insert, replicate_update = excluded.replicate_update,
        replicate_delete = excluded.replicate_delete, replicate_truncate = excluded.replicate_truncate,
        dropped_by = excluded.dropped_by;
    insert into courier.dropped_table_filter
    select f.subscription_id, f.relation, f.set_name, f.filter_id,
           f.replicate_insert, f.replicate_update, f.replicate_delete, f.added
    from courier.subscription_row_filter f
    join courier.dropped_table t on t.subscription_id = f.subscription_id and t.relation = f.relation
    where f.relation = any (relations)
    on conflict do nothing;
    delete from courier.replication_set_table t where t.relation = any (relations);
end
$$;
revoke execute on function courier.forget_tables(oid[], name[], name[]) from public;
comment on function courier.forget_tables(oid[], name[], name[]) is
    'takes tables out of their sets; what was captured of them before still arrives';

-- Runs as the owner of the extension, since anyone may drop a table of theirs;
-- touches nothing unless one was in a set.
create function courier.forget_dropped_tables() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    dropped record;
begin
    select array_agg(d.objid) as relations, array_agg(d.schema_name::name) as schema_names,
           array_agg(d.object_name::name) as table_names
    into dropped
    from pg_event_trigger_dropped_objects() d
    where d.classid = 'pg_class'::regclass and d.objsubid = 0
      and exists (select from courier.replication_set_table t where t.relation = d.objid);
    if dropped.relations is not null then
        perform courier.forget_tables(dropped.relations, dropped.schema_names, dropped.table_names);
    end if;
    delete from courier.replication_set_schema t
    using pg_event_trigger_dropped_objects() d
    where d.classid = 'pg_namespace'::regclass and t.schema = d.objid;
end
$$;
revoke execute on function courier.forget_dropped_tables() from public;
comment on function courier.forget_dropped_tables() is
    'event trigger: takes dropped tables and schemas out of replication sets';

-- Always: also where DDL of another source is applied.
create event trigger pg_courier_forget_dropped_tables on sql_drop
    execute function courier.forget_dropped_tables();
alter event trigger pg_courier_forget_dropped_tables enable always;
comment on event trigger pg_courier_forget_dropped_tables is 'takes dropped tables and schemas out of replication sets';
