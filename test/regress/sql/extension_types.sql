-- Types of extensions, and types built on types, in schemas that are in nobody's
-- search_path: as values, in arrays, as keys, where the whole row is the key.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_extension_types;
create schema "Ext types";
create extension hstore schema "Ext types";
create extension citext schema "Ext types";
create extension ltree schema "Ext types";
create extension isn schema "Ext types";
create extension cube schema "Ext types";
create extension seg schema "Ext types";
create extension lo schema "Ext types";
create extension intarray schema "Ext types";
-- what lies on them
create domain "Ext types".email as "Ext types".citext check (value like '%@%');
create domain "Ext types".isbns as "Ext types".isbn13[] check (cardinality(value) < 4);
create type "Ext types".level as enum ('low', 'mid-"high"', 'it''s');
create type "Ext types".address as (mail "Ext types".email, path "Ext types".ltree, tags "Ext types".hstore, level "Ext types".level);
create domain "Ext types".checked_address as "Ext types".address check ((value).mail::text is distinct from 'not@this');
create type "Ext types".nested as ("an ""address""" "Ext types".checked_address, others "Ext types".address[], n numeric(8,3));
create function "Ext types".segment_length(a "Ext types".cube, b "Ext types".cube) returns float8 language sql immutable as $$ select 1.0::float8 $$;
create type "Ext types".word_range as range (subtype = "Ext types".citext, multirange_type_name = "Ext types".word_ranges);
create type "Ext types".level_range as range (subtype = "Ext types".level);

