-- Replication sets: what may be in one, and the capture triggers that follow.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
create schema shop;
set search_path = shop, public;
create view capture as
select g.tgrelid::regclass as relation, g.tgname, g.tgparentid <> 0 as cloned
from pg_trigger g join pg_class c on c.oid = g.tgrelid
where c.relnamespace = 'shop'::regnamespace and not g.tgisinternal;

-- sets
select set_name, replicate_insert, replicate_update, replicate_delete, replicate_truncate from courier.replication_set;
select courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false);
select courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false);
select courier.create_replication_set('inserts');
select courier.create_replication_set('nothing', false, false, false, false);
select courier.create_replication_set('nothing', null);
select courier.create_replication_set('short_lived');
select courier.drop_replication_set('short_lived');
select courier.drop_replication_set('nosuch');
select courier.drop_replication_set('default');

-- tables
create table item (id int primary key, name text, price numeric, gross numeric generated always as (price * 1.2) stored);
create table log (line text);
create table log_full (line text);
alter table log_full replica identity full;
create table by_index (id int not null, code text not null, v text);
create unique index by_index_code on by_index (code);
alter table by_index replica identity using index by_index_code;
create table silent (id int primary key);
alter table silent replica identity nothing;
create view items as select * from item;
create materialized view items_kept as select * from item;
create sequence numbers;
create unlogged table volatile (id int primary key);
create temp table passing (id int primary key);
create foreign data wrapper regress_courier_fdw;
create server regress_courier_far foreign data wrapper regress_courier_fdw;
create foreign table far (id int) server regress_courier_far;
select courier.replication_set_add_table('default', 'item');
select courier.replication_set_add_table('default', 'shop.item'::regclass);
select courier.replication_set_add_table('nosuch', 'item');
select courier.replication_set_add_table('default', 'nosuch');
select courier.replication_set_add_table('default', 'no.such');
select courier.replication_set_add_table('default', 4294967295::regclass);
select courier.replication_set_add_table('default', null::regclass);
select courier.replication_set_add_table('default', 'items');
select courier.replication_set_add_table('default', 'items_kept');
select courier.replication_set_add_table('default', 'numbers');
select courier.replication_set_add_table('default', 'volatile');
select courier.replication_set_add_table('default', 'far');
select courier.replication_set_add_table('default', 'item_pkey');
select courier.replication_set_add_table('default', 'pg_class');
select courier.replication_set_add_table('default', 'courier.node');
-- (a temporary schema's number varies)
do $$
begin
    perform courier.replication_set_add_table('default', 'passing');
exception when wrong_object_type then
    raise warning '%', regexp_replace(sqlerrm, 'pg_temp_[0-9]+', 'pg_temp');
end
$$;
drop foreign data wrapper regress_courier_fdw cascade;

-- keys
select courier.replication_set_add_table('default', 'log');
select courier.replication_set_add_table('default', 'silent');
select courier.replication_set_add_table('inserts', 'log');
select courier.replication_set_add_table('default', 'log_full');
select courier.replication_set_add_table('default', 'by_index');

-- columns
select courier.replication_set_remove_table('default', 'item');
select courier.replication_set_add_table('default', 'item', '{}');
select courier.replication_set_add_table('default', 'item', '{id,nosuch}');
select courier.replication_set_add_table('default', 'item', '{id,ctid}');
select courier.replication_set_add_table('default', 'item', '{id,gross}');
select courier.replication_set_add_table('default', 'item', '{id,name,id}');
select courier.replication_set_add_table('default', 'item', '{name,price}');
select courier.replication_set_add_table('default', 'item', array['id', repeat('x', 64)]);
select courier.replication_set_add_table('default', 'item', '{id,name}', 'price > random()');
select courier.replication_set_add_table('default', 'item', '{id,name}');
select courier.replication_set_add_table('default', 'item', '{id,name}'::name[]);
select courier.replication_set_add_table('default', 'item');
select courier.replication_set_remove_table('default', 'by_index');
select courier.replication_set_add_table('default', 'by_index', '{id,v}');
select courier.replication_set_add_table('default', 'by_index', '{code,v}');
select courier.replication_set_remove_table('inserts', 'item');
select courier.replication_set_remove_table('inserts', 'nosuch');
select set_name, relation, columns from courier.replication_set_table order by 1, relation::text collate "C";

-- no capture without a subscription; with one, for the tables of its sets
select * from capture order by 1, 2;
select courier.set_local_node('here');
select courier.create_node('eu', 'host=/nonexistent');
select courier.create_subscription('eu', 'eu', '{default,inserts}') is not null as created;
select * from capture order by 1, 2;
select table_name, columns, replicate_insert, replicate_update, replicate_delete, replicate_truncate
from courier.subscription_table order by 1;
select courier.drop_replication_set('inserts');

-- several sets: what any of them gives
select courier.replication_set_add_table('inserts', 'item', '{id,price}');
select table_name, columns, replicate_update from courier.subscription_table where table_name = 'item';
select courier.replication_set_remove_table('default', 'item');
select table_name, columns, replicate_update from courier.subscription_table where table_name = 'item';
select * from capture where relation = 'item'::regclass order by 2;
select courier.replication_set_remove_table('inserts', 'item');
select * from capture where relation = 'item'::regclass order by 2;

-- only tables that change are locked
begin;
select courier.replication_set_add_table('default', 'item');
select distinct l.relation::regclass, l.mode from pg_locks l join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid() and c.relnamespace = 'shop'::regnamespace and c.relkind = 'r'
  and l.mode in ('ShareRowExclusiveLock', 'AccessExclusiveLock') order by 1, 2;
rollback;

-- one that is captured for another set already is locked, too: its writers are
-- either before the table is in the set or behind it
begin;
select courier.replication_set_add_table('inserts', 'by_index');
select distinct l.relation::regclass, l.mode from pg_locks l join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid() and c.relnamespace = 'shop'::regnamespace and c.relkind = 'r'
  and l.mode in ('ShareRowExclusiveLock', 'AccessExclusiveLock') order by 1, 2;
rollback;

-- partitioned tables go by their root, and partitions made later are captured
create table part (id int primary key, v text) partition by range (id);
create table part_1 partition of part for values from (0) to (100);
select courier.replication_set_add_table('default', 'part');
create table part_2 partition of part for values from (100) to (200);
select * from capture where relation::text like '%part%' order by 1, 2;
select courier.replication_set_add_table('default', 'part_1');
alter table part detach partition part_2;
select courier.replication_set_add_table('default', 'part_2');
select courier.replication_set_remove_table('default', 'part');
select courier.replication_set_add_table('default', 'part_1');
select courier.replication_set_add_table('default', 'part');
select courier.replication_set_remove_table('default', 'part_1');

-- all tables of a schema
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.replication_set_add_all_tables('default', '{}');
select courier.replication_set_add_all_tables('default', '{shop,nosuch}');
select courier.replication_set_add_all_tables('default', '{pg_catalog}');
select courier.replication_set_add_all_tables('nosuch', '{shop}');
drop table log;
alter table silent replica identity default;
set client_min_messages = notice;
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.replication_set_add_all_tables('default', '{shop}');
set client_min_messages = warning;
select set_name, relation, columns from courier.replication_set_table order by 1, relation::text collate "C";

-- dropped tables leave their sets
drop table by_index, part;
drop table part_2;
select set_name, relation from courier.replication_set_table order by 1, relation::text collate "C";

-- needs fresh snapshots
begin isolation level repeatable read;
select courier.replication_set_add_table('default', 'item');
rollback;

-- DROP EXTENSION takes the triggers along and the servers of nodes, which hold
-- passwords, and touches nothing else (the warning bears a random key: see ddl)
create table part (id int primary key, v text) partition by range (id);
create table part_1 partition of part for values from (0) to (100);
select courier.replication_set_add_table('default', 'part');
select * from capture order by 1, 2;
set client_min_messages = error;
drop extension pg_courier;
select srvname from pg_foreign_server where srvname like 'courier\_%';
select * from capture order by 1, 2;
insert into part values (1, 'still works');
drop schema shop cascade;
