-- Rows are found by any kind of replica identity and key type, through changes
-- of the key, swaps and constraints that are checked late.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source, exists (select from pg_collation where collprovider = 'i') as has_icu \gset
drop database if exists regress_courier_keys;
create extension btree_gist schema public;
create schema shop;
-- without ICU the names stay, the order is that of C
\if :has_icu
create collation shop.by_locale (provider = icu, locale = 'de');
create collation shop.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
\else
create collation shop.by_locale from "C";
create collation shop.no_case from "C";
\endif
create domain shop.code as text collate shop.no_case;
create type shop.size as enum ('small', 'large', 'huge');
create type shop.pair as (a int, b text);

-- kinds of replica identity
create table shop.by_default (id int primary key, v text, n int default 0);
create table shop.by_index (v text, b text not null, n int default 0, id int not null, extra text);
create unique index by_index_key on shop.by_index (id, b) include (extra);
alter table shop.by_index replica identity using index by_index_key;
create table shop.full_keyed (id int primary key, v text, n int default 0);
alter table shop.full_keyed replica identity full;
create table shop.full_bag (id int, v text, n int default 0);
alter table shop.full_bag replica identity full;
create table shop.full_no_case (v text collate shop.no_case, n int);
alter table shop.full_no_case replica identity full;
create table shop.full_partial (id int, v text, n int default 0);
create unique index on shop.full_partial (id) where id > 3;
create unique index on shop.full_partial (v);
alter table shop.full_partial replica identity full;
create table shop.full_deferrable (id int primary key deferrable, v text, n int default 0);
alter table shop.full_deferrable replica identity full;
create table shop.nothing (id int primary key, v text);
alter table shop.nothing replica identity nothing;
create table shop.none (id int, v text);

-- constraints that are checked late, and others than keys
create table shop.swapped (id int primary key, u int unique deferrable, v text, other int unique deferrable initially deferred, w text);
create table shop.nulls (id int primary key, a int, b text, unique (a, b));
create table shop.booking (id int primary key, room int, during int4range, v text, exclude using gist (room with =, during with &&));
create table shop.booking_late (id int primary key, room int, during int4range, v text,
    exclude using gist (room with =, during with &&) deferrable);

-- the target begins as a copy of this database
\c postgres
create database regress_courier_keys template :"source";
\c :source
\set target regress_courier_keys
\i ../test/regress/include/target.sql

