-- Comparing the tables of a subscription with those of its node, and shipping
-- rows that differ again. The work is in pkg/compare.

create function courier.run_comparison(subscription_name text, request text) returns text
language c volatile strict
as 'MODULE_PATHNAME', 'courier_compare';
revoke execute on function courier.run_comparison(text, text) from public;
comment on function courier.run_comparison(text, text) is
    'compares tables in this session; request and answer are JSON, see courier.compare()';

create function courier.announce_comparison(relation text, step text, percent int, differences int8) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise notice using
        message = format('comparing table %s, step "%s": %s %%, %s rows differ so far', relation, step, percent, differences);
end
$$;
revoke execute on function courier.announce_comparison(text, text, int, int8) from public;
comment on function courier.announce_comparison(text, text, int, int8) is 'notice about how a comparison gets on';

-- The request of a comparison, checked.
create function courier.comparison_request(tables regclass[], max_keys int, timeout interval, repair text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if max_keys is null or max_keys < 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('max_keys cannot be %s', coalesce(max_keys::text, 'null')),
            hint = 'Give the number of keys of each table that the answer is to hold at most, or 0.';
    elsif timeout is null or timeout <= interval '0' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('timeout cannot be %s', coalesce(timeout::text, 'null')),
            hint = 'Give the time that the node may take to apply what is on its way, such as ''5 min''.';
    elsif cardinality(tables) = 0 or array_position(tables, null) is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'list of tables is empty or has a null in it',
            hint = 'Name the tables to compare, or leave the list out for all of the subscription.';
    end if;
    return jsonb_build_object('tables', (select jsonb_agg(distinct t::oid::int8) from unnest(tables) t),
        'max_keys', max_keys, 'timeout', (extract(epoch from timeout) * 1000)::int8, 'repair', repair);
end
$$;
revoke execute on function courier.comparison_request(regclass[], int, interval, text) from public;
comment on function courier.comparison_request(regclass[], int, interval, text) is 'request of courier.run_comparison()';

-- Tables by their names, as the caller's search_path finds them.
create function courier.find_relations(relations text[]) returns regclass[]
language sql stable
as $$
    select coalesce(pg_catalog.array_agg(case when u.r is not null then courier.find_relation(u.r) end order by u.n), '{}')
    from pg_catalog.unnest(relations) with ordinality u (r, n)
    having relations is not null
$$;
comment on function courier.find_relations(text[]) is
    'the relations of those names by the caller''s search_path, or an error with a hint; null for null';

create function courier.compare_tables(subscription_name text, tables regclass[], max_keys int, timeout interval)
returns table (relation regclass, equal boolean, rows_compared int8, missing int8, extra int8, different int8,
               unsettled int8, dead_lettered int8, keys jsonb, keys_not_shown int8, note text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.find_subscription(compare_tables.subscription_name);
    return query
    select a.relation::regclass, a.equal, a.rows_compared, a.missing, a.extra, a.different, a.unsettled, a.dead_lettered,
           a.keys, a.keys_not_shown, a.note
    from jsonb_to_recordset(courier.run_comparison(compare_tables.subscription_name,
             courier.comparison_request(tables, max_keys, timeout, 'nothing'))::jsonb)
         as a (relation oid, equal boolean, rows_compared int8, missing int8, extra int8, different int8,
               unsettled int8, dead_lettered int8, keys jsonb, keys_not_shown int8, note text);
end
$$;
revoke execute on function courier.compare_tables(text, regclass[], int, interval) from public;
comment on function courier.compare_tables(text, regclass[], int, interval) is 'courier.compare(), with tables that were found';

-- Has no search_path of its own: names of tables are the caller's.
create function courier.compare(
    subscription_name text,
    tables text[] default null,
    max_keys int default 100,
    timeout interval default '5 min')
returns table (relation regclass, equal boolean, rows_compared int8, missing int8, extra int8, different int8,
               unsettled int8, dead_lettered int8, keys jsonb, keys_not_shown int8, note text)
language plpgsql
as $$
begin
    perform courier.require_administrator();
    return query select c.* from courier.compare_tables(subscription_name, courier.find_relations(tables), max_keys, timeout) c;
end
$$;
comment on function courier.compare(text, text[], int, interval) is
    'compares the tables of a subscription, or some of them, with those of the node, while both are written to; one row a table';

create function courier.repair_tables(
    subscription_name text, tables regclass[], print boolean, max_keys int, timeout interval)
returns table (relation regclass, missing int8, extra int8, different int8, unsettled int8, dead_lettered int8,
               keys jsonb, keys_not_shown int8, resent int8, statements text[], note text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.find_subscription(repair_tables.subscription_name);
    return query
    select a.relation::regclass, a.missing, a.extra, a.different, a.unsettled, a.dead_lettered,
           a.keys, a.keys_not_shown, a.resent, array(select jsonb_array_elements_text(a.statements)), a.note
    from jsonb_to_recordset(courier.run_comparison(repair_tables.subscription_name,
             courier.comparison_request(tables, max_keys, timeout, case when print then 'print' else 'resend' end))::jsonb)
         as a (relation oid, missing int8, extra int8, different int8, unsettled int8, dead_lettered int8,
               keys jsonb, keys_not_shown int8, resent int8, statements jsonb, note text);
end
$$;
revoke execute on function courier.repair_tables(text, regclass[], boolean, int, interval) from public;
comment on function courier.repair_tables(text, regclass[], boolean, int, interval) is 'courier.repair(), with tables that were found';

create function courier.repair(
    subscription_name text,
    tables text[] default null,
    print boolean default false,
    max_keys int default 100,
    timeout interval default '5 min')
returns table (relation regclass, missing int8, extra int8, different int8, unsettled int8, dead_lettered int8,
               keys jsonb, keys_not_shown int8, resent int8, statements text[], note text)
language plpgsql
as $$
begin
    perform courier.require_administrator();
    return query select c.* from courier.repair_tables(subscription_name, courier.find_relations(tables), print, max_keys, timeout) c;
end
$$;
comment on function courier.repair(text, text[], boolean, int, interval) is
    'compares like compare() and ships the rows that differ again, or only prints the statements that would; they arrive once the transaction has committed';
