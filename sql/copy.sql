-- The copy of existing rows: what is asked for, how far it is, pause and cancel.

create table courier.copy_request (
    subscription_id int not null,
    relation regclass not null,
    added pg_snapshot not null,
    requests int not null default 0,
    on_existing text not null,
    cancelled boolean not null default false,
    constraint copy_request_pkey primary key (subscription_id, relation),
    constraint copy_request_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade,
    constraint copy_request_on_existing_known check (on_existing in ('error', 'merge', 'truncate'))
);
comment on table courier.copy_request is 'tables of subscriptions that were to be copied once more, or not to be copied';
comment on column courier.copy_request.subscription_id is 'the subscription';
comment on column courier.copy_request.relation is 'the table';
comment on column courier.copy_request.added is
    'the table''s, as in subscription_table; where that is another one the table has left the sets since, and the request is void';
comment on column courier.copy_request.requests is 'how often a new copy was asked for; the node''s copy bears the number it was made for';
comment on column courier.copy_request.on_existing is 'what is done about the rows that the node has: error, merge or truncate';
comment on column courier.copy_request.cancelled is 'whether its copy was cancelled; nothing of the table is sent until a new one is asked for';
create trigger bump_generation after insert or update or delete or truncate on courier.copy_request
    for each statement execute function courier.bump_generation();

create table courier.copy_pause (
    subscription_id int not null,
    paused_at timestamptz not null default now(),
    constraint copy_pause_pkey primary key (subscription_id),
    constraint copy_pause_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
);
comment on table courier.copy_pause is 'subscriptions whose copying of existing rows is paused; changes flow all the same';
comment on column courier.copy_pause.subscription_id is 'the subscription';
comment on column courier.copy_pause.paused_at is 'since when';
create trigger bump_generation after insert or update or delete or truncate on courier.copy_pause
    for each statement execute function courier.bump_generation();

create table courier.copy_progress (
    subscription_id int not null,
    relation oid not null,
    copy_name text not null,
    state text not null,
    chunks_done int8 not null default 0,
    chunks_total int8 not null default 0,
    rows_copied int8 not null default 0,
    bytes_copied int8 not null default 0,
    bytes_total int8 not null default 0,
    bytes_per_second float8,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null default clock_timestamp(),
    constraint copy_progress_pkey primary key (subscription_id, relation),
    constraint copy_progress_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade,
    constraint copy_progress_state_known check (state in ('waiting', 'copying', 'verifying', 'copied', 'cancelled'))
) with (fillfactor = 50);
comment on table courier.copy_progress is
    'how far the copy of each table is, written down every few seconds; the chunks that the node has noted are the authority';
comment on column courier.copy_progress.subscription_id is 'the subscription';
comment on column courier.copy_progress.relation is 'OID of the table';
comment on column courier.copy_progress.copy_name is 'which copy, as in subscription_table_copy';
comment on column courier.copy_progress.state is 'waiting, copying, verifying, copied or cancelled';
comment on column courier.copy_progress.chunks_done is 'chunks that the node has';
comment on column courier.copy_progress.chunks_total is 'chunks that the table was cut into';
comment on column courier.copy_progress.rows_copied is 'rows in the chunks done';
comment on column courier.copy_progress.bytes_copied is 'size of the chunks done, as the table has them on disk';
comment on column courier.copy_progress.bytes_total is 'size of the table when its copy began';
comment on column courier.copy_progress.bytes_per_second is 'how fast the table was copied lately';
comment on column courier.copy_progress.started_at is 'when its copy began';
comment on column courier.copy_progress.finished_at is 'when it was done and its rows had been counted';
comment on column courier.copy_progress.updated_at is 'when this row was last written';

-- What copying a table goes by. A copy is named after the position at which its
-- table was added and the number of times it was asked for again.
create view courier.subscription_table_copy as
select t.subscription_id,
       t.relation,
       t.added::text || coalesce('#' || nullif(c.requests, 0), '') as copy_name,
       coalesce(c.on_existing, s.options ->> 'on_existing', 'error') as on_existing,
       coalesce(c.cancelled, false) as cancelled,
       (s.copy_data or coalesce(c.requests, 0) > 0) as wanted
from courier.subscription_table t
join courier.subscription s on s.subscription_id = t.subscription_id
left join courier.copy_request c on c.subscription_id = t.subscription_id and c.relation = t.relation
     and c.added::text = t.added::text;
comment on view courier.subscription_table_copy is 'which tables of each subscription the node is to have a copy of';
comment on column courier.subscription_table_copy.subscription_id is 'the subscription';
comment on column courier.subscription_table_copy.relation is 'OID of the table';
comment on column courier.subscription_table_copy.copy_name is 'which copy that is; the node notes it with the table';
comment on column courier.subscription_table_copy.on_existing is 'what is done about the rows that the node has';
comment on column courier.subscription_table_copy.cancelled is 'whether its copy was cancelled';
comment on column courier.subscription_table_copy.wanted is 'whether the node is to have a copy at all';