create schema kit;
create table kit.type (n int generated always as identity, name text primary key, type text, k boolean, v text[]);
-- k: has an order, so can be a key
insert into kit.type (name, k, type, v) values
    ('hstore', true, '"Ext types".hstore', array['', '"a"=>"b"', '"a b"=>"c\"d", "it''s"=>NULL, "\\"=>""']),
    ('citext', true, '"Ext types".citext', array['a', 'B', '', 'Ünï "q" \ ''']),
    ('ltree', true, '"Ext types".ltree', array['', 'Top', 'Top.Science.Astronomy']),
    ('lquery', false, '"Ext types".lquery', array['*', 'a|b.*{2}.!c']),
    ('isbn', true, '"Ext types".isbn', array['0-393-04002-X', '1-55860-578-9']),
    ('isbn13', true, '"Ext types".isbn13', array['978-0-393-04002-9', '978-1-55860-578-7']),
    ('issn', true, '"Ext types".issn', array['1436-4522']),
    ('ean13', true, '"Ext types".ean13', array['978-0-393-04002-9']),
    ('cube', true, '"Ext types".cube', array['(1, 2)', '(0.1, 1e-300),(2, 3)', '(0)', '()']),
    ('seg', true, '"Ext types".seg', array['1', '1.0 .. 2.50', '<3', '~5', '4 .. ']),
    ('lo', false, '"Ext types".lo', array['1', '4294967295']),
    ('query_int', false, '"Ext types".query_int', array['1&(2|!3)', '5']),
    ('email', true, '"Ext types".email', array['a@b', 'X@Y.z', 'it''s"@\']),
    ('isbns', true, '"Ext types".isbns', array['{}', '{978-0-393-04002-9,NULL}']),
    ('level', true, '"Ext types".level', array['low', 'mid-"high"', 'it''s']),
    ('address', true, '"Ext types".address', array['(a@b,Top.x,"""k""=>""v, it''s """,low)', '(,,,)', '("it''s@ x",,,"mid-""high""")']),
    ('checked_address', true, '"Ext types".checked_address', array['(a@b,,,)', '("it''s@""",Top,"""a""=>NULL","it''s")']),
    ('nested', true, '"Ext types".nested', array['("(a@b,,,)","{""(c@d,Top,,)"",NULL}",1.5)', '(,,)', '(,"{}",0)']),
    ('word_range', true, '"Ext types".word_range', array['[a,c)', 'empty', '(,Z]', '["it''s ""x""",y\\)']),
    ('word_ranges', true, '"Ext types".word_ranges', array['{[a,c),[D,e)}', '{}']),
    ('level_range', true, '"Ext types".level_range', array['[low,"it''s")', '(,)']),
    ('citext[]', true, '"Ext types".citext[]', array['{}', '{a,"B,c",NULL,"\"\\"}']),
    ('hstore[]', true, '"Ext types".hstore[]', array['{}', '{"\"a\"=>\"b\\\\\\\"c\"",NULL,""}']),
    ('cube[]', true, '"Ext types".cube[]', array['{"(1, 2)","(3)"}']),
    ('ltree[]', true, '"Ext types".ltree[]', array['{Top.a,"",NULL}']),
    ('level[]', true, '"Ext types".level[]', array['{low,"mid-\"high\"",it''s}', '[0:1]={low,low}']),
    ('address[]', true, '"Ext types".address[]', array['{"(a@b,,,)",NULL,"(\"x@ \"\"y\",,,low)"}']),
    ('email[]', true, '"Ext types".email[]', array['{a@b,"c,@d",NULL}']),
    ('nested[]', true, '"Ext types".nested[]', array['{"(\"(a@b,,,)\",{},1.5)"}']);
create procedure kit.each(command text) language plpgsql as $$
declare
    t record;
begin
    for t in select * from kit.type order by n loop
        execute format(command, format('kit.%I', 'v ' || t.name), t.type, t.name,
                       case when t.k then format('kit.%I', 'k ' || t.name) else 'kit.spare' end, case when t.k then t.type else 'int' end);
    end loop;
end
$$;
create table kit.spare (k int primary key, n int, v text);
call kit.each('create table %1$s (id int primary key, v %2$s)');
call kit.each('create table if not exists %4$s (k %5$s primary key, n int, v text)');
call kit.each('create table kit.%3$I (v %2$s, n int); alter table kit.%3$I replica identity full');
\c postgres
create database regress_courier_extension_types template :"source";
\c :source
\set target regress_courier_extension_types
\i ../test/regress/include/target.sql
\i ../test/regress/include/compare.sql
create function kit.ship(out shipped bigint, out tables int, out row_count bigint, out differ text) language plpgsql as $$
begin
    shipped := courier.ship('s');
    select c.tables, c.row_count, c.differ into tables, row_count, differ from pg_temp.compare_sides() c;
end
$$;
select count(*) = (select 1 + 2 * count(*) + count(*) filter (where k) from kit.type) as added
from (select courier.replication_set_add_table('default', c.oid::regclass) from pg_class c
      where c.relnamespace = 'kit'::regnamespace and c.relkind = 'r' and c.relname not in ('type')) x;

-- by copy; many at once; one by one
create procedure kit.fill(start int) language plpgsql as $$
declare
    t record;
begin
    for t in select * from kit.type order by n loop
        execute format('insert into kit.%I select $1 + u.n, u.v::%s from unnest($2) with ordinality u (v, n) union all select $1, null',
                       'v ' || t.name, t.type) using start, t.v;
        execute format('insert into kit.%I select u.v::%s, $1 from unnest($2) u (v) union all select null, $1', t.name, t.type) using start, t.v;
        if t.k then
            execute format('insert into kit.%I select u.v::%s, $1, u.v from unnest($2) u (v) on conflict do nothing',
                           'k ' || t.name, t.type) using start, t.v;
        end if;
    end loop;
end
$$;
call kit.fill(0);
select courier.create_subscription('s', 'eu') is not null as created;
select * from kit.ship();
call kit.fill(100);
select * from kit.ship();
call kit.each('update %1$s set v = (select x.v from %1$s x where x.id = 1) where id > 100');
select * from kit.ship();
call kit.each('update %1$s set v = null where id = 1; update %1$s set v = (select x.v from %1$s x where x.id = 101) where id = 0');
call kit.each('insert into %1$s select 200, v from %1$s where id = 101');
select * from kit.ship();
-- as keys
call kit.each('update %4$s set n = n + 1');
select * from kit.ship();
call kit.each('update %4$s set v = v || ''.'' where ctid = (select ctid from %4$s order by k limit 1)');
select * from kit.ship();
call kit.each('insert into %4$s select k, 5, ''again'' from %4$s order by k limit 1 on conflict (k) do update set v = excluded.v');
call kit.each('delete from %4$s where ctid = (select ctid from %4$s order by k desc limit 1)');
select * from kit.ship();
call kit.each('delete from %4$s');
select * from kit.ship();
-- by all their columns
call kit.each('update kit.%3$I set n = 7 where ctid = (select max(ctid) from kit.%3$I where v is not null)');
call kit.each('delete from kit.%3$I where ctid = (select min(ctid) from kit.%3$I where v is not null)');
call kit.each('update kit.%3$I set n = 8 where v is null and n = 0; delete from kit.%3$I where v is null and n = 100');
select * from kit.ship();
-- citext: equal and yet not the same
set search_path = public, "Ext types";
insert into kit."k citext" values ('Abc', 1), ('x', 1);
select * from kit.ship();
begin;
update kit."k citext" set k = 'ABC' where k = 'abc';
update kit."k citext" set n = 2 where k = 'abc';
commit;
select * from kit.ship();
delete from kit."k citext" where k = 'abc';
insert into kit."k citext" values ('aBC', 3);
update kit."k citext" set k = 'X', v = 'upper' where k = 'x';
select * from kit.ship();

reset search_path;
select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop extension pg_courier;
drop schema kit, "Ext types" cascade;
drop database regress_courier_extension_types;
