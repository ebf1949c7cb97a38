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

-- What a statement reads to find the rows of keys, given as $2: the rows are
-- "pg_courier row", the keys wanted.key, and their places wanted.n.
create function courier.wanted_rows(relation regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('jsonb_array_elements($2) with ordinality as wanted (key, n) join %s%I.%I as "pg_courier row" on %s',
                  case when c.relkind = 'r' then 'only ' else '' end, s.nspname, c.relname,
                  string_agg(format('"pg_courier row".%I %s (wanted.key ->> %L)::%s', a.attname, courier.equality(a.atttypid),
                                    a.attname, format_type(a.atttypid, -1)), ' and '))
    from pg_class c
    join pg_namespace s on s.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = any (courier.key_columns(relation))
    where c.oid = relation
    group by c.relkind, s.nspname, c.relname
$$;
revoke execute on function courier.wanted_rows(regclass) from public;
comment on function courier.wanted_rows(regclass) is 'FROM clause of a statement that finds rows by their keys';

-- The rows are locked against changes until the transaction ends: who changes
-- one has either committed before it is read, or is queued behind it. They are
-- locked by a statement before the one that queues them, so that what is sent is
-- what is locked, and is read one row at a time: it may be large. Nothing can be
-- locked of a row that is not there, but the table: else one that is inserted
-- meanwhile could be queued before its delete. That lock comes first, and rows are
-- not waited for, so that no writer who waits for one of our locks has one that we
-- wait for.
create function courier.resend_once(relation regclass, key_columns text[], keys jsonb, replace boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '500ms'
as $$
declare
    wanted_rows text := courier.wanted_rows(relation);
    present int8[];
    kind "char";
    found int8;
begin
    execute format('select count(distinct wanted.n) from %s', wanted_rows) into found using relation, keys;
    if found < jsonb_array_length(keys) then
        execute format('lock table %s in share row exclusive mode', relation);
    end if;
    execute format('select array_agg(l.n) from (select wanted.n from %s for share of "pg_courier row" nowait) as l', wanted_rows)
    into present using relation, keys;
    foreach kind in array case when replace then '{D,R}' else '{R}' end::"char"[] loop
        execute format('select courier.enqueue_row($1, $4, row("pg_courier row".*)::%s) from %s where wanted.n = any ($3)',
                       relation, wanted_rows)
        using relation, keys, present, kind;
    end loop;
    -- A row that has gone since the first look was deleted by somebody whose
    -- delete is queued.
    if found < jsonb_array_length(keys) then
        perform courier.enqueue_key(relation, key_columns,
                                    array(select e.key ->> k from unnest(key_columns) with ordinality u (k, i) order by i))
        from jsonb_array_elements(keys) with ordinality e (key, n)
        where e.n <> all (coalesce(present, '{}'));
    end if;
end
$$;
revoke execute on function courier.resend_once(regclass, text[], jsonb, boolean) from public;
comment on function courier.resend_once(regclass, text[], jsonb, boolean) is
    'queues the rows of these keys, or an error at once if somebody has locked them';

-- replace: the node may bear a key that equals one of these and is written in
-- another way, which an upsert would leave as it is.
create function courier.resend(relation regclass, keys jsonb, replace boolean default false) returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    key_columns text[];
    tries constant int := 20;
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
    for try in 1 .. tries loop
        begin
            perform courier.resend_once(relation, key_columns, keys, replace);
            return jsonb_array_length(keys);
        exception when lock_not_available then
            if try = tries then
                raise exception using
                    errcode = 'lock_not_available',
                    message = format('rows of table %s can''t be shipped again now, because others have locked them or the table', relation),
                    hint = 'Run it again when their transactions have ended: SELECT * FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start.';
            end if;
        end;
        perform pg_sleep(0.05 * try);
    end loop;
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