-- Whether tables of a subscription are yet to be copied, also if no shipper has
-- learnt of them yet.
create function courier.copies_outstanding(subscription_id int) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from courier.subscription_table_copy t
        where t.subscription_id = copies_outstanding.subscription_id and t.wanted and not t.cancelled
          and not exists (
            select from courier.copy_progress p
            where p.subscription_id = t.subscription_id and p.relation = t.relation
              and p.copy_name = t.copy_name and p.state = 'copied'))
$$;
revoke execute on function courier.copies_outstanding(int) from public;
comment on function courier.copies_outstanding(int) is 'whether tables of a subscription are yet to be copied';

create view courier.copy_status as
select s.subscription_name,
       n.nspname as schema_name,
       c.relname as table_name,
       a.state,
       p.chunks_done,
       p.chunks_total,
       p.rows_copied,
       p.bytes_copied,
       p.bytes_total,
       b.pace as bytes_per_second,
       pg_catalog.make_interval(secs => greatest(p.bytes_total - p.bytes_copied, 0) / b.pace) as time_left,
       p.started_at,
       p.finished_at,
       p.updated_at
from courier.copy_progress p
join courier.subscription s on s.subscription_id = p.subscription_id
join pg_catalog.pg_class c on c.oid = p.relation
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join courier.subscription_state t on t.subscription_id = s.subscription_id
left join courier.copy_request x on x.subscription_id = s.subscription_id and x.relation = p.relation
     and x.added::text || coalesce('#' || nullif(x.requests, 0), '') = p.copy_name
left join courier.copy_pause u on u.subscription_id = s.subscription_id
cross join lateral (
    select case when p.state in ('waiting', 'copying', 'verifying') and x.cancelled then 'cancelled'
                when p.state in ('waiting', 'copying', 'verifying') and not s.enabled then 'disabled'
                when p.state in ('waiting', 'copying', 'verifying') and t.state in ('stopped', 'retrying', 'needs_resync') then t.state
                when p.state in ('waiting', 'copying') and u.subscription_id is not null then 'paused'
                else p.state
           end as state
) as a
-- What has not gone on for a minute, or for as long as some chunks took, has no pace.
cross join lateral (
    select case when a.state = 'copying' and p.updated_at > pg_catalog.clock_timestamp() - greatest(
                    interval '1 minute',
                    pg_catalog.make_interval(secs => 3 * p.bytes_total / nullif(p.chunks_total, 0) / nullif(p.bytes_per_second, 0)))
                then nullif(p.bytes_per_second, 0)
           end as pace
) as b;
comment on view courier.copy_status is 'how far the copy of existing rows is, one row a table';
comment on column courier.copy_status.subscription_name is 'the subscription';
comment on column courier.copy_status.schema_name is 'schema of the table';
comment on column courier.copy_status.table_name is 'the table';
comment on column courier.copy_status.state is
    'waiting, copying, verifying, copied, cancelled, paused; or why it does not go on: disabled, retrying, stopped, needs_resync';
comment on column courier.copy_status.chunks_done is 'chunks that the node has';
comment on column courier.copy_status.chunks_total is 'chunks that the table was cut into';
comment on column courier.copy_status.rows_copied is 'rows in the chunks done';
comment on column courier.copy_status.bytes_copied is 'size of the chunks done, as the table has them on disk';
comment on column courier.copy_status.bytes_total is 'size of the table when its copy began';
comment on column courier.copy_status.bytes_per_second is 'how fast it was copied lately; null where it does not go on';
comment on column courier.copy_status.time_left is 'how long the rest of the table takes at that pace; null if there is none';
comment on column courier.copy_status.started_at is 'when its copy began';
comment on column courier.copy_status.finished_at is 'when it was done and its rows had been counted';
comment on column courier.copy_status.updated_at is 'when a shipper last wrote this down';
grant select on courier.copy_status to public;

-- The tables of a subscription that a call names: one, or all.
create function courier.require_subscribed(subscription courier.subscription, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from courier.subscription_table t
                   where t.subscription_id = subscription.subscription_id and t.relation = require_subscribed.relation) then
        raise exception using
            errcode = 'undefined_object',
            message = format('table %s is not sent by subscription "%s"',
                             coalesce(require_subscribed.relation::text, 'null'), subscription.subscription_name),
            hint = courier.known_names('table in it', array(
                select t.relation::regclass::text from courier.subscription_table t
                where t.subscription_id = subscription.subscription_id));
    end if;
end
$$;
revoke execute on function courier.require_subscribed(courier.subscription, regclass) from public;
comment on function courier.require_subscribed(courier.subscription, regclass) is
    'raises an error if a table is not in a subscription';

