-- Structure of the source, for a node that lacks some of it.

create function courier.dump_structure(snapshot text) returns text
language c volatile strict
as 'MODULE_PATHNAME', 'courier_dump_structure';
revoke execute on function courier.dump_structure(text) from public;
comment on function courier.dump_structure(text) is
    'has pg_dump dump the schema of this database as a shared snapshot sees it, and returns the list of its contents as pg_restore gives it';

create function courier.restore_structure(entries text) returns text
language c volatile strict
as 'MODULE_PATHNAME', 'courier_restore_structure';
revoke execute on function courier.restore_structure(text) from public;
comment on function courier.restore_structure(text) is
    'SQL of entries of the list that dump_structure() gave in this session';

-- What a node needs for the tables of a subscription: the tables and their
-- partitions, the types of their columns, sequences, indexes, constraints,
-- defaults. An entry of a dump is known by its catalog and OID. Of an extension
-- nothing is listed, since CREATE EXTENSION brings that.
create function courier.subscription_structure(
    subscription_id int,
    out catalog oid, out object oid, out kind text, out schema_name name, out object_name name, out table_name name)
returns setof record
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive tables as (
        select t.relation as root, t.relation as oid
        from courier.subscription_table t where t.subscription_id = subscription_structure.subscription_id
        union
        select t.relation, p.relid
        from courier.subscription_table t
        cross join pg_partition_tree(t.relation::regclass) p
        where t.subscription_id = subscription_structure.subscription_id
    ),
    types as (
        select a.atttypid as oid
        from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
        union
        select u.oid
        from types t
        join pg_type y on y.oid = t.oid
        left join pg_attribute a on a.attrelid = y.typrelid and a.attnum > 0 and not a.attisdropped and y.typtype = 'c'
        left join pg_range r on r.rngtypid = y.oid or r.rngmultitypid = y.oid
        cross join lateral (values (y.typelem), (y.typbasetype), (a.atttypid), (r.rngsubtype), (r.rngtypid)) u (oid)
        where u.oid <> 0
    ),
    sequences as (
        select d.objid as oid
        from tables t join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid
             and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
        join pg_class c on c.oid = d.objid and c.relkind = 'S'
        union
        select d.refobjid
        from tables t join pg_attrdef f on f.adrelid = t.oid
        join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
        join pg_class c on c.oid = d.refobjid and c.relkind = 'S'
    ),
    found as (
        select 'pg_class'::regclass::oid as catalog, c.oid as object, 'table' as kind,
               c.relnamespace as namespace, c.relname as name, null::name as table_name
        from tables t join pg_class c on c.oid = t.oid
        union all
        select 'pg_class'::regclass, c.oid, 'sequence', c.relnamespace, c.relname, null
        from sequences s join pg_class c on c.oid = s.oid
        union all
        select 'pg_type'::regclass, y.oid, 'type', y.typnamespace, y.typname, null
        from types t join pg_type y on y.oid = t.oid
        left join pg_class c on c.oid = y.typrelid
        where y.typcategory <> 'A' and coalesce(c.relkind, 'c') = 'c'
        union all
        select 'pg_class'::regclass, c.oid, 'index', c.relnamespace, c.relname, r.relname
        from tables t join pg_index i on i.indrelid = t.oid join pg_class c on c.oid = i.indexrelid join pg_class r on r.oid = t.oid
        where not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
        union all
        select 'pg_constraint'::regclass, k.oid, 'constraint', c.relnamespace, k.conname, c.relname
        from tables t join pg_constraint k on k.conrelid = t.oid join pg_class c on c.oid = t.oid
        where k.contype in ('p', 'u', 'x', 'c')
           or k.contype = 'f' and k.conparentid = 0 and k.confrelid in (select r.oid from tables r)
        union all
        select 'pg_attrdef'::regclass, f.oid, 'default', c.relnamespace, a.attname, c.relname
        from tables t join pg_attrdef f on f.adrelid = t.oid join pg_class c on c.oid = t.oid
        join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
    )
    select f.catalog, f.object, f.kind, n.nspname, f.name, f.table_name
    from found f join pg_namespace n on n.oid = f.namespace
    where n.nspname not in ('pg_catalog', 'information_schema')
      and not exists (
        select from pg_depend d
        where d.classid = f.catalog and d.objid = f.object and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e')
    union
    select 'pg_namespace'::regclass, n.oid, 'schema', n.nspname, n.nspname, null
    from found f join pg_namespace n on n.oid = f.namespace
    where n.nspname not in ('pg_catalog', 'information_schema')
$$;
revoke execute on function courier.subscription_structure(int) from public;
comment on function courier.subscription_structure(int) is
    'what a node needs to hold the tables of a subscription, each with its catalog and OID here';
