-- Capture triggers follow the configuration: a table has them exactly while it
-- is in a set of a subscription that captures by trigger.

-- Locks several tables at once. Who writes to them takes them in an order of its
-- own, and one of the two would have to give up: this is the one. It lets go of
-- all after half a second, before PostgreSQL looks for a deadlock, and tries
-- again, for as long as lock_timeout allows.
create function courier.lock_tables(written regclass[], used regclass[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    patience constant interval := (select s.setting::int * interval '1 ms' from pg_settings s where s.name = 'lock_timeout');
    started constant timestamptz := clock_timestamp();
    listed text;
begin
    loop
        begin
            perform set_config('lock_timeout', '500ms', true);
            select string_agg(t::text, ', ' order by t::oid) into listed from unnest(written) t;
            if listed is not null then
                execute format('lock table %s in share row exclusive mode', listed);
            end if;
            select string_agg(t::text, ', ' order by t::oid) into listed from unnest(used) t;
            if listed is not null then
                execute format('lock table %s in access exclusive mode', listed);
            end if;
            perform set_config('lock_timeout', extract(epoch from patience) * 1000 || 'ms', true);
            return;
        exception when insufficient_privilege then
            raise exception using
                errcode = 'insufficient_privilege',
                message = sqlerrm,
                hint = format('Capture needs a lock and triggers on it. Run GRANT UPDATE, TRIGGER ON %s TO %I, or let a superuser do this.',
                              listed, current_user);
        when lock_not_available then
            if patience > interval '0' and clock_timestamp() - started >= patience then
                raise;
            end if;
        end;
        perform pg_sleep(random() / 20);
    end loop;
end
$$;
revoke execute on function courier.lock_tables(regclass[], regclass[]) from public;
comment on function courier.lock_tables(regclass[], regclass[]) is
    'locks tables against writers, and others against everybody, and is in no deadlock with a user';

create function courier.capture_changes(only_partitions boolean)
returns table (relation regclass, trigger_name name, missing boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive captured as (
        select distinct c.oid as relation
        from courier.subscription s
        join courier.replication_set_table t on t.set_name = any (s.replication_sets)
        join pg_class c on c.oid = t.relation
        where s.capture = 'trigger' and s.start_position is not null
    ), part (relation) as (
        select c.relation from captured c join pg_class r on r.oid = c.relation and r.relkind = 'p'
        union
        select i.inhrelid from part p join pg_inherits i on i.inhparent = p.relation and not i.inhdetachpending
    ), wanted as (
        select c.relation, g.trigger_name
        from captured c
        cross join (values ('!pg_courier_row'::name), ('!pg_courier_truncate'), ('!pg_courier_truncate_begin'))
            g (trigger_name)
        union
        select p.relation, g.trigger_name
        from part p join pg_class r on r.oid = p.relation and r.relkind in ('r', 'p')
        cross join (values ('!pg_courier_truncate'::name), ('!pg_courier_truncate_begin')) g (trigger_name)
    ), present as (
        select g.tgrelid as relation, g.tgname as trigger_name
        from pg_trigger g
        where g.tgparentid = 0
          and g.tgfoid in ('courier.capture_row()'::regprocedure, 'courier.capture_truncate()'::regprocedure)
    )
    select coalesce(w.relation, p.relation)::regclass as relation,
           coalesce(w.trigger_name, p.trigger_name) as trigger_name,
           p.relation is null as missing
    from wanted w
    full join present p on p.relation = w.relation and p.trigger_name = w.trigger_name
    where (w.relation is null or p.relation is null)
      and (not only_partitions or not exists (
        select from courier.replication_set_table t
        where t.relation = coalesce(w.relation, p.relation)))
$$;
revoke execute on function courier.capture_changes(boolean) from public;
comment on function courier.capture_changes(boolean) is
    'capture triggers that the configuration wants and that are missing, and those that it does not want';

-- Makes the capture triggers what the configuration asks for: a table has them
-- exactly while a set of a subscription that captures by trigger has it. Only
-- tables that change are locked, in order of their OID: against writers when
-- triggers are created, against all when they are dropped. Create triggers
-- wait for transactions that wrote without being captured, so that a position
-- taken afterwards, by a new statement, covers them.
--
-- A subscription without a starting position comes from a restored dump and
-- will not ship; nothing is captured for it.
--
-- TRUNCATE needs two triggers, before and after, and needs them on each partition
-- of a partitioned table too: statement triggers are not cloned, and whoever
-- truncates a partition fires only its own. Partitions are looked at again after
-- changes, since one may be attached while the root's triggers are created.
--
-- The triggers depend on the extension, so that DROP EXTENSION takes them
-- along. '!' sorts before what users call their triggers.

create function courier.sync_capture(only_partitions boolean default false) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    change record;
    written regclass[];
    used regclass[];
begin
    loop
        select array_agg(distinct c.relation) filter (where c.missing), array_agg(distinct c.relation) filter (where not c.missing)
        into written, used
        from courier.capture_changes(only_partitions) c;
        exit when coalesce(written, used) is null;
        perform courier.lock_tables(written, used);
        for change in
            select c.relation, c.trigger_name, c.missing from courier.capture_changes(only_partitions) c order by c.relation::oid, 2
        loop
            if not change.missing then
                execute format('drop trigger %I on %s', change.trigger_name, change.relation);
                continue;
            end if;
            execute format('create trigger %I %s on %s for each %s', change.trigger_name,
                case change.trigger_name
                    when '!pg_courier_row' then 'after insert or update or delete'
                    when '!pg_courier_truncate' then 'after truncate'
                    else 'before truncate'
                end,
                change.relation,
                case change.trigger_name
                    when '!pg_courier_row' then 'row execute function courier.capture_row()'
                    else 'statement execute function courier.capture_truncate()'
                end);
            execute format('alter trigger %I on %s depends on extension pg_courier',
                           change.trigger_name, change.relation);
        end loop;
    end loop;
end
$$;
revoke execute on function courier.sync_capture(boolean) from public;
comment on function courier.sync_capture(boolean) is
    'creates and drops capture triggers until they match the configuration, or only those of partitions';

-- A table that gets its trigger is locked by that. One that was captured for
-- another set already is not: a shipper that does not see the table in the new
-- set yet could pass a change that commits while it is being added.
create function courier.lock_captured(relations regclass[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.lock_tables(array(
        select t.tgrelid::regclass
        from pg_trigger t
        where t.tgrelid = any (relations) and t.tgname = '!pg_courier_row'
          and t.tgfoid = 'courier.capture_row()'::regprocedure), null);
end
$$;
revoke execute on function courier.lock_captured(regclass[]) from public;
comment on function courier.lock_captured(regclass[]) is
    'waits for who writes to captured tables, and keeps others from it until the transaction ends';

-- A partition that comes or goes gets or loses the triggers that capture its
-- TRUNCATE. Runs as the owner of the extension, since anyone may make one of a
-- table of theirs.
create function courier.follow_partitions() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from courier.replication_set_table t
        join pg_class c on c.oid = t.relation and c.relkind = 'p')
       -- the last partitioned table may just have lost a partition
       or exists (
        select from pg_event_trigger_ddl_commands() d
        join pg_trigger g on g.tgrelid = d.objid
        where d.classid = 'pg_class'::regclass and g.tgfoid = 'courier.capture_truncate()'::regprocedure) then
        perform courier.sync_capture(only_partitions => true);
    end if;
end
$$;
revoke execute on function courier.follow_partitions() from public;
comment on function courier.follow_partitions() is
    'event trigger: partitions of captured tables have the triggers that capture TRUNCATE';

create event trigger pg_courier_follow_partitions on ddl_command_end
    when tag in ('CREATE TABLE', 'ALTER TABLE')
    execute function courier.follow_partitions();
comment on event trigger pg_courier_follow_partitions is
    'gives partitions of captured tables the triggers that capture TRUNCATE';
