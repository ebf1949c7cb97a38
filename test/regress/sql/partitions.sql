-- Partitioned on the source, on the target, on both by different schemes: rows
-- arrive through the root, whichever partition they are in or move to.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_partitions;
create schema shop;
-- both sides partitioned, alike
create table shop.alike (id int, day date, v text, primary key (id, day)) partition by range (day);
create table shop.alike_1 partition of shop.alike for values from ('2024-01-01') to ('2024-02-01');
create table shop.alike_2 partition of shop.alike for values from ('2024-02-01') to ('2024-03-01');
create table shop.alike_rest partition of shop.alike default;
-- both, by other columns; the source with sub-partitions and columns in another order
create table shop.other (id int not null, region text not null, day date not null, v text, primary key (region, id, day)) partition by list (region);
create table shop.other_eu partition of shop.other for values in ('eu') partition by hash (id);
create table shop.other_eu_0 partition of shop.other_eu for values with (modulus 2, remainder 0);
create table shop.other_eu_1 (v text, gone int, day date not null, id int not null, region text not null);
alter table shop.other_eu_1 drop column gone;
alter table shop.other_eu attach partition shop.other_eu_1 for values with (modulus 2, remainder 1);
create table shop.other_us (day date not null, v text, region text not null, id int not null);
alter table shop.other attach partition shop.other_us for values in ('us');
create table shop.other_rest partition of shop.other default;
-- partitioned here only, there only; no key
create table shop.here_only (id int primary key, v text) partition by hash (id);
create table shop.here_only_0 partition of shop.here_only for values with (modulus 2, remainder 0);
create table shop.here_only_1 partition of shop.here_only for values with (modulus 2, remainder 1);
create table shop.there_only (id int, region text, v text, primary key (id, region));
create table shop.bag (region text, v text) partition by list (region);
create table shop.bag_eu partition of shop.bag for values in ('eu');
create table shop.bag_rest partition of shop.bag default;
alter table shop.bag replica identity full;
-- a partition's own replica identity is not what counts
alter table shop.bag_eu replica identity nothing;
create table shop.no_key (id int, v text) partition by list (v);
create table shop.no_key_a partition of shop.no_key for values in ('a');
create table shop.no_key_b partition of shop.no_key for values in ('b');
alter table shop.no_key_a add primary key (id);
alter table shop.no_key_b add primary key (id);
alter table shop.no_key replica identity full;
-- partitions by themselves; a foreign key to a partitioned table
create table shop.some (id int, region text, v text, primary key (id, region)) partition by list (region);
create table shop.some_eu partition of shop.some for values in ('eu');
create table shop.some_us partition of shop.some for values in ('us');
create table shop.child (n int primary key, id int, region text, v text,
    foreign key (id, region) references shop.some on update cascade on delete cascade);
create table shop.with_foreign (id int, v text) partition by list (id);

\c postgres
create database regress_courier_partitions template :"source";
\c regress_courier_partitions
set client_min_messages = warning;
drop table shop.other, shop.here_only, shop.there_only, shop.bag;
create table shop.other (v text, id int, day date, region text, extra int default 5, primary key (id, region, day)) partition by range (day);
create table shop.other_old partition of shop.other for values from (minvalue) to ('2024-02-01');
create table shop.other_new (day date not null, id int not null, v text, extra int default 6, region text not null);
alter table shop.other attach partition shop.other_new for values from ('2024-02-01') to (maxvalue);
create table shop.here_only (v text, id int primary key);
create table shop.there_only (v text, region text, id int, primary key (region, id)) partition by list (region);
create table shop.there_only_eu partition of shop.there_only for values in ('eu');
create table shop.there_only_us partition of shop.there_only for values in ('us') partition by range (id);
create table shop.there_only_us_1 partition of shop.there_only_us for values from (minvalue) to (10);
create table shop.there_only_us_2 partition of shop.there_only_us for values from (10) to (maxvalue);
create table shop.bag (v text, region text) partition by hash (v);
create table shop.bag_0 partition of shop.bag for values with (modulus 2, remainder 0);
create table shop.bag_1 partition of shop.bag for values with (modulus 2, remainder 1);
\c :source
\set target regress_courier_partitions
\i ../test/regress/include/target.sql
select courier.replication_set_add_table('default', format('shop.%I', t))
from unnest('{alike,other,here_only,there_only,bag,no_key,some_eu,child}'::text[]) t;

