-- Statistics: what was captured, shipped and met on the way, of each subscription
-- and each of its tables. Shippers count in memory and add to these tables about
-- once a second. They are state: pg_dump leaves them out.

create table courier.subscription_statistics (
    subscription_id int not null,
    shipped int8 not null,
    events int8 not null,
    commands int8 not null,
    batches int8 not null,
    bytes int8 not null,
    read_time int8 not null,
    render_time int8 not null,
    apply_time int8 not null,
    stats_reset timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint subscription_statistics_pkey primary key (subscription_id),
    constraint subscription_statistics_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
) with (fillfactor = 50);
comment on table courier.subscription_statistics is
    'what was counted for a subscription as a whole; see courier.stat_subscription';
comment on column courier.subscription_statistics.subscription_id is 'the subscription';
comment on column courier.subscription_statistics.shipped is 'changes, events, commands and rows copied that were shipped';
comment on column courier.subscription_statistics.events is 'events shipped';
comment on column courier.subscription_statistics.commands is 'DDL commands shipped';
comment on column courier.subscription_statistics.batches is 'transactions on the node; a copy is none';
comment on column courier.subscription_statistics.bytes is 'bytes of statements that were sent and committed';
comment on column courier.subscription_statistics.read_time is 'microseconds spent reading the queue';
comment on column courier.subscription_statistics.render_time is 'microseconds spent making statements of what was read';
comment on column courier.subscription_statistics.apply_time is 'microseconds between sending statements and the node''s answer';
comment on column courier.subscription_statistics.stats_reset is 'since when all this is counted';
comment on column courier.subscription_statistics.updated_at is 'when this row was last written';

create table courier.table_statistics (
    subscription_id int not null,
    relation oid not null,
    captured_inserts int8 not null,
    captured_updates int8 not null,
    captured_deletes int8 not null,
    captured_truncates int8 not null,
    filtered int8 not null,
    inserted int8 not null,
    updated int8 not null,
    deleted int8 not null,
    truncated int8 not null,
    copied int8 not null,
    folded int8 not null,
    confl_insert_exists int8 not null,
    confl_update_exists int8 not null,
    confl_update_missing int8 not null,
    confl_delete_missing int8 not null,
    bytes int8 not null,
    updated_at timestamptz not null default clock_timestamp(),
    constraint table_statistics_pkey primary key (subscription_id, relation),
    constraint table_statistics_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
) with (fillfactor = 50);
comment on table courier.table_statistics is
    'what was counted for a table of a subscription; see courier.stat_table';
comment on column courier.table_statistics.subscription_id is 'the subscription';
comment on column courier.table_statistics.relation is 'OID of the table, or of the root of a partitioned one';
comment on column courier.table_statistics.captured_inserts is 'inserts read from the queue, upserts too';
comment on column courier.table_statistics.captured_updates is 'updates read from the queue';
comment on column courier.table_statistics.captured_deletes is 'deletes read from the queue';
comment on column courier.table_statistics.captured_truncates is 'truncates read from the queue';
comment on column courier.table_statistics.filtered is 'of those, not sent';
comment on column courier.table_statistics.inserted is 'inserts shipped, upserts too';
comment on column courier.table_statistics.updated is 'updates shipped';
comment on column courier.table_statistics.deleted is 'deletes shipped';
comment on column courier.table_statistics.truncated is 'truncates shipped';
comment on column courier.table_statistics.copied is 'existing rows copied';
comment on column courier.table_statistics.folded is 'inserts, updates and deletes shipped that needed no row of their own';
comment on column courier.table_statistics.confl_insert_exists is 'rows to insert that the node had';
comment on column courier.table_statistics.confl_update_exists is 'updates that would have made two rows equal in a unique key of the node';
comment on column courier.table_statistics.confl_update_missing is 'rows to update that the node had not';
comment on column courier.table_statistics.confl_delete_missing is 'rows to delete that the node had not';
comment on column courier.table_statistics.bytes is 'bytes of statements that were sent and committed';
comment on column courier.table_statistics.updated_at is 'when this row was last written';

