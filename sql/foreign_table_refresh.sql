-- Refreshing foreign tables: what has changed on the node is changed here, in
-- place, so that views and privileges stay.

-- What depends on a foreign table or on a column of it, in words.
create function courier.dependents_of(relation regclass, column_name name) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(distinct case
        when r.ev_class is not null then pg_describe_object('pg_class'::regclass, r.ev_class, 0)
        else pg_describe_object(d.classid, d.objid, d.objsubid) end, ', ')
    from pg_depend d
    left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
    where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype in ('n', 'a')
      and d.refobjsubid = (select a.attnum from pg_attribute a where a.attrelid = relation and a.attname = column_name)
$$;
revoke execute on function courier.dependents_of(regclass, name) from public;
comment on function courier.dependents_of(regclass, name) is 'objects that depend on a column of a table, as a list in words';

-- Changes a foreign table; what stands in the way is named.
create function courier.alter_foreign_table(relation regclass, column_name name, what text, command text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dependents text;
begin
    execute format('alter foreign table %s %s', courier.qualified_name(relation), command);
exception when dependent_objects_still_exist or feature_not_supported then
    dependents := courier.dependents_of(relation, column_name);
    raise exception using
        errcode = 'dependent_objects_still_exist',
        message = format('column %s of %s cannot be %s as on the node: other objects depend on it', column_name, relation, what),
        detail = format('Dependent: %s.', coalesce(dependents, 'see pg_depend')),
        hint = 'Drop them, refresh, and create them again.';
end
$$;
revoke execute on function courier.alter_foreign_table(regclass, name, text, text) from public;
comment on function courier.alter_foreign_table(regclass, name, text, text) is
    'changes a column of a foreign table, or says what depends on it';

-- Brings one foreign table to what the node's table is. Columns are known by
-- their numbers, if it is still the same table, so that a renamed one is renamed.
create function courier.refresh_foreign_table(recorded courier.foreign_table, described jsonb)
returns table (action text, detail text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    same_table boolean := recorded.remote_oid = (described ->> 'oid')::oid;
    old_column jsonb;
    new_column jsonb;
    local_name name;
begin
    perform courier.require_known_types(described, format('%I.%I', recorded.remote_schema, recorded.remote_table));
    -- those that are gone first: another may have been given their name
    for old_column in
        select o from jsonb_array_elements(recorded.columns) with ordinality u (o, n)
        order by exists (select from jsonb_array_elements(described -> 'columns') c
                         where case when same_table then c ->> 'number' = o ->> 'number' else c ->> 'name' = o ->> 'name' end), n
    loop
        select c into new_column from jsonb_array_elements(described -> 'columns') c
        where case when same_table then c ->> 'number' = old_column ->> 'number' else c ->> 'name' = old_column ->> 'name' end;
        select a.attname into local_name from pg_attribute a
        where a.attrelid = recorded.relation and a.attnum > 0 and not a.attisdropped
          and coalesce((select substr(o, 13) from unnest(a.attfdwoptions) o where o like 'column\_name=%'), a.attname) = old_column ->> 'name';
        continue when local_name is null;
        if new_column is null then
            perform courier.alter_foreign_table(recorded.relation, local_name, 'dropped', format('drop column %I', local_name));
            action := 'column dropped';
            detail := local_name;
            return next;
            continue;
        end if;
        if new_column ->> 'name' <> old_column ->> 'name' then
            perform courier.alter_foreign_table(recorded.relation, local_name, 'renamed', format('alter column %I options (%s column_name %L)',
                local_name, case when exists (select from pg_attribute a where a.attrelid = recorded.relation and a.attname = local_name
                                              and a.attfdwoptions is not null) then 'set' else 'add' end, new_column ->> 'name'));
            if local_name = old_column ->> 'name' then
                perform courier.alter_foreign_table(recorded.relation, local_name, 'renamed',
                                                    format('rename column %I to %I', local_name, new_column ->> 'name'));
                local_name := new_column ->> 'name';
            end if;
            action := 'column renamed';
            detail := format('%s to %s', old_column ->> 'name', new_column ->> 'name');
            return next;
        end if;
        if new_column ->> 'type' <> old_column ->> 'type' then
            perform courier.alter_foreign_table(recorded.relation, local_name, 'changed',
                                                format('alter column %I type %s', local_name, new_column ->> 'type'));
            action := 'column type changed';
            detail := format('%s from %s to %s', local_name, old_column ->> 'type', new_column ->> 'type');
            return next;
        end if;
        if new_column ->> 'not_null' <> old_column ->> 'not_null' then
            perform courier.alter_foreign_table(recorded.relation, local_name, 'changed', format('alter column %I %s not null',
                local_name, case new_column ->> 'not_null' when 'true' then 'set' else 'drop' end));
            action := 'column constraint changed';
            detail := format('%s %s', local_name, case new_column ->> 'not_null' when 'true' then 'not null' else 'null' end);
            return next;
        end if;
    end loop;
    for new_column in
        select c from jsonb_array_elements(described -> 'columns') with ordinality u (c, n)
        where not exists (select from jsonb_array_elements(recorded.columns) o
                          where case when same_table then c ->> 'number' = o ->> 'number' else c ->> 'name' = o ->> 'name' end)
        order by n
    loop
        perform courier.alter_foreign_table(recorded.relation, (new_column ->> 'name')::name, 'added',
            format('add column %I %s options (column_name %L)%s', new_column ->> 'name', new_column ->> 'type', new_column ->> 'name',
                   case new_column ->> 'not_null' when 'true' then ' not null' else '' end));
        action := 'column added';
        detail := new_column ->> 'name';
        return next;
    end loop;
    update courier.foreign_table t
    set columns = described -> 'columns', remote_oid = (described ->> 'oid')::oid, refreshed_at = clock_timestamp()
    where t.relation = recorded.relation;
end
$$;
revoke execute on function courier.refresh_foreign_table(courier.foreign_table, jsonb) from public;
comment on function courier.refresh_foreign_table(courier.foreign_table, jsonb) is
    'makes a foreign table what the node''s table is now; the changes';

create function courier.refresh_foreign_tables(node_name text, analyze_tables boolean default true)
returns table (relation regclass, action text, detail text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
    schemas record;
    recorded courier.foreign_table;
    found_there jsonb;
    described jsonb;
    change record;
    added record;
    changes int := 0;
    server name;
begin
    perform courier.require_administrator();
    perform courier.lock_foreign_tables();
    node := courier.find_node(refresh_foreign_tables.node_name);
    perform courier.forget_foreign_tables(node.node_name);
    if not exists (select from courier.foreign_import i where i.node_name = node.node_name) then
        raise exception using
            errcode = 'undefined_object',
            message = format('no tables of node "%s" were imported', node.node_name),
            hint = format('Import some with SELECT courier.import_tables(%L, ''public'', ...).', node.node_name);
    end if;
    server := courier.sync_foreign_server(node);
    for schemas in
        select i.* from courier.foreign_import i where i.node_name = node.node_name order by i.remote_schema, i.local_schema
    loop
        found_there := courier.remote_tables(node, schemas.remote_schema);
        for recorded in
            select t.* from courier.foreign_table t
            where t.node_name = node.node_name and t.remote_schema = schemas.remote_schema and t.local_schema = schemas.local_schema
            order by t.remote_table
        loop
            relation := recorded.relation;
            described := found_there -> 'tables' -> recorded.remote_table;
            if described is null then
                changes := changes + 1;
                action := 'missing';
                detail := format('node "%s" has no %I.%I any more', node.node_name, recorded.remote_schema, recorded.remote_table);
                return next;
                continue;
            end if;
            for change in select c.* from courier.refresh_foreign_table(recorded, described) c loop
                changes := changes + 1;
                action := change.action;
                detail := change.detail;
                return next;
            end loop;
        end loop;
        for added in
            select e.key, e.value from jsonb_each(found_there -> 'tables') e
            where schemas.all_tables and not (e.value ->> 'part')::boolean
              and not exists (select from courier.foreign_table t
                              where t.node_name = node.node_name and t.remote_schema = schemas.remote_schema
                                and t.local_schema = schemas.local_schema and t.remote_table = e.key)
            order by e.key
        loop
            relation := courier.import_one_table(node, server, schemas.remote_schema,
                                                 schemas.local_schema, added.key, added.value);
            changes := changes + 1;
            action := 'imported';
            detail := null;
            return next;
        end loop;
        if analyze_tables then
            for recorded in
                select t.* from courier.foreign_table t
                where t.node_name = node.node_name and t.remote_schema = schemas.remote_schema and t.local_schema = schemas.local_schema
                  and found_there -> 'tables' -> t.remote_table ->> 'may_select' = 'true'
                order by t.remote_table
            loop
                execute format('analyze %s', courier.qualified_name(recorded.relation));
            end loop;
        end if;
    end loop;
    insert into courier.foreign_refresh as f (node_name, last_at, last_changes)
    values (node.node_name, clock_timestamp(), changes)
    on conflict on constraint foreign_refresh_pkey do update
    set last_at = excluded.last_at, last_changes = excluded.last_changes, last_error = null, last_error_sqlstate = null;
end
$$;
comment on function courier.refresh_foreign_tables(text, boolean) is
    'finds what has changed of the tables that were imported from a node, changes the foreign tables, analyzes them; returns the changes';

create function courier.schedule_foreign_refresh(node_name text, every interval) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    node courier.node;
begin
    perform courier.require_administrator();
    perform courier.lock_foreign_tables();
    node := courier.find_node(schedule_foreign_refresh.node_name);
    if every < interval '1 s' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('foreign tables cannot be refreshed every %s', every),
            hint = 'An interval of a second or more, or null for never.';
    elsif not exists (select from courier.foreign_import i where i.node_name = node.node_name) then
        raise exception using
            errcode = 'undefined_object',
            message = format('no tables of node "%s" were imported', node.node_name),
            hint = format('Import some with SELECT courier.import_tables(%L, ''public'', ...).', node.node_name);
    end if;
    insert into courier.foreign_refresh as f (node_name, every, next_at)
    values (node.node_name, schedule_foreign_refresh.every, clock_timestamp() + coalesce(schedule_foreign_refresh.every, '0'))
    on conflict on constraint foreign_refresh_pkey do update set every = excluded.every, next_at = excluded.next_at;
end
$$;
comment on function courier.schedule_foreign_refresh(text, interval) is
    'has housekeeping refresh the foreign tables of a node so often; null: no longer';

create function courier.refresh_is_due() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select exists (select from courier.foreign_refresh f where f.every is not null and f.next_at <= clock_timestamp()) $$;
revoke execute on function courier.refresh_is_due() from public;
comment on function courier.refresh_is_due() is 'whether foreign tables are to be refreshed now, which the housekeeper asks';

-- Called by a worker of housekeeping, each call a transaction of its own.
create function courier.refresh_next() returns name
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    due courier.foreign_refresh;
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    select f.* into due from courier.foreign_refresh f
    where f.every is not null and f.next_at <= clock_timestamp()
    order by f.next_at limit 1 for update skip locked;
    if not found then
        return null;
    end if;
    begin
        perform courier.refresh_foreign_tables(due.node_name);
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        raise warning using
            message = format('foreign tables of node "%s" were not refreshed: %s', due.node_name, failed_message),
            detail = failed_detail,
            hint = failed_hint;
    end;
    update courier.foreign_refresh f
    set next_at = clock_timestamp() + due.every, last_error = failed_message, last_error_sqlstate = failed_state
    where f.node_name = due.node_name;
    return due.node_name;
end
$$;
revoke execute on function courier.refresh_next() from public;
comment on function courier.refresh_next() is 'refreshes the foreign tables of one node that is due; which, or null if there is none';

create view courier.foreign_table_status as
select t.node_name, t.relation, t.remote_schema, t.remote_table, t.refreshed_at,
       f.every as refreshed_every, case when f.every is not null then f.next_at end as next_refresh_at,
       case when a.may_see then f.last_error end as last_error, f.last_error_sqlstate
from courier.foreign_table t
cross join lateral (
    select courier.is_administrator() or pg_catalog.pg_has_role('pg_monitor', 'USAGE') as may_see) a
left join courier.foreign_refresh f on f.node_name = t.node_name
where exists (select from pg_catalog.pg_class c where c.oid = t.relation);
comment on view courier.foreign_table_status is 'foreign tables that courier.import_tables() has made, and when they are refreshed';
comment on column courier.foreign_table_status.node_name is 'node the table is of';
comment on column courier.foreign_table_status.relation is 'the foreign table';
comment on column courier.foreign_table_status.remote_schema is 'schema on the node';
comment on column courier.foreign_table_status.remote_table is 'table on the node';
comment on column courier.foreign_table_status.refreshed_at is 'when it was last compared with the node''s table';
comment on column courier.foreign_table_status.refreshed_every is 'how often housekeeping refreshes the tables of the node';
comment on column courier.foreign_table_status.next_refresh_at is 'when it does so next';
comment on column courier.foreign_table_status.last_error is 'why it could not the last time; for administrators and pg_monitor';
comment on column courier.foreign_table_status.last_error_sqlstate is 'SQLSTATE of that';
grant select on courier.foreign_table_status to public;
