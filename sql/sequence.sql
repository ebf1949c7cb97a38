-- Sequences: those that belong to columns of replicated tables, and those that a
-- DBA has added. Shippers keep the node's ahead of what the source has used; see
-- pkg/ship/sequence.go for how, and docs/sequences.md for what follows from it.

create table courier.replication_set_sequence (
    set_name name not null,
    relation regclass not null,
    included boolean not null,
    constraint replication_set_sequence_pkey primary key (set_name, relation)
);
create index replication_set_sequence_relation_idx on courier.replication_set_sequence (relation);
comment on table courier.replication_set_sequence is
    'what was decided about sequences; without a row here, a sequence is in the set if a column that the set sends owns it';
comment on column courier.replication_set_sequence.set_name is 'the set';
comment on column courier.replication_set_sequence.relation is 'the sequence';
comment on column courier.replication_set_sequence.included is 'true: it was added; false: it was taken out, though its table is in the set';
select pg_catalog.pg_extension_config_dump('courier.replication_set_sequence', '');

create trigger bump_generation after insert or update or delete or truncate on courier.replication_set_sequence
    for each statement execute function courier.bump_generation();

create table courier.sequence_state (
    subscription_id int not null,
    relation oid not null,
    node_sequence text,
    source_value int8,
    node_value int8,
    updated_at timestamptz not null default now(),
    constraint sequence_state_pkey primary key (subscription_id, relation),
    constraint sequence_state_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
) with (fillfactor = 50);
comment on table courier.sequence_state is
    'what nodes were last told about sequences; for people: shippers go by the sequences of the node';
comment on column courier.sequence_state.subscription_id is 'the subscription';
comment on column courier.sequence_state.relation is 'OID of the sequence';
comment on column courier.sequence_state.node_sequence is 'the sequence on the node; null if it has none';
comment on column courier.sequence_state.source_value is 'last value used here when the node was told';
comment on column courier.sequence_state.node_value is 'what the node''s sequence was set to';
comment on column courier.sequence_state.updated_at is 'when this row was last written';

create function courier.read_sequences(relations pg_catalog.oid[]) returns pg_catalog.int8[]
language c volatile strict
as 'MODULE_PATHNAME', 'courier_read_sequences';
revoke all on function courier.read_sequences(pg_catalog.oid[]) from public;
comment on function courier.read_sequences(pg_catalog.oid[]) is
    'a number that changes when a sequence is created, altered or dropped, then last_value and is_called of each; nulls for what is locked exclusively';

-- Sequences that columns of the tables of a set own, if the set sends the column.
create view courier.owned_sequence as
select t.set_name,
       d.objid as relation,
       t.relation::oid as table_relation,
       a.attname as column_name
from courier.replication_set_table t
join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and d.refobjid = t.relation
    and d.refobjsubid > 0
    and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and d.deptype in ('a', 'i')
join pg_catalog.pg_sequence q on q.seqrelid = d.objid
join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
where t.columns is null or a.attname = any (t.columns);
comment on view courier.owned_sequence is 'sequences that belong to columns sent by replication sets';
comment on column courier.owned_sequence.set_name is 'the set';
comment on column courier.owned_sequence.relation is 'OID of the sequence';
comment on column courier.owned_sequence.table_relation is 'OID of the table';
comment on column courier.owned_sequence.column_name is 'the column that owns it';

-- What the engine keeps ahead, one row a sequence and subscription.
create view courier.subscription_sequence as
select s.subscription_id,
       s.subscription_name,
       c.oid as relation,
       n.nspname as schema_name,
       c.relname as sequence_name,
       bool_or(g.added) as added,
       min(o.table_schema) as table_schema,
       min(o.table_name) as table_name,
       min(o.column_name) as column_name,
       min(o.table_relation::int8)::oid as table_relation
from courier.subscription s
cross join lateral (
    select q.relation::oid as relation, true as added
    from courier.replication_set_sequence q
    where q.set_name = any (s.replication_sets) and q.included
    union all
    select w.relation, false
    from courier.owned_sequence w
    where w.set_name = any (s.replication_sets)
      and not exists (select from courier.replication_set_sequence q
                      where q.set_name = w.set_name and q.relation = w.relation and not q.included)) g
join pg_catalog.pg_class c on c.oid = g.relation and c.relkind = 'S'
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
-- a sequence has at most one owner
left join (select distinct w.relation, w.table_relation, tn.nspname::text as table_schema, tc.relname::text as table_name,
                  w.column_name::text as column_name, w.set_name
           from courier.owned_sequence w
           join pg_catalog.pg_class tc on tc.oid = w.table_relation
           join pg_catalog.pg_namespace tn on tn.oid = tc.relnamespace) o
    on o.relation = g.relation and o.set_name = any (s.replication_sets)