create function courier.alter_subscription_resynchronize_table(
    subscription_name text, relation regclass, on_existing text default 'merge') returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    present := courier.configure_subscription(alter_subscription_resynchronize_table.subscription_name);
    perform courier.require_subscribed(present, relation);
    if on_existing is null or on_existing not in ('error', 'merge', 'truncate') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('on_existing cannot be %s', coalesce(quote_literal(on_existing), 'null')),
            hint = 'It can be: error, merge, truncate.';
    end if;
    insert into courier.copy_request as c (subscription_id, relation, added, requests, on_existing)
    select t.subscription_id, t.relation, t.added, 1, alter_subscription_resynchronize_table.on_existing
    from courier.subscription_table t
    where t.subscription_id = present.subscription_id
      and t.relation = alter_subscription_resynchronize_table.relation
    on conflict on constraint copy_request_pkey do update
    set added = excluded.added,
        requests = case when c.added::text = excluded.added::text then c.requests else 0 end + 1,
        on_existing = excluded.on_existing, cancelled = false;
    insert into courier.copy_progress as p (subscription_id, relation, copy_name, state)
    select t.subscription_id, t.relation, t.copy_name, 'waiting' from courier.subscription_table_copy t
    where t.subscription_id = present.subscription_id
      and t.relation = alter_subscription_resynchronize_table.relation
    on conflict on constraint copy_progress_pkey do update
    set copy_name = excluded.copy_name, state = 'waiting', chunks_done = 0, chunks_total = 0, rows_copied = 0,
        bytes_copied = 0, bytes_total = 0, bytes_per_second = null, started_at = null, finished_at = null,
        updated_at = clock_timestamp();
    -- one that could not be copied as it was asked for is tried again at once
    update courier.subscription_state t
    set state = 'retrying', next_retry_at = clock_timestamp(), updated_at = clock_timestamp()
    where t.subscription_id = present.subscription_id and t.state = 'stopped';
end
$$;
comment on function courier.alter_subscription_resynchronize_table(text, regclass, text) is
    'copies a table of a subscription once more: merge makes the node''s rows equal to the source''s and leaves those alone that are, truncate empties the table there first, error wants it empty';

create function courier.alter_subscription_resynchronize_table(
    subscription_name text, relation text, on_existing text default 'merge') returns void
language sql
as $$
    select courier.alter_subscription_resynchronize_table($1, courier.find_relation($2), $3)
$$;
comment on function courier.alter_subscription_resynchronize_table(text, text, text) is
    'copies a table of a subscription once more: merge makes the node''s rows equal to the source''s and leaves those alone that are, truncate empties the table there first, error wants it empty';

create function courier.pause_copy(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    present := courier.configure_subscription(pause_copy.subscription_name);
    insert into courier.copy_pause (subscription_id) values (present.subscription_id) on conflict do nothing;
end
$$;
comment on function courier.pause_copy(text) is
    'lets the copying of existing rows rest when the chunks under way are done; changes flow on';

create function courier.resume_copy(subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
begin
    present := courier.configure_subscription(resume_copy.subscription_name);
    delete from courier.copy_pause p where p.subscription_id = present.subscription_id;
end
$$;
comment on function courier.resume_copy(text) is 'goes on with a copy that was paused, at the chunk it was at';

create function courier.cancel_copy(subscription_name text, relation regclass default null) returns int
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
    cancelled int;
begin
    present := courier.configure_subscription(cancel_copy.subscription_name);
    if relation is not null then
        perform courier.require_subscribed(present, relation);
    end if;
    insert into courier.copy_request as c (subscription_id, relation, added, on_existing, cancelled)
    select t.subscription_id, t.relation, a.added, t.on_existing, true
    from courier.subscription_table_copy t
    join courier.subscription_table a on a.subscription_id = t.subscription_id and a.relation = t.relation
    where t.subscription_id = present.subscription_id
      and t.relation = coalesce(cancel_copy.relation::oid, t.relation) and t.wanted and not t.cancelled
      and not exists (
        select from courier.copy_progress p
        where p.subscription_id = t.subscription_id and p.relation = t.relation
          and p.copy_name = t.copy_name and p.state = 'copied')
    on conflict on constraint copy_request_pkey do update
    set added = excluded.added,
        requests = case when c.added::text = excluded.added::text then c.requests else 0 end,
        on_existing = excluded.on_existing, cancelled = true;
    get diagnostics cancelled = row_count;
    if cancelled = 0 then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = case when relation is null
                then format('subscription "%s" copies no table', present.subscription_name)
                else format('table %s is not being copied by subscription "%s"', relation, present.subscription_name) end,
            hint = 'See courier.copy_status.';
    end if;
    return cancelled;
end
$$;
comment on function courier.cancel_copy(text, regclass) is
    'gives up the copy of a table, or of all that are not done; the rows that have arrived stay, and nothing of the table is sent until alter_subscription_resynchronize_table() asks for a new copy';
