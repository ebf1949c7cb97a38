-- Shipping rows again by their keys, in order with all other changes.

-- The operator by which values of a type are the same, for a statement under
-- search_path = pg_catalog.
create function courier.equality(type oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive base as (
        select t.oid, t.typbasetype from pg_type t where t.oid = equality.type
        union all
        select t.oid, t.typbasetype from base b join pg_type t on t.oid = b.typbasetype
    )
    select coalesce(
        (select format('operator(%I.%s)', n.nspname, o.oprname)
         from base b
         join pg_opclass oc on oc.opcdefault and oc.opcintype = b.oid
         join pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
         join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
              and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
         join pg_operator o on o.oid = ao.amopopr
         join pg_namespace n on n.oid = o.oprnamespace
         where b.typbasetype = 0),
        '=')
$$;
revoke execute on function courier.equality(oid) from public;
comment on function courier.equality(oid) is 'operator by which values of a type are compared in a key';

-- Queues those of the wanted rows that exist, and gives the places of their
-- keys in the list. The rows are locked against changes until the transaction
-- ends: who changes one has either committed before it is read, or is queued
-- behind it. They are locked before they are queued (materialized): what a lock
-- has waited for is then what is sent.
create function courier.resend_present(relation regclass, keys jsonb, replace boolean) returns int8[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present int8[];
    named text := (select format('%I.%I', n.nspname, c.relname)
                   from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation);
    only_word text := (select case when c.relkind = 'r' then 'only ' else '' end from pg_class c where c.oid = relation);
    conditions text := (
        select string_agg(format('"pg_courier row".%I %s (wanted.key ->> %L)::%s', a.attname, courier.equality(a.atttypid), a.attname,
                                 format_type(a.atttypid, -1)), ' and ')
        from unnest(courier.key_columns(relation)) k
        join pg_attribute a on a.attrelid = relation and a.attname = k);
begin
    execute format(
        'with found as materialized (
             select wanted.n, row("pg_courier row".*)::%1$s as r
             from jsonb_array_elements($2) with ordinality as wanted (key, n)
             join %2$s%1$s as "pg_courier row" on %3$s
             for share of "pg_courier row"
         ), deleted as materialized (
             select f.n, f.r, case when $3 then courier.enqueue_row($1, ''D'', f.r) end from found f
         ), queued as materialized (
             select d.n, courier.enqueue_row($1, ''R'', d.r) from deleted d
         )
         select array_agg(q.n) from queued q', named, only_word, conditions)
    into present using relation, keys, replace;
    return coalesce(present, '{}');
end
$$;
revoke execute on function courier.resend_present(regclass, jsonb, boolean) from public;
comment on function courier.resend_present(regclass, jsonb, boolean) is
    'queues the rows of these keys that exist; gives which those are';

-- replace: the node may bear a key that equals one of these and is written in
-- another way, which an upsert would leave as it is.
create function courier.resend(relation regclass, keys jsonb, replace boolean default false) returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    key_columns text[];
    absent jsonb;
    present int8[];
begin
    perform courier.require_administrator();
    perform courier.require_read_committed('resend');
    if relation is null or keys is null or replace is null then
        return 0;
    end if;
    perform courier.require_captured(relation);
    select array_agg(k::text) into key_columns from unnest(courier.key_columns(relation)) k
    where exists (select from pg_index i join pg_class c on c.oid = i.indrelid
                  where c.oid = relation and i.indisvalid and i.indimmediate
                    and (i.indisprimary or i.indisreplident));
    if key_columns is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('rows of table %s can''t be shipped again, because it has no key', relation),
            hint = 'Add a primary key to the table.';
    elsif jsonb_typeof(keys) <> 'array'
          or exists (select from jsonb_array_elements(keys) e
                     where jsonb_typeof(e) <> 'object' or not e ?& key_columns
                        or exists (select from jsonb_each(e) v where v.value = 'null')) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('keys of table %s must be a JSON array of objects with the columns %s', relation,
                             array_to_string(key_columns, ', ')),
            hint = format('As in SELECT courier.resend(%L, ''[{%s}]'').', relation,
                          (select string_agg(format('"%s": "..."', k), ', ') from unnest(key_columns) k));
    end if;

    present := courier.resend_present(relation, keys, replace);
    select jsonb_agg(e.key) into absent
    from jsonb_array_elements(keys) with ordinality e (key, n) where e.n <> all (present);
    if absent is not null then
        -- Nothing can be locked of a row that is not there, but the table: else
        -- one that is inserted meanwhile could be queued before its delete.
        execute format('lock table %s in share row exclusive mode', relation);
        present := courier.resend_present(relation, absent, replace);
        perform courier.enqueue_key(relation, key_columns, array(select e.key ->> k from unnest(key_columns) with ordinality u (k, i) order by i))
        from jsonb_array_elements(absent) with ordinality e (key, n)
        where e.n <> all (present);
    end if;
    return jsonb_array_length(keys);
end
$$;
comment on function courier.resend(regclass, jsonb, boolean) is
    'ships the rows of these keys again, in order with other changes: those that exist as they are (with replace, in place of what is deleted before), and a delete for those that do not';

-- Chosen for a literal, so that a table that does not exist gives an error
-- with a hint.
create function courier.resend(relation text, keys jsonb, replace boolean default false) returns int8
language sql
as $$
    select courier.resend(courier.find_relation($1), $2, $3)
$$;
comment on function courier.resend(text, jsonb, boolean) is
    'ships the rows of these keys again, in order with other changes: those that exist as they are (with replace, in place of what is deleted before), and a delete for those that do not';
