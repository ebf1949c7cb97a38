-- Merging a staging table into a live one, by key, in one statement: rows that
-- are missing are inserted, rows that differ are updated, the others are left
-- alone. Rows of the target that the staging table does not have stay.

create function courier.base_type(type_oid oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive b (oid, base) as (
        select t.oid, t.typbasetype from pg_type t where t.oid = type_oid
        union all
        select t.oid, t.typbasetype from b join pg_type t on t.oid = b.base)
    select b.oid from b where b.base = 0
$$;
comment on function courier.base_type(oid) is 'the type itself, or what a domain is over';

-- Found by its operator class, as an index would, whatever search_path is.
create function courier.equality_operator(type_oid oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select format('operator(%I.%s)', n.nspname, o.oprname)
         from pg_opclass oc
         join pg_am am on am.oid = oc.opcmethod and am.amname = 'btree'
         join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amopstrategy = 3
              and ao.amoplefttype = oc.opcintype and ao.amoprighttype = oc.opcintype
         join pg_operator o on o.oid = ao.amopopr
         join pg_namespace n on n.oid = o.oprnamespace
         where oc.opcdefault and (oc.opcintype = t.oid or exists (
             select from pg_cast k where k.castsource = t.oid and k.casttarget = oc.opcintype
               and k.castmethod = 'b' and k.castcontext = 'i'))
         order by oc.opcintype = t.oid desc limit 1),
        case when t.typtype in ('e', 'r', 'm', 'c') or t.typcategory = 'A' then 'operator(pg_catalog.=)' end)
    from pg_type t where t.oid = courier.base_type(type_oid)
$$;
comment on function courier.equality_operator(oid) is 'the operator by which values of a type are equal keys; null if it has none';