-- tables of one key column each; the same on the target
create function public.key_types() returns table (name text, definition text, k text[]) language sql as $$
    values ('text_c', 'text collate "C"', array['a', 'A', 'ä', '']),
           ('text_locale', 'text collate shop.by_locale', array['a', 'A', 'ä', 'o''\"{}']),
           ('text_no_case', 'text collate shop.no_case', array['a', 'b', 'Ä', 'o''\"{}']),
           ('domain_no_case', 'shop.code', array['a', 'b', 'Ä', 'x']),
           ('domain_other_collation', 'shop.code collate "C"', array['a', 'A', 'Ä', 'x']),
           ('varchar_no_case', 'varchar(20) collate shop.no_case', array['a', 'b', 'ä', 'x']),
           ('bpchar', 'char(5)', array['a', 'b ', '', 'x y']),
           ('name', 'name', array['a', 'B', '"', '\']),
           ('internal_char', '"char"', array['a', 'B', '"', '\']),
           ('uuid', 'uuid', array['00000000-0000-0000-0000-000000000001', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
                                  'ffffffff-ffff-ffff-ffff-ffffffffffff', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12']),
           ('numeric', 'numeric', array['1.0', '1.10', 'NaN', '-12345678901234567890.000']),
           ('float8', 'float8', array['0.1', '-0', 'Infinity', 'NaN']),
           ('bool', 'bool', array['t', 'f']),
           ('timestamptz', 'timestamptz', array['2024-02-03 04:05:06.789+05:45', 'infinity', '0044-03-15 12:00+00 BC', '2024-10-27 01:30+00']),
           ('date', 'date', array['2024-02-29', 'infinity', '-infinity', '0001-01-01']),
           ('interval', 'interval', array['1 day', '1 mon', '-1:02:03.4', '2 years']),
           ('bytea', 'bytea', array['\x', '\x00', '\xff5c27', '\x5c78']),
           ('inet', 'inet', array['10.0.0.1', '10.0.0.0/8', '::1', '2001:db8::1/64']),
           ('macaddr', 'macaddr', array['08:00:2b:01:02:03', '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '08:00:2b:01:02:04']),
           ('bit', 'varbit', array['', '1', '0', '0101']),
           ('money', 'money', array['1.50', '-2', '0', '1234.56']),
           ('enum', 'shop.size', array['small', 'large', 'huge']),
           ('int_array', 'int[]', array['{}', '{1,2}', '{NULL}', '[0:1]={1,2}']),
           ('text_array', 'text[]', array['{}', '{"a,b",NULL}', '{"\""}', '{"",x}']),
           ('pair', 'shop.pair', array['(1,a)', '(,)', '(2,"x ""y""")', '(1,)']),
           ('range', 'int4range', array['empty', '[1,5)', '(,)', '[7,)']),
           ('jsonb', 'jsonb', array['{"a": 1}', '[1.0]', 'null', '"x"']),
           ('oid', 'oid', array['0', '1', '4294967295', '7']),
           ('pg_lsn', 'pg_lsn', array['0/0', '1/FF', 'FFFFFFFF/FFFFFFFF', '0/7']),
           ('tsvector', 'tsvector', array['', '''a'':1', '''it''''s'':1B', '''b'''])
$$;
create schema kind;
select dblink_exec('target', 'create schema kind');
do $$
declare
    command text;
begin
    for command in select format('create table kind.%I (k %s primary key, n int, v text)', name, definition) from key_types() loop
        execute command;
        perform dblink_exec('target', command);
    end loop;
end
$$;
select courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false);
select courier.replication_set_add_table('default', 'shop.nothing');
select courier.replication_set_add_table('default', 'shop.none');
select courier.replication_set_add_table('inserts', 'shop.nothing'), courier.replication_set_add_table('inserts', 'shop.none');
select courier.replication_set_add_table('default', format('shop.%I', r))
from unnest('{by_default,by_index,full_keyed,full_bag,full_no_case,full_partial,full_deferrable,swapped,nulls,booking,booking_late}'::text[]) r;
select courier.replication_set_add_all_tables('default', '{kind}') = (select count(*) from key_types()) as added;
select courier.create_subscription('s', 'eu', '{default,inserts}', copy_data => false) is not null as created;

-- ships, and compares the rows of all tables on both sides
\i ../test/regress/include/compare.sql
create function public.ship(out shipped bigint, out tables int, out row_count bigint, out differ text)
language plpgsql set timezone = utc set datestyle = iso set intervalstyle = postgres as $$
begin
    shipped := courier.ship('s');
    select c.tables, c.row_count, c.differ into tables, row_count, differ from pg_temp.compare_sides() c;
end
$$;
create procedure public.each_kind(command text) language plpgsql as $$
declare
    t record;
begin
    for t in select * from key_types() loop
        execute format(command, 'kind.' || quote_ident(t.name), v.k[1], v.k[2], v.k[cardinality(v.k)])
        from (select array_agg(format('%L::%s', k, t.definition)) as k from unnest(t.k) k) v;
    end loop;
end
$$;

-- every kind of replica identity
insert into shop.by_default select i, 'v' || i from generate_series(1, 6) i;
insert into shop.by_index (id, b, v, extra) select i % 3, 'b' || i, 'v' || i, 'e' from generate_series(1, 6) i;
insert into shop.full_keyed select i, 'v' || i from generate_series(1, 6) i;
insert into shop.full_deferrable select i, 'v' || i from generate_series(1, 6) i;
insert into shop.full_bag select i % 2, nullif('v' || i % 3, 'v0') from generate_series(1, 12) i;
insert into shop.full_partial select i, 'v' || i from generate_series(1, 6) i;
insert into shop.full_partial values (2, null), (2, null), (null, null);
insert into shop.nothing select i, 'v' || i from generate_series(1, 6) i;
insert into shop.none select i % 2, 'same' from generate_series(1, 6) i;
select * from ship();
update shop.by_default set n = n + 1 where id < 4;
update shop.by_index set n = n + 1, extra = 'changed' where id = 1;
update shop.by_index set b = b || '!' where id = 2;
delete from shop.by_index where b = 'b3';
update shop.full_keyed set n = n + 1 where id < 4;
update shop.full_keyed set id = -id where id = 5;
delete from shop.full_keyed where id = 6;
update shop.full_deferrable set id = 7 - id;
update shop.full_partial set n = 7 where id = 2;
update shop.full_partial set v = 'null before' where id is null;
delete from shop.full_partial where id = 6;
select * from ship();
-- of equal rows exactly one goes, and one changes; one that has a null is found
select distinct on (id, v) ctid as one from shop.full_bag where id = 1 and v is null order by id, v, ctid \gset
delete from shop.full_bag where ctid = :'one';
select min(ctid) as one from shop.full_bag where v = 'v1' \gset
update shop.full_bag set n = 100 where ctid = :'one';
select * from ship();
delete from shop.full_bag where v is null;
insert into shop.full_bag values (5, 'x'), (5, 'x'), (5, 'x');
update shop.full_bag set n = n + 1 where id = 5;
delete from shop.full_bag where ctid in (select ctid from shop.full_bag where id = 5 limit 2);
select * from ship();
-- rows that only their collation takes for equal
insert into shop.full_no_case values ('abc', 1), ('ABC', 1), ('Abc', 1);
select * from ship();
delete from shop.full_no_case where v collate "C" = 'Abc';
update shop.full_no_case set n = 2 where v collate "C" = 'ABC';
select * from ship();
-- a replica identity that changes on the way
update shop.by_default set n = 50 where id = 1;
alter table shop.by_default replica identity full;
update shop.by_default set n = 51, id = 100 where id = 1;
create unique index by_default_v on shop.by_default (v);
alter table shop.by_default alter v set not null, replica identity using index by_default_v;
update shop.by_default set id = 101 where id = 100;
update shop.by_default set v = 'moved' where id = 101;
alter table shop.by_default replica identity default;
update shop.by_default set id = 1 where id = 101;
select * from ship();

-- every type of key: inserted, changed, moved, deleted and put back, one at a time and many
create procedure public.insert_keys() language plpgsql as $$
declare
    t record;
begin
    for t in select * from key_types() loop
        execute format('insert into kind.%I select k::%s, 0, k from unnest($1) k', t.name, regexp_replace(t.definition, ' collate.*', '')) using t.k;
    end loop;
end
$$;
call insert_keys();
select * from ship();
call each_kind('update %1$s set n = n + 1');
select * from ship();
call each_kind('update %1$s set n = n + 1 where k = %2$s');
select * from ship();
call each_kind('delete from %1$s where k = %2$s; update %1$s set k = %2$s, v = ''moved'' where k = %3$s');
select * from ship();
-- a swap by way of a third value, and a row that takes the place of another
call each_kind('update %1$s set n = 8 where k = %4$s; delete from %1$s where k = %4$s; insert into %1$s values (%4$s, 9, ''back'')');
call each_kind('delete from %1$s where k = %2$s');
call each_kind('insert into %1$s values (%3$s, 5, ''again'') on conflict (k) do update set n = 6');
select * from ship();
-- keys that are equal and yet are not the same
begin;
update kind.text_no_case set k = 'B' where k = 'b';
update kind.text_no_case set v = 'upper' where k = 'B';
update kind."numeric" set k = '1.1' where k = 1.1;
update kind."numeric" set n = 77 where k = 1.1;
update kind.float8 set k = '0' where k = 0;
update kind.float8 set n = 77 where k = 0;
commit;
select * from ship();
delete from kind.text_no_case where k = 'B';
insert into kind.text_no_case values ('b', 10, 'lower');
delete from kind."numeric" where k = 1.1;
insert into kind."numeric" values ('1.1000', 10, 'longer');
select * from ship();
call each_kind('delete from %1$s');
select * from ship();

-- keys and unique values that move between rows, in one statement and in one transaction
insert into shop.swapped select i, i, 'v' || i, i, 'w' from generate_series(1, 9) i;
select * from ship();
update shop.swapped set u = 10 - u;
select * from ship();
-- rows that set other columns: not one statement there
begin;
set constraints all deferred;
update shop.swapped set u = 8, v = 'a' where id = 1;
update shop.swapped set u = 9, w = 'b' where id = 2;
commit;
begin;
update shop.swapped set other = 4, v = 'x' where id = 3;
update shop.swapped set other = 3 where id = 4;
update shop.swapped set id = -5, other = 6 where id = 5;
update shop.swapped set id = 5, other = 5, w = 'y' where id = 6;
update shop.swapped set id = 6 where id = -5;
commit;
select * from ship();
begin;
update shop.by_default set id = id + 100;
update shop.by_default set id = id - 99;
delete from shop.by_default where id = 4;
insert into shop.by_default values (4, 'new 4');
update shop.by_default set v = 'then ' || v where id in (3, 4);
commit;
select * from ship();
-- nulls in a unique key
insert into shop.nulls values (1, 1, null), (2, 1, null), (3, null, null), (4, null, 'x'), (5, 1, 'x');
update shop.nulls set b = 'x' where id = 4;
select * from ship();
begin;
update shop.nulls set a = null where id = 5;
update shop.nulls set b = 'x' where id = 1;
update shop.nulls set a = 1, b = null where id = 5;
commit;
select * from ship();
-- exclusion constraints: two bookings change places
insert into shop.booking select i, 1, int4range(i * 10, i * 10 + 10), 'v' from generate_series(1, 5) i;
insert into shop.booking_late table shop.booking;
select * from ship();
begin;
update shop.booking set during = '[1000,1010)' where id = 1;
update shop.booking set during = '[10,20)', v = 'moved' where id = 2;
update shop.booking set during = '[20,30)' where id = 1;
commit;
update shop.booking_late set during = int4range(40 - upper(during), 40 - lower(during)) where id < 3;
begin;
set constraints all deferred;
update shop.booking_late set during = '[40,50)' where id = 3;
update shop.booking_late set during = '[30,40)', v = 'late' where id = 4;
update shop.booking_late set v = 'and this' where id = 5;
commit;
select * from ship();
-- all of it once more in one batch, and gone
begin;
update shop.swapped set v = v || '.', id = id + 1000;
update shop.booking set room = 2, during = int4range(lower(during) + 5, upper(during) + 5) where id < 4;
delete from shop.nulls where b is null;
delete from shop.booking_late;
truncate shop.full_bag;
insert into shop.full_bag values (null, null);
delete from shop.full_bag;
insert into shop.none values (null, null);
commit;
select * from ship();

-- a table that loses its key in a set that sends updates
alter table shop.nulls drop constraint nulls_pkey;
insert into shop.nulls values (10, 10, 'still arrives');
select * from ship();
update shop.nulls set b = 'cannot' where id = 10;
do $$
begin
    perform courier.ship('s');
exception when object_not_in_prerequisite_state then
    raise warning '%', regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID');
end
$$;
select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.key_types;
drop procedure public.each_kind, public.insert_keys;
drop extension pg_courier;
drop schema kind, shop cascade;
drop extension btree_gist;
drop database regress_courier_keys;
