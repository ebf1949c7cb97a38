-- What a copy has to know of its source and its target, wherever they are.

-- Asks this database, if connection is null, or a node for one JSON value.
create function courier.ask_side(node_name name, connection text, question text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    answer text;
begin
    if connection is null then
        execute question into answer;
    else
        select r[1] into answer from courier.node_rows(node_name, connection, question, 1) r;
    end if;
    return answer::jsonb;
end
$$;
revoke execute on function courier.ask_side(name, text, text) from public;
comment on function courier.ask_side(name, text, text) is 'the JSON value that a query gives here or on a node';

-- Schema of the operators by which a type is ordered; null if it has no order. The
-- argument is SQL for the type's OID, with no alias that is used here.
create function courier.order_schema_expression(type_oid text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$(with recursive b (oid, base) as (
    select bt.oid, bt.typbasetype from pg_type bt where bt.oid = %s
    union all
    select bt.oid, bt.typbasetype from b join pg_type bt on bt.oid = b.base)
select coalesce(
    (select opn.nspname
     from pg_opclass oc
     join pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
     join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 5
          and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
     join pg_operator o on o.oid = ao.amopopr
     join pg_namespace opn on opn.oid = o.oprnamespace
     where oc.opcdefault and (oc.opcintype = bt.oid or exists (
         select from pg_cast k where k.castsource = bt.oid and k.casttarget = oc.opcintype
           and k.castmethod = 'b' and k.castcontext = 'i'))
     order by oc.opcintype = bt.oid desc limit 1)::text,
    case when bt.typtype in ('e', 'r', 'm', 'c') or bt.typcategory = 'A' then 'pg_catalog' end)
from b join pg_type bt on bt.oid = b.oid where b.base = 0)$q$, type_oid)
$f$;
revoke execute on function courier.order_schema_expression(text) from public;
comment on function courier.order_schema_expression(text) is
    'expression that gives the schema of the operators a type is ordered by';

-- The question what a relation is, named with its schema. Null if there is none of
-- that name.
create function courier.describe_relation_query(relation text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$select json_build_object(
    'name', format('%%I.%%I', n.nspname, c.relname),
    'oid', c.oid::int8,
    'kind', c.relkind,
    'persistence', c.relpersistence,
    'schema', n.nspname,
    'may_use', has_schema_privilege(n.oid, 'USAGE'),
    'may_select', has_table_privilege(c.oid, 'SELECT'),
    'may_insert', has_table_privilege(c.oid, 'INSERT'),
    'may_truncate', has_table_privilege(c.oid, 'TRUNCATE'),
    'lacks_for_progress', case
        when not has_database_privilege(current_database(), 'CREATE') then format('CREATE ON DATABASE %%I', current_database())
        when not has_schema_privilege(p.oid, 'USAGE') or not has_schema_privilege(p.oid, 'CREATE') then 'USAGE, CREATE ON SCHEMA courier_target'
        end,
    'role', current_user,
    'in_recovery', pg_is_in_recovery(),
    'snapshot_xmin', pg_snapshot_xmin(pg_current_snapshot())::text,
    'columns', (
        select coalesce(json_agg(json_build_object(
                   'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'bare', format_type(a.atttypid, -1),
                   'length', t.typlen, 'base', t.typname, 'category', t.typcategory, 'not_null', a.attnotnull, 'generated', a.attgenerated <> '',
                   'default', a.atthasdef or a.attidentity <> '',
                   'order_schema', %s) order by a.attnum), '[]')
        from pg_attribute a join pg_type t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    'key', (
        select json_agg(a.attname order by k.ord)
        from (select i.* from pg_index i
              where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indisvalid
                and i.indpred is null and i.indexprs is null
                and not exists (
                    select from unnest(i.indkey::int2[]) with ordinality k (attnum, ord)
                    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                    where k.ord <= i.indnkeyatts and not a.attnotnull)
              order by i.indisprimary desc, i.indnkeyatts, i.indexrelid limit 1) i
        cross join unnest(i.indkey::int2[]) with ordinality k (attnum, ord)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where k.ord <= i.indnkeyatts),
    'parts', (
        with recursive tree (oid) as (
            select c.oid
            union
            select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.oid)
        select json_agg(json_build_object(
                   'from', format('only %%I.%%I', pn.nspname, p.relname), 'kind', p.relkind,
                   'blocks', pg_relation_size(p.oid) / current_setting('block_size')::int8,
                   'filenode', pg_relation_filenode(p.oid)::int8) order by pn.nspname, p.relname)
        from tree join pg_class p on p.oid = tree.oid join pg_namespace pn on pn.oid = p.relnamespace
        where p.relkind <> 'p'))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
left join pg_namespace p on p.nspname = 'courier_target'
where n.nspname = %L and c.relname = %L$q$,
        courier.order_schema_expression('a.atttypid'), (parse_ident(relation))[1], (parse_ident(relation))[2])
$f$;
revoke execute on function courier.describe_relation_query(text) from public;
comment on function courier.describe_relation_query(text) is 'query that describes a relation as one JSON value';

-- What the columns of a query on a node are. Names come from a record of no row,
-- and types from columns of nulls: nothing of it is executed or written there.
create function courier.describe_query(node_name name, connection text, query text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $f$
declare
    names jsonb;
    failed_state text;
    failed_message text;
begin
    begin
        perform courier.node_run(node_name, connection, format('do %L', format($q$
declare
    r record;
begin
    execute %L into r;
    perform set_config('courier_target.columns', (select coalesce(json_agg(k), '[]')::text from json_object_keys(row_to_json(r)) k), false);
end$q$, 'select * from ' || query || E'\n as q limit 0')));
    exception when syntax_error_or_access_rule_violation then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text;
        perform courier.raise_error(failed_state, failed_message, null,
            'The query is run on the node, with the names, privileges and search_path of the node''s role there.');
    end;
    names := courier.ask_side(node_name, connection, 'select current_setting(''courier_target.columns'')');
    if names = '[]' then
        raise exception using
            errcode = 'undefined_column',
            message = 'the query to copy has no column',
            hint = 'Select some.';
    end if;
    if names is null or (select count(*) <> count(distinct n) or bool_or(n in ('', '?column?')) from jsonb_array_elements_text(names) n) then
        raise exception using
            errcode = 'duplicate_column',
            message = 'the query to copy has columns without a name, or two of one name',
            hint = 'Give each column a name of its own, with AS.';
    end if;
    return courier.ask_side(node_name, connection, format($q$
select json_build_object('kind', 'q', 'may_select', true, 'columns', (
    select json_agg(json_build_object(
        'name', u.name, 'type', coalesce(x.name, format_type(t.oid, null)), 'bare', coalesce(x.name, format_type(t.oid, -1)),
        'length', t.typlen, 'base', t.typname, 'category', t.typcategory, 'not_null', false, 'generated', false,
        'order_schema', %s) order by u.n)
    from (select %s from (select 1) one left join lateral (select * from %s
 as q limit 0) q on true) types
    cross join lateral unnest(types.names, types.oids) with ordinality u (name, type_oid, n)
    join pg_type t on t.oid = u.type_oid
    -- with its schema, which the search_path here may lack
    left join lateral (
        select format('%%I.%%I', n.nspname, e.typname) || case when e.oid <> t.oid then '[]' else '' end as name
        from pg_type e join pg_namespace n on n.oid = e.typnamespace
        where e.oid = case when t.typcategory = 'A' and t.typlen = -1 and t.typelem <> 0 then t.typelem else t.oid end
          and n.nspname <> 'pg_catalog') x on true))$q$,
        courier.order_schema_expression('u.type_oid'),
        (select format('array[%s]::text[] as names, array[%s]::oid[] as oids',
                       string_agg(quote_literal(n), ', ' order by o),
                       string_agg(format('pg_typeof(q.%I)', n), ', ' order by o))
         from jsonb_array_elements_text(names) with ordinality u (n, o)), query));
end
$f$;
revoke execute on function courier.describe_query(name, text, text) from public;
comment on function courier.describe_query(name, text, text) is 'describes the columns of a query on a node, without executing it';
