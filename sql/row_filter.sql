-- Row filters. Each has a number, and lives as the WHEN condition of a disabled
-- trigger of its table, "!pg_courier_filter_N", which never fires: PostgreSQL
-- then keeps it in step with renamed columns and with partitions, and refuses to
-- drop or alter a column that it uses. Capture evaluates it; see
-- ext/pg/row_filter_state.c.

create function courier.row_filter() returns trigger
language c
as 'MODULE_PATHNAME', 'courier_row_filter';
revoke execute on function courier.row_filter() from public;
comment on function courier.row_filter() is 'trigger function of the disabled triggers that hold row filters: does nothing';

create function courier.check_row_filter(relation regclass, row_filter text, alias text default null) returns text
language c stable
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'courier_check_row_filter';
revoke execute on function courier.check_row_filter(regclass, text, text) from public;
comment on function courier.check_row_filter(regclass, text, text) is
    'a row filter in its normal form, or an error that says why it cannot be one; with an alias, its columns as those of the alias';

create function courier.row_filter_expression(relation oid, filter_id int) returns text
language c stable strict
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'courier_row_filter_expression';
revoke execute on function courier.row_filter_expression(oid, int) from public;
comment on function courier.row_filter_expression(oid, int) is
    'a row filter as it reads now, with the present names of the columns; null if the table does not hold it';