group by s.subscription_id, s.subscription_name, c.oid, n.nspname, c.relname;
comment on view courier.subscription_sequence is 'sequences that each subscription keeps ahead on its node';
comment on column courier.subscription_sequence.subscription_id is 'the subscription';
comment on column courier.subscription_sequence.subscription_name is 'its name';
comment on column courier.subscription_sequence.relation is 'OID of the sequence';
comment on column courier.subscription_sequence.schema_name is 'schema of the sequence';
comment on column courier.subscription_sequence.sequence_name is 'name of the sequence';
comment on column courier.subscription_sequence.added is 'whether it was added by itself, so that the node must have it';
comment on column courier.subscription_sequence.table_schema is 'schema of the replicated table whose column owns it';
comment on column courier.subscription_sequence.table_name is 'that table';
comment on column courier.subscription_sequence.column_name is 'that column; on the node, the sequence of this column is meant';
comment on column courier.subscription_sequence.table_relation is 'OID of that table';

create view courier.sequence_status as
select q.subscription_name,
       pg_catalog.format('%I.%I', q.schema_name, q.sequence_name) as sequence,
       case when q.column_name is not null
            then pg_catalog.format('%I.%I.%I', q.table_schema, q.table_name, q.column_name) end as owned_by,
       t.node_sequence,
       t.source_value,
       t.node_value,
       t.updated_at
from courier.subscription_sequence q
left join courier.sequence_state t on t.subscription_id = q.subscription_id and t.relation = q.relation;
comment on view courier.sequence_status is 'sequences of each subscription, and what the node was last told';
comment on column courier.sequence_status.subscription_name is 'the subscription';
comment on column courier.sequence_status.sequence is 'the sequence';
comment on column courier.sequence_status.owned_by is 'column that it belongs to; null if it was added by itself';
comment on column courier.sequence_status.node_sequence is 'the sequence on the node; null if it has none, or has not been looked at yet';
comment on column courier.sequence_status.source_value is 'last value used here when the node was told';
comment on column courier.sequence_status.node_value is 'what the node''s sequence was set to';
comment on column courier.sequence_status.updated_at is 'when that was';
grant select on courier.sequence_status to public;

