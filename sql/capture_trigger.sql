-- Capture triggers follow the configuration: a table has them exactly while it
-- is in a set of a subscription that captures by trigger.

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
-- The triggers depend on the extension, so that DROP EXTENSION takes them
-- along. '!' sorts before what users call their triggers.
create function courier.sync_capture() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    change record;
begin
    for change in
        with wanted as (
            select distinct c.oid as relation, g.trigger_name
            from courier.subscription s
            join courier.replication_set_table t on t.set_name = any (s.replication_sets)
            join pg_class c on c.oid = t.relation
            cross join (values ('!pg_courier_row'::name), ('!pg_courier_truncate')) g (trigger_name)
            where s.capture = 'trigger' and s.start_position is not null
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
        where w.relation is null or p.relation is null
        order by coalesce(w.relation, p.relation), 2
    loop
        if not change.missing then
            execute format('drop trigger %I on %s', change.trigger_name, change.relation);
            continue;
        elsif change.trigger_name = '!pg_courier_row' then
            execute format('create trigger %I after insert or update or delete on %s '
                           'for each row execute function courier.capture_row()',
                           change.trigger_name, change.relation);
        else
            execute format('create trigger %I after truncate on %s '
                           'for each statement execute function courier.capture_truncate()',
                           change.trigger_name, change.relation);
        end if;
        execute format('alter trigger %I on %s depends on extension pg_courier',
                       change.trigger_name, change.relation);
    end loop;
end
$$;
revoke execute on function courier.sync_capture() from public;
comment on function courier.sync_capture() is 'creates and drops capture triggers until they match the configuration';