create view courier.stat_subscription as
select s.subscription_id,
       s.subscription_name,
       coalesce(t.captured_inserts, 0) as captured_inserts,
       coalesce(t.captured_updates, 0) as captured_updates,
       coalesce(t.captured_deletes, 0) as captured_deletes,
       coalesce(t.captured_truncates, 0) as captured_truncates,
       coalesce(t.filtered, 0) as filtered,
       coalesce(u.shipped, 0) as shipped,
       coalesce(t.inserted, 0) as inserted,
       coalesce(t.updated, 0) as updated,
       coalesce(t.deleted, 0) as deleted,
       coalesce(t.truncated, 0) as truncated,
       coalesce(u.events, 0) as events,
       coalesce(u.commands, 0) as commands,
       coalesce(t.copied, 0) as copied,
       coalesce(t.folded, 0) as folded,
       coalesce(t.confl_insert_exists, 0) as confl_insert_exists,
       coalesce(t.confl_update_exists, 0) as confl_update_exists,
       coalesce(t.confl_update_missing, 0) as confl_update_missing,
       coalesce(t.confl_delete_missing, 0) as confl_delete_missing,
       coalesce(u.batches, 0) as batches,
       coalesce(u.bytes, 0) as bytes,
       coalesce(u.read_time, 0) / 1000::float8 as read_time,
       coalesce(u.render_time, 0) / 1000::float8 as render_time,
       coalesce(u.apply_time, 0) / 1000::float8 as apply_time,
       u.stats_reset,
       u.updated_at
from courier.subscription s
left join courier.subscription_statistics u on u.subscription_id = s.subscription_id
left join (
    select t.subscription_id,
           sum(t.captured_inserts)::int8 as captured_inserts,
           sum(t.captured_updates)::int8 as captured_updates,
           sum(t.captured_deletes)::int8 as captured_deletes,
           sum(t.captured_truncates)::int8 as captured_truncates,
           sum(t.filtered)::int8 as filtered,
           sum(t.inserted)::int8 as inserted,
           sum(t.updated)::int8 as updated,
           sum(t.deleted)::int8 as deleted,
           sum(t.truncated)::int8 as truncated,
           sum(t.copied)::int8 as copied,
           sum(t.folded)::int8 as folded,
           sum(t.confl_insert_exists)::int8 as confl_insert_exists,
           sum(t.confl_update_exists)::int8 as confl_update_exists,
           sum(t.confl_update_missing)::int8 as confl_update_missing,
           sum(t.confl_delete_missing)::int8 as confl_delete_missing
    from courier.table_statistics t
    group by t.subscription_id) t on t.subscription_id = s.subscription_id;
comment on view courier.stat_subscription is
    'what was captured, shipped and met on the way, of each subscription; docs/statistics.md explains every column';
comment on column courier.stat_subscription.subscription_id is 'number of the subscription';
comment on column courier.stat_subscription.subscription_name is 'its name';
comment on column courier.stat_subscription.captured_inserts is 'inserts of its tables read from the queue, upserts too';
comment on column courier.stat_subscription.captured_updates is 'updates of its tables read from the queue';
comment on column courier.stat_subscription.captured_deletes is 'deletes of its tables read from the queue';
comment on column courier.stat_subscription.captured_truncates is 'truncates of its tables read from the queue, one for each table';
comment on column courier.stat_subscription.filtered is 'of those, not sent: row filters, operations that its sets leave out, older than its table';
comment on column courier.stat_subscription.shipped is 'changes, events, commands and rows copied that are on the node';
comment on column courier.stat_subscription.inserted is 'inserts shipped, upserts too';
comment on column courier.stat_subscription.updated is 'updates shipped';
comment on column courier.stat_subscription.deleted is 'deletes shipped';
comment on column courier.stat_subscription.truncated is 'truncates shipped, one for each table';
comment on column courier.stat_subscription.events is 'events shipped';
comment on column courier.stat_subscription.commands is 'DDL commands shipped';
comment on column courier.stat_subscription.copied is 'existing rows copied';
comment on column courier.stat_subscription.folded is
    'inserts, updates and deletes shipped that needed no row of their own, because others of their batch changed the same row';
comment on column courier.stat_subscription.confl_insert_exists is 'rows to insert that the node had';
comment on column courier.stat_subscription.confl_update_exists is 'updates that would have made two rows equal in a unique key of the node';
comment on column courier.stat_subscription.confl_update_missing is 'rows to update that the node had not';
comment on column courier.stat_subscription.confl_delete_missing is 'rows to delete that the node had not';
comment on column courier.stat_subscription.batches is 'transactions on the node; a copy is none';
comment on column courier.stat_subscription.bytes is 'bytes of statements that were sent and committed';
comment on column courier.stat_subscription.read_time is 'milliseconds spent reading the queue';
comment on column courier.stat_subscription.render_time is 'milliseconds spent making statements of what was read';
comment on column courier.stat_subscription.apply_time is 'milliseconds between sending statements and the node''s answer';
comment on column courier.stat_subscription.stats_reset is 'since when all this is counted; null if nothing is counted yet';
comment on column courier.stat_subscription.updated_at is 'when a shipper last wrote it down';