-- Which rows of a table a new copy for a subscription holds: null for all.
-- Raises an error, since a copy must not hold more, if a filter is not there.
create function courier.copy_condition(subscription_id int, relation oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    member record;
    conditions text[] := '{}';
    expression text;
begin
    for member in
        select t.set_name, t.filter_id
        from courier.subscription s
        join courier.replication_set_table t on t.set_name = any (s.replication_sets)
        where s.subscription_id = copy_condition.subscription_id and t.relation = copy_condition.relation
        order by t.set_name
    loop
        if member.filter_id is null then
            return null;
        end if;
        expression := courier.row_filter_expression(copy_condition.relation, member.filter_id);
        if expression is null then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('the row filter of %s in replication set "%s" is gone',
                                 copy_condition.relation::regclass, member.set_name),
                detail = format('Its trigger "!pg_courier_filter_%s" was dropped.', member.filter_id),
                hint = format('Run SELECT courier.replication_set_remove_table(%L, %L) and add the table again.',
                              member.set_name, copy_condition.relation::regclass);
        end if;
        conditions := conditions || format('(%s)', expression);
    end loop;
    return array_to_string(conditions, ' OR ');
end
$$;
revoke execute on function courier.copy_condition(int, oid) from public;
comment on function courier.copy_condition(int, oid) is 'condition on the rows of a table that are copied for a subscription; null for all';

-- What a transaction has written before it makes a row filter was not matched
-- against it, and will be shipped as if the filter had been there.
create function courier.require_unwritten(relation regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from pg_locks l
        where l.pid = pg_backend_pid() and l.locktype = 'relation' and l.mode = 'RowExclusiveLock'
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and (l.relation = require_unwritten.relation
               or l.relation in (select p.relid from pg_partition_tree(require_unwritten.relation) p)))
       and exists (
        select from pg_trigger g
        where g.tgrelid = require_unwritten.relation and g.tgfoid = 'courier.capture_row()'::regprocedure)
    then
        raise exception using
            errcode = 'object_in_use',
            message = format('this transaction has written to %s already', relation),
            detail = 'What it has changed there was not matched against the new row filter.',
            hint = 'Commit first, and add the table with the row filter in a transaction of its own.';
    end if;
end
$$;
revoke execute on function courier.require_unwritten(regclass) from public;
comment on function courier.require_unwritten(regclass) is
    'raises an error if the current transaction has written to a captured table';

-- Makes the triggers that hold row filters what the replication sets ask for.
-- Creating one waits for transactions that have written to the table, so that
-- whatever is not seen by a position taken afterwards was matched against it.
create function courier.sync_row_filters() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    change record;
begin
    for change in
        with wanted as (
            select t.relation::oid as relation, format('!pg_courier_filter_%s', t.filter_id)::name as trigger_name,
                   min(t.row_filter) as row_filter
            from courier.replication_set_table t
            where t.filter_id is not null
            group by 1, 2
        ), present as (
            select g.tgrelid as relation, g.tgname as trigger_name
            from pg_trigger g
            where g.tgparentid = 0 and g.tgfoid = 'courier.row_filter()'::regprocedure
        )
        select coalesce(w.relation, p.relation)::regclass as relation,
               coalesce(w.trigger_name, p.trigger_name) as trigger_name,
               w.row_filter, p.relation is null as missing
        from wanted w
        full join present p on p.relation = w.relation and p.trigger_name = w.trigger_name
        where w.relation is null or p.relation is null
        order by coalesce(w.relation, p.relation), 2
    loop
        if not change.missing then
            execute format('drop trigger %I on %s', change.trigger_name, change.relation);
            continue;
        end if;
        perform courier.require_unwritten(change.relation);
        execute format('create trigger %I after update on %s for each row when (%s) execute function courier.row_filter()',
                       change.trigger_name, change.relation,
                       courier.check_row_filter(change.relation, change.row_filter, 'new'));
        execute format('alter table %s disable trigger %I', change.relation, change.trigger_name);
        execute format('alter trigger %I on %s depends on extension pg_courier',
                       change.trigger_name, change.relation);
    end loop;
end
$$;
revoke execute on function courier.sync_row_filters() from public;
comment on function courier.sync_row_filters() is 'creates and drops the triggers that hold row filters until they match the replication sets';

-- The numbers of listed columns, in the order of the list; null for a name that
-- the table does not have, such as one that a column had before.
create function courier.column_numbers(relation regclass, columns name[]) returns int2[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(a.attnum order by c.ord)
    from unnest(columns) with ordinality c (column_name, ord)
    left join pg_attribute a
        on a.attrelid = relation and a.attname = c.column_name and a.attnum > 0 and not a.attisdropped
$$;
revoke execute on function courier.column_numbers(regclass, name[]) from public;
comment on function courier.column_numbers(regclass, name[]) is 'numbers of the columns of a list';

-- Renamed columns keep being sent and matched. A list of columns gets the new
-- name besides the old one, which changes bear that were queued before. Runs
-- as the owner of the extension, since anyone may rename columns of theirs.
-- Writes nothing unless one was in a list or a filter: not even an UPDATE of no
-- row, whose statement trigger would keep ALTER TABLE of any two tables, and all
-- configuration, waiting for each other. Tables that inherit from the altered one
-- are renamed with it, and the command does not name them.
create function courier.follow_renamed_columns() returns event_trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    altered oid[];
    change record;
    expression text;
begin
    with recursive tree (relation) as (
        select d.objid from pg_event_trigger_ddl_commands() d where d.classid = 'pg_class'::regclass
        union
        select i.inhrelid from pg_inherits i join tree on tree.relation = i.inhparent)
    select array_agg(tree.relation) into altered from tree;
    for change in
        select t.set_name, t.relation, array_agg(a.attname order by a.attnum) as names,
               array_agg(a.attnum order by a.attnum) as numbers
        from courier.replication_set_table t
        join pg_attribute a on a.attrelid = t.relation and not a.attisdropped
        where t.relation = any (altered) and a.attnum = any (t.column_numbers) and a.attname <> all (t.columns)
        group by t.set_name, t.relation
    loop
        update courier.replication_set_table t
        set columns = t.columns || change.names, column_numbers = t.column_numbers || change.numbers
        where t.set_name = change.set_name and t.relation = change.relation;
    end loop;
    for change in
        select t.set_name, t.relation, t.filter_id, t.row_filter
        from courier.replication_set_table t
        where t.relation = any (altered) and t.filter_id is not null
    loop
        -- it locks the table: for those of the command only, whatever the plan
        expression := courier.row_filter_expression(change.relation, change.filter_id);
        if change.row_filter <> expression then
            update courier.replication_set_table t set row_filter = expression
            where t.set_name = change.set_name and t.relation = change.relation;
        end if;
    end loop;
end
$$;
revoke execute on function courier.follow_renamed_columns() from public;
comment on function courier.follow_renamed_columns() is 'event trigger: renamed columns stay in lists of columns and in row filters';

create event trigger pg_courier_follow_renamed_columns on ddl_command_end
    when tag in ('ALTER TABLE')
    execute function courier.follow_renamed_columns();
comment on event trigger pg_courier_follow_renamed_columns is 'keeps renamed columns in lists of columns and in row filters';