create function courier.require_sequence(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    reason text;
begin
    if relation is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'relation must not be null',
            hint = 'Name a sequence.';
    end if;
    select c.relkind, c.relpersistence, n.nspname into class
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid = relation;
    if not found then
        raise exception using
            errcode = 'undefined_table',
            message = format('relation with OID %s does not exist', relation::oid),
            hint = 'Name a sequence, with its schema if that is not in search_path.';
    end if;
    reason := case
        when class.relkind <> 'S' then 'it is not a sequence'
        when class.relpersistence = 't' then 'it is a temporary sequence'
        when class.relpersistence = 'u' then 'it is an unlogged sequence, which a crash sets back'
        when class.nspname in ('courier', 'courier_target') then 'it belongs to pg_courier'
    end;
    if reason is not null then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s cannot be added as a sequence: %s', relation, reason),
            hint = case class.relkind when 'S' then 'Only permanent sequences can be in a replication set.'
                else 'Tables are added with SELECT courier.replication_set_add_table(...); sequences of their columns come along.' end;
    end if;
end
$$;
revoke execute on function courier.require_sequence(regclass) from public;
comment on function courier.require_sequence(regclass) is 'raises an error unless the relation is a sequence that can be replicated';

create function courier.replication_set_add_sequence(set_name text, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_add_sequence.set_name);
    perform courier.require_sequence(relation);
    if not exists (select from courier.replication_set_sequence q
                   where q.set_name = target_set.set_name and q.relation = replication_set_add_sequence.relation
                     and q.included) then
        insert into courier.replication_set_sequence as q (set_name, relation, included)
        values (target_set.set_name, replication_set_add_sequence.relation, true)
        on conflict on constraint replication_set_sequence_pkey do update set included = true;
    end if;
end
$$;
comment on function courier.replication_set_add_sequence(text, regclass) is
    'adds a sequence to a replication set: it is kept ahead on the nodes. Those that columns own come with their tables';

create function courier.replication_set_add_sequence(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_add_sequence($1, courier.find_sequence($2))
$$;
comment on function courier.replication_set_add_sequence(text, text) is
    'adds a sequence to a replication set: it is kept ahead on the nodes. Those that columns own come with their tables';

create function courier.replication_set_remove_sequence(set_name text, relation regclass) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    target_set courier.replication_set;
    owned boolean;
    present courier.replication_set_sequence;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    target_set := courier.find_replication_set(replication_set_remove_sequence.set_name);
    owned := exists (select from courier.owned_sequence w
                     where w.set_name = target_set.set_name and w.relation = replication_set_remove_sequence.relation);
    select q.* into present from courier.replication_set_sequence q
    where q.set_name = target_set.set_name and q.relation = replication_set_remove_sequence.relation;
    if not owned and not coalesce(present.included, false) then
        raise exception using
            errcode = 'undefined_object',
            message = format('%s is not in replication set "%s"', relation, target_set.set_name),
            hint = courier.known_names('sequence in it', array(
                select q.relation::text from courier.replication_set_sequence q
                where q.set_name = target_set.set_name and q.included
                union
                select w.relation::regclass::text from courier.owned_sequence w
                where w.set_name = target_set.set_name));
    elsif owned and coalesce(present.included, true) then
        insert into courier.replication_set_sequence as q (set_name, relation, included)
        values (target_set.set_name, replication_set_remove_sequence.relation, false)
        on conflict on constraint replication_set_sequence_pkey do update set included = false;
    elsif not owned then
        delete from courier.replication_set_sequence q
        where q.set_name = target_set.set_name and q.relation = replication_set_remove_sequence.relation;
    end if;
end
$$;
comment on function courier.replication_set_remove_sequence(text, regclass) is
    'takes a sequence out of a replication set; one that came with its table stays out until it is added';

create function courier.replication_set_remove_sequence(set_name text, relation text) returns void
language sql
as $$
    select courier.replication_set_remove_sequence($1, courier.find_sequence($2))
$$;
comment on function courier.replication_set_remove_sequence(text, text) is
    'takes a sequence out of a replication set; one that came with its table stays out until it is added';

-- Like find_relation(), and without SET search_path for the same reason.
create function courier.find_sequence(relation text) returns regclass
language plpgsql stable
as $$
declare
    found_relation pg_catalog.regclass := pg_catalog.to_regclass(relation);
begin
    if found_relation is null and relation is not null then
        raise exception using
            errcode = 'undefined_table',
            message = pg_catalog.format('sequence "%s" does not exist', relation),
            hint = 'Name its schema if that is not in search_path; upper case and special characters need double quotes.';
    end if;
    return found_relation;
end
$$;
comment on function courier.find_sequence(text) is 'the sequence of that name by the caller''s search_path, or an error with a hint';

-- What was decided about a table's sequences goes with the table, and all of it
-- with the set.
create function courier.forget_sequences() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_table_name = 'replication_set' then
        delete from courier.replication_set_sequence q where q.set_name = old.set_name;
        return null;
    end if;
    delete from courier.replication_set_sequence q
    using pg_depend d
    where q.set_name = old.set_name and not q.included
      and d.classid = 'pg_class'::regclass and d.objid = q.relation and d.deptype in ('a', 'i')
      and d.refclassid = 'pg_class'::regclass and d.refobjid = old.relation;
    return null;
end
$$;
revoke execute on function courier.forget_sequences() from public;
comment on function courier.forget_sequences() is 'delete trigger: a table or set that goes takes along what was decided about its sequences';

create trigger forget_sequences after delete on courier.replication_set
    for each row execute function courier.forget_sequences();
create trigger forget_sequences after delete on courier.replication_set_table
    for each row execute function courier.forget_sequences();

-- Like forget_dropped_tables().
create function courier.forget_dropped_sequences() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from pg_event_trigger_dropped_objects() d
        join courier.replication_set_sequence q on q.relation = d.objid
        where d.classid = 'pg_class'::regclass and d.objsubid = 0) then
        delete from courier.replication_set_sequence q
        using pg_event_trigger_dropped_objects() d
        where d.classid = 'pg_class'::regclass and d.objsubid = 0 and q.relation = d.objid;
    end if;
end
$$;
revoke execute on function courier.forget_dropped_sequences() from public;
comment on function courier.forget_dropped_sequences() is 'event trigger: takes dropped sequences out of replication sets';

create event trigger pg_courier_forget_dropped_sequences on sql_drop
    execute function courier.forget_dropped_sequences();
comment on event trigger pg_courier_forget_dropped_sequences is 'takes dropped sequences out of replication sets';