create function courier.require_merge_table(relation regclass, role text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    class record;
    lacking text;
begin
    if relation is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s must not be null', role),
            hint = 'Name a table.';
    end if;
    select c.relkind, n.nspname into class from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
    if class.relkind is null then
        raise exception using
            errcode = 'undefined_table',
            message = format('relation with OID %s does not exist', relation::oid),
            hint = 'Name a table.';
    elsif class.relkind not in ('r', 'p', 'f', 'v', 'm') or (role = 'target' and class.relkind not in ('r', 'p'))
          or (role = 'target' and class.nspname in ('courier', 'courier_target', 'pg_catalog')) then
        raise exception using
            errcode = 'wrong_object_type',
            message = format('%s cannot be the %s of a merge', relation, role),
            hint = case role when 'target' then 'The target is a table or a partitioned table of yours.'
                             else 'Rows are merged from tables, views and foreign tables.' end;
    end if;
    lacking := case
        when not has_table_privilege(relation, 'SELECT') then 'SELECT'
        when role = 'target' and not has_table_privilege(relation, 'INSERT') then 'INSERT'
        when role = 'target' and not has_table_privilege(relation, 'UPDATE') then 'UPDATE' end;
    if lacking is not null then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('permission denied for table %s', relation),
            hint = format('Run GRANT %s ON %s TO %I.', lacking, relation, current_user);
    elsif role = 'target' and row_security_active(relation) then
        raise exception using
            errcode = 'insufficient_privilege',
            message = format('policies hide rows of %s from this role', relation),
            detail = 'Rows that are there would be taken for missing.',
            hint = 'Merge as the owner of the table, or as a role with BYPASSRLS.';
    end if;
end
$$;
comment on function courier.require_merge_table(regclass, text) is 'refuses what cannot be merged from or into';

create function courier.require_merge_keys(staging regclass, target regclass, keys text[]) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    wrong record;
    relation regclass;
begin
    if coalesce(cardinality(keys), 0) = 0 or array_position(keys, null) is not null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = case when coalesce(cardinality(keys), 0) = 0 then 'keys must name at least one column'
                           else 'keys must not have a null in it' end,
            hint = format('Name the columns that tell rows of %s apart, as in ''{id}''.', target);
    end if;
    select k into wrong from unnest(keys) k group by k having count(*) > 1;
    if found then
        raise exception using
            errcode = 'duplicate_column',
            message = format('keys name column %s twice', wrong.k),
            hint = 'Name each column once.';
    end if;
    foreach relation in array array[staging, target] loop
        select k into wrong from unnest(keys) k
        where not exists (select from pg_attribute a
                          where a.attrelid = relation and a.attname = k and a.attnum > 0 and not a.attisdropped);
        if found then
            raise exception using
                errcode = 'undefined_column',
                message = format('%s has no column %s', relation, wrong.k),
                hint = format('Its columns are: %s.', (
                    select string_agg(a.attname, ', ' order by a.attnum) from pg_attribute a
                    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped));
        end if;
    end loop;
end
$$;
comment on function courier.require_merge_keys(regclass, regclass, text[]) is 'refuses key columns of a merge that are not there';

-- The columns of the staging table, and what the target has under their names.
create function courier.merge_columns(staging regclass, target regclass, keys text[])
returns table (name name, is_key boolean, written boolean, equality text, collation_clause text,
               type_clause text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    wrong record;
begin
    select s.attname, format_type(s.atttypid, null) as here, format_type(t.atttypid, null) as there,
           t.attname is null as missing, t.attidentity = 'a' and s.attname <> all (keys) as always
    into wrong
    from pg_attribute s
    left join pg_attribute t on t.attrelid = target and t.attname = s.attname and t.attnum > 0 and not t.attisdropped
    where s.attrelid = staging and s.attnum > 0 and not s.attisdropped
      and (t.attname is null or courier.base_type(s.atttypid) <> courier.base_type(t.atttypid)
           or (t.attidentity = 'a' and s.attname <> all (keys)))
    order by s.attnum limit 1;
    if wrong.missing then
        raise exception using
            errcode = 'undefined_column',
            message = format('%s has no column %s, which %s has', target, wrong.attname, staging),
            hint = format('Run ALTER TABLE %s DROP COLUMN %I, or add it to %s.', staging, wrong.attname, target);
    elsif wrong.here <> wrong.there then
        raise exception using
            errcode = 'datatype_mismatch',
            message = format('column %s is of type %s in %s and of type %s in %s', wrong.attname, wrong.here, staging,
                             wrong.there, target),
            hint = format('Run ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %2$I::%3$s.', staging, wrong.attname, wrong.there);
    elsif wrong.always then
        raise exception using
            errcode = 'generated_always',
            message = format('column %s of %s is GENERATED ALWAYS AS IDENTITY and cannot be updated', wrong.attname, target),
            hint = format('Run ALTER TABLE %s ALTER COLUMN %I SET GENERATED BY DEFAULT, or drop the column of %s.',
                          target, wrong.attname, staging);
    end if;
    return query
        select s.attname, s.attname = any (keys), t.attgenerated = '', courier.equality_operator(t.atttypid),
               case when s.attcollation <> t.attcollation
                    then (select format(' collate %I.%I', n.nspname, c.collname)
                          from pg_collation c join pg_namespace n on n.oid = c.collnamespace where c.oid = t.attcollation)
                    else '' end,
               case when s.atttypid <> t.atttypid then '::' || format_type(t.atttypid, -1) else '' end
        from pg_attribute s
        join pg_attribute t on t.attrelid = target and t.attname = s.attname and t.attnum > 0 and not t.attisdropped
        where s.attrelid = staging and s.attnum > 0 and not s.attisdropped
        order by s.attnum;
end
$$;
comment on function courier.merge_columns(regclass, regclass, text[]) is
    'columns of a merge, or an error that says which one does not fit';

-- The statements of a merge, all names in them with their schemas: they are run
-- with the caller's search_path, which is that of triggers on the target.
create function courier.merge_statements(staging regclass, target regclass, keys text[])
returns table (lock_command text, null_query text, duplicate_query text, ambiguous_query text, merge_command text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    here text;
    there text;
    condition text;
    key_list text;
    written text;
    updated text;
    old_values text;
    new_values text;
    wrong record;
    is_unique boolean;
begin
    perform courier.require_merge_table(staging, 'staging table');
    perform courier.require_merge_table(target, 'target');
    if staging = target then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s cannot be merged into itself', staging),
            hint = 'Name a staging table and a target.';
    end if;
    perform courier.require_merge_keys(staging, target, keys);
    select c.* into wrong from courier.merge_columns(staging, target, keys) c where c.is_key and c.equality is null;
    if found then
        raise exception using
            errcode = 'datatype_mismatch',
            message = format('column %s cannot be a key: its type has no equality', wrong.name),
            hint = 'Name columns of other types.';
    end if;
    here := courier.qualified_name(staging);
    there := courier.qualified_name(target);
    select string_agg(format('t.%1$I %2$s s.%1$I%3$s', c.name, c.equality, c.collation_clause), ' and ') filter (where c.is_key),
           string_agg(quote_ident(c.name), ', ') filter (where c.is_key),
           string_agg(quote_ident(c.name), ', ') filter (where c.written),
           string_agg(format('%I = s.%1$I', c.name), ', ') filter (where c.written and not c.is_key),
           string_agg(format('t.%I', c.name), ', ') filter (where c.written and not c.is_key),
           string_agg(format('s.%I%s', c.name, c.type_clause), ', ') filter (where c.written and not c.is_key)
    into condition, key_list, written, updated, old_values, new_values
    from courier.merge_columns(staging, target, keys) c;
    is_unique := exists (
        select from pg_index i
        where i.indrelid = target and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
          and not exists (
              select from unnest(i.indkey::int2[]) with ordinality k (attnum, ord)
              join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where k.ord <= i.indnkeyatts and a.attname <> all (keys)));
    return query select
        case when not is_unique then format('lock table %s in share row exclusive mode', there) end,
        format('select pg_catalog.count(*) from %s s where %s', here,
               (select string_agg(format('s.%I is null', k), ' or ') from unnest(keys) k)),
        format('select pg_catalog.concat_ws('', '', %s) from %s group by %1$s having pg_catalog.count(*) > 1 limit 1', key_list, here),
        case when not is_unique then format(
            'select pg_catalog.concat_ws('', '', %s) from %s s join %s t on %s group by %1$s having pg_catalog.count(*) > 1 limit 1',
            (select string_agg(format('s.%I', k), ', ') from unnest(keys) k), here, there, condition) end,
        format($q$
with updated as (%s
), inserted as (
    insert into %s (%s) overriding system value
    select %s from %s s where not exists (select from %2$s t where %6$s) returning 1)
select (select pg_catalog.count(*) from inserted), (select pg_catalog.count(*) from updated),
       (select pg_catalog.count(*) from %5$s)$q$,
            case when updated is null then 'select 1 where false' else format(
                'update %s t set %s from %s s where %s and row(%s)::pg_catalog.record operator(pg_catalog.*<>) row(%s)::pg_catalog.record returning 1',
                there, updated, here, condition, old_values, new_values) end,
            there, written,
            (select string_agg('s.' || n, ', ') from unnest(string_to_array(written, ', ')) n), here, condition);
end
$$;
comment on function courier.merge_statements(regclass, regclass, text[]) is
    'statements that check and merge a staging table; or an error that says what does not fit';

-- The privileges of the caller on the tables decide who may merge. It has no
-- search_path of its own: triggers of the target are to find the caller's.
create function courier.merge_staging(
    staging regclass, target regclass, keys name[], out inserted int8, out updated int8, out unchanged int8)
language plpgsql
as $$
declare
    statements record;
    number int8;
    example text;
    total int8;
begin
    perform courier.require_read_committed('courier.merge_staging()');
    select s.* into statements from courier.merge_statements(staging, target, keys::pg_catalog.text[]) s;
    if statements.lock_command is not null then
        execute statements.lock_command;
    end if;
    execute statements.null_query into number;
    if number > 0 then
        raise exception using
            errcode = 'not_null_violation',
            message = pg_catalog.format('%s rows of %s have a null in their key', number, staging),
            hint = pg_catalog.format('Delete or mend them: SELECT * FROM %s WHERE %s.', staging,
                (select pg_catalog.string_agg(pg_catalog.format('%I IS NULL', k), ' OR ') from pg_catalog.unnest(keys) k));
    end if;
    execute statements.duplicate_query into example;
    if example is not null then
        raise exception using
            errcode = 'cardinality_violation',
            message = pg_catalog.format('%s has several rows of one key', staging),
            detail = pg_catalog.format('One such key is (%s).', example),
            hint = 'Keep one row of each key, or name more columns in keys.';
    end if;
    if statements.ambiguous_query is not null then
        execute statements.ambiguous_query into example;
        if example is not null then
            raise exception using
                errcode = 'cardinality_violation',
                message = pg_catalog.format('%s has several rows of one key', target),
                detail = pg_catalog.format('One such key is (%s).', example),
                hint = 'Name more columns in keys.';
        end if;
    end if;
    execute statements.merge_command into inserted, updated, total;
    unchanged := total - inserted - updated;
end
$$;
comment on function courier.merge_staging(regclass, regclass, name[]) is
    'inserts the rows of a staging table that the target lacks by key and updates those that differ; how many of each';

-- Chosen for literals, so that a table that does not exist gives an error with a
-- hint.
create function courier.merge_staging(
    staging text, target text, keys name[], out inserted int8, out updated int8, out unchanged int8)
language sql
as $$
    select m.inserted, m.updated, m.unchanged
    from courier.merge_staging(case when $1 is not null then courier.find_relation($1) end,
                               case when $2 is not null then courier.find_relation($2) end, $3) m
$$;
comment on function courier.merge_staging(text, text, name[]) is
    'inserts the rows of a staging table that the target lacks by key and updates those that differ; how many of each';