-- ships, and compares what both sides have of all tables
\i ../test/regress/include/compare.sql
create function public.ship(out shipped bigint, out row_count bigint, out differ text)
language plpgsql set datestyle = iso as $$
begin
    shipped := courier.ship('s');
    select c.row_count, c.differ into row_count, differ from pg_temp.compare_sides('select x::text from (select %2$s from %1$s) x') c;
end
$$;
create function public.error_of(command text) returns text language plpgsql as $$
declare
    hint text;
begin
    execute command;
    return 'none';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return sqlerrm || coalesce('; ' || hint, '');
end
$$;

-- the copy takes every leaf
insert into shop.alike select i, date '2024-01-25' + i, 'v' || i from generate_series(1, 8) i;
insert into shop.alike values (100, '2030-01-01', 'by default');
insert into shop.other select i, (array['eu', 'us', 'xx'])[1 + i % 3], date '2024-01-25' + i, 'v' || i from generate_series(1, 12) i;
insert into shop.here_only select i, 'v' || i from generate_series(1, 6) i;
insert into shop.there_only select i, (array['eu', 'us'])[1 + i % 2], 'v' || i from generate_series(1, 20) i;
insert into shop.bag select (array['eu', 'us'])[1 + i % 2], 'v' || i % 3 from generate_series(1, 9) i;
insert into shop.no_key select i, v from generate_series(1, 3) i, unnest('{a,b}'::text[]) v;
insert into shop.some select i, (array['eu', 'us'])[1 + i % 2], 'v' from generate_series(1, 6) i;
select dblink_exec('target', $$insert into shop.some values (1, 'us', 'there already'), (3, 'us', 'there already')$$);
select courier.create_subscription('s', 'eu') is not null as created;
select courier.replication_set_remove_table('default', 'shop.child');
select * from ship();
select courier.replication_set_add_table('default', 'shop.child');
select * from ship();

-- in place, and by way of a partition's own name
update shop.alike set v = v || '!' where id < 4;
update shop.other set v = 'changed' where id % 2 = 0;
update shop.other_eu_1 set v = v || ' by the leaf';
insert into shop.other_us values ('2024-03-01', 'into the leaf', 'us', 50);
delete from shop.alike_2 where id = 8;
update shop.here_only set v = 'changed' where id in (1, 2);
update shop.there_only set v = 'changed' where id in (1, 2, 15);
delete from shop.there_only where id in (3, 4, 17);
update shop.bag set v = 'w' where ctid = (select min(ctid) from shop.bag_eu) and region = 'eu';
delete from shop.bag where ctid = (select max(ctid) from shop.bag_rest) and region = 'us';
select * from ship();
-- moves from partition to partition, here, there, on both sides
update shop.alike set day = day + 30 where id between 2 and 5;
update shop.alike set day = '2031-01-01' where id = 6;
update shop.other set region = 'us' where region = 'eu' and id < 9;
update shop.other set day = '2024-06-01' where id = 10;
update shop.here_only set id = id + 101;
update shop.there_only set region = 'us' where id = 1;
update shop.there_only set id = id - 1000 where id in (11, 13);
update shop.bag set region = 'eu' where region = 'us';
delete from shop.no_key where v = 'b' and id = 2;
update shop.no_key set id = id + 10 where v = 'b';
update shop.no_key set v = 'b' where id = 2;
select * from ship();
-- a row that moves, is changed, and moves back, in one batch; keys that change places
begin;
update shop.alike set day = '2024-01-20' where id = 100;
update shop.alike set v = 'on the way' where id = 100;
update shop.alike set day = '2030-01-01' where id = 100;
update shop.alike set id = -1 where id = 1;
update shop.alike set id = 1 where id = 2;
update shop.alike set id = 2 where id = -1;
insert into shop.alike values (200, '2024-01-05', 'new');
update shop.alike set day = '2024-02-05' where id = 200;
delete from shop.alike where id = 3;
insert into shop.alike values (3, '2032-01-01', 'again elsewhere');
commit;
insert into shop.alike values (200, '2024-02-05', 'x'), (201, '2024-02-05', 'y')
on conflict (id, day) do update set v = 'conflict';
select * from ship();