create view courier.stat_table as
select s.subscription_id,
       s.subscription_name,
       n.nspname as schema_name,
       c.relname as table_name,
       t.captured_inserts,
       t.captured_updates,
       t.captured_deletes,
       t.captured_truncates,
       t.filtered,
       t.inserted,
       t.updated,
       t.deleted,
       t.truncated,
       t.copied,
       t.folded,
       t.confl_insert_exists,
       t.confl_update_exists,
       t.confl_update_missing,
       t.confl_delete_missing,
       t.bytes,
       u.stats_reset,
       t.updated_at
from courier.table_statistics t
join courier.subscription s on s.subscription_id = t.subscription_id
join courier.subscription_statistics u on u.subscription_id = t.subscription_id
join pg_catalog.pg_class c on c.oid = t.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace;
comment on view courier.stat_table is
    'what was captured, shipped and met on the way, of each table of each subscription; docs/statistics.md explains every column';
comment on column courier.stat_table.subscription_id is 'number of the subscription';
comment on column courier.stat_table.subscription_name is 'its name';
comment on column courier.stat_table.schema_name is 'schema of the table';
comment on column courier.stat_table.table_name is 'the table, or the root of a partitioned one';
comment on column courier.stat_table.captured_inserts is 'inserts read from the queue, upserts too';
comment on column courier.stat_table.captured_updates is 'updates read from the queue';
comment on column courier.stat_table.captured_deletes is 'deletes read from the queue';
comment on column courier.stat_table.captured_truncates is 'truncates read from the queue';
comment on column courier.stat_table.filtered is 'of those, not sent: row filters, operations that the sets leave out, older than the table in them';
comment on column courier.stat_table.inserted is 'inserts shipped, upserts too';
comment on column courier.stat_table.updated is 'updates shipped';
comment on column courier.stat_table.deleted is 'deletes shipped';
comment on column courier.stat_table.truncated is 'truncates shipped';
comment on column courier.stat_table.copied is 'existing rows copied';
comment on column courier.stat_table.folded is
    'inserts, updates and deletes shipped that needed no row of their own, because others of their batch changed the same row';
comment on column courier.stat_table.confl_insert_exists is 'rows to insert that the node had';
comment on column courier.stat_table.confl_update_exists is 'updates that would have made two rows equal in a unique key of the node';
comment on column courier.stat_table.confl_update_missing is 'rows to update that the node had not';
comment on column courier.stat_table.confl_delete_missing is 'rows to delete that the node had not';
comment on column courier.stat_table.bytes is 'bytes of statements that were sent and committed';
comment on column courier.stat_table.stats_reset is 'since when all this is counted';
comment on column courier.stat_table.updated_at is 'when a shipper last wrote it down';

grant select on courier.stat_subscription, courier.stat_table to public;

create function courier.reset_statistics(subscription_name text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    subscription record;
begin
    perform courier.require_administrator();
    if reset_statistics.subscription_name is not null then
        perform courier.find_subscription(reset_statistics.subscription_name);
    end if;
    -- One after the other, each first its own row and then those of its tables: as
    -- shippers do.
    for subscription in
        select s.subscription_id from courier.subscription s
        where s.subscription_name = reset_statistics.subscription_name or reset_statistics.subscription_name is null
        order by s.subscription_id
    loop
        insert into courier.subscription_statistics as t
            (subscription_id, shipped, events, commands, batches, bytes, read_time, render_time, apply_time)
        values (subscription.subscription_id, 0, 0, 0, 0, 0, 0, 0, 0)
        on conflict (subscription_id) do update
        set shipped = 0, events = 0, commands = 0, batches = 0, bytes = 0, read_time = 0, render_time = 0, apply_time = 0,
            stats_reset = clock_timestamp(), updated_at = clock_timestamp();
        delete from courier.table_statistics t where t.subscription_id = subscription.subscription_id;
    end loop;
end
$$;
comment on function courier.reset_statistics(text) is
    'sets the statistics of a subscription and its tables, or of all, back to 0; what a shipper has counted and not yet written down, about a second of it, is counted afterwards';