-- partitions come and go: rows written from then on arrive; ones that a table
-- brought along or took away are no changes
create table shop.alike_3 partition of shop.alike for values from ('2024-03-01') to ('2024-04-01');
insert into shop.alike values (301, '2024-03-05', 'new partition');
create table shop.other_asia (region text not null, id int not null, v text, day date not null);
insert into shop.other_asia values ('asia', 400, 'before', '2024-03-05');
alter table shop.other attach partition shop.other_asia for values in ('asia');
insert into shop.other values (401, 'asia', '2024-03-05', 'after');
update shop.other_asia set v = 'changed after' where id = 401;
select courier.ship('s');
select d.* from dblink('target', $$select id, v from shop.other where region = 'asia'$$) d (id int, v text);
-- ... so they are sent by hand
select courier.enqueue_upsert('shop.other', o) from shop.other o where region = 'asia' and id = 400;
select * from ship();
alter table shop.other detach partition shop.other_asia;
insert into shop.other_asia values ('asia', 402, 'no longer', '2024-03-05');
update shop.other_asia set v = 'no longer';
drop table shop.alike_3;
select courier.ship('s');
select d.* from dblink('target', $$select id, v from shop.other where region = 'asia' union all select id, v from shop.alike where id = 301 order by 1$$) d (id int, v text);
select dblink_exec('target', $$delete from shop.other where region = 'asia'; delete from shop.alike where id = 301$$);
select count(*) from pg_trigger where tgrelid = 'shop.other_asia'::regclass and tgname like '!%';
-- a whole tree attached
create table shop.other_af (region text not null, id int not null, v text, day date not null) partition by range (id);
create table shop.other_af_1 partition of shop.other_af for values from (0) to (500);
alter table shop.other attach partition shop.other_af for values in ('af');
insert into shop.other values (410, 'af', '2024-01-05', 'leaf of a tree');
update shop.other set region = 'eu' where region = 'us' and id = 50;
select * from ship();

-- TRUNCATE of the root; a partition by itself
truncate shop.here_only, shop.alike;
insert into shop.here_only values (1, 'after');
insert into shop.alike values (1, '2024-01-05', 'after');
select * from ship();
update shop.some set v = 'changed' where id in (2, 4);
update shop.some set region = 'us' where id = 4;
update shop.some set region = 'eu' where id = 1;
insert into shop.child values (1, 2, 'eu', 'of 2'), (2, 1, 'eu', 'of 1'), (3, 3, 'us', 'of 3');
update shop.some set id = 22 where id = 2;
delete from shop.some where id = 1;
select * from ship();
select error_of($$select courier.replication_set_add_table('default', 'shop.some')$$);
select error_of($$select courier.replication_set_add_table('default', 'shop.other_eu')$$);
select error_of($$select courier.replication_set_add_table('default', 'shop.other_us')$$);
-- a table that is in a set by itself does not become a partition of one that is, unseen
create table shop.alike_4 (id int, day date, v text, primary key (id, day));
select courier.replication_set_add_table('default', 'shop.alike_4');
alter table shop.alike attach partition shop.alike_4 for values from ('2024-04-01') to ('2024-05-01');
insert into shop.alike values (5, '2024-04-05', 'now as a partition');
select * from ship();
-- a foreign table as a partition
create extension file_fdw;
create server files foreign data wrapper file_fdw;
create foreign table shop.with_foreign_1 partition of shop.with_foreign for values in (1) server files options (program 'true');
select error_of($$select courier.replication_set_add_table('inserts', 'shop.with_foreign')$$)
from courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false);

-- DDL of others does not wait for whoever holds a captured partition
select dblink_connect('other', format('host=%s port=%s dbname=%s user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_database(), current_user));
select dblink_exec('other', 'begin'), dblink_exec('other', 'truncate shop.alike_1');
set lock_timeout = '2s';
create temp table passing (id int);
alter table passing add column n int;
reset lock_timeout;
select dblink_exec('other', 'rollback'), dblink_disconnect('other');

select courier.drop_subscription('s');
select count(*) from pg_trigger where tgname like '!%';
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.error_of;
drop extension pg_courier;
drop extension file_fdw cascade;
drop schema shop cascade;
drop database regress_courier_partitions;
