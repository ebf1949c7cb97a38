-- What can be in a replication set and what cannot, with a reason and a hint;
-- tables that are moved, rewritten, made unlogged; triggers that are switched off.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_table_kinds;
create extension postgres_fdw;
create server elsewhere foreign data wrapper postgres_fdw;
create schema shop;
create table shop.item (id int primary key, v text);
create table shop.other (id int primary key, v text);
create unlogged table shop.volatile (id int primary key, v text);
create type shop.row_type as (id int, v text);
create table shop.typed of shop.row_type (primary key (id));
create table shop.no_columns ();
create table shop.only_generated (id int generated always as (1) stored);
create view shop.a_view as table shop.item;
create materialized view shop.a_matview as table shop.item;
create sequence shop.a_sequence;
create index an_index on shop.item (v);
create foreign table shop.a_foreign_table (id int) server elsewhere;
\c postgres
create database regress_courier_table_kinds template :"source";
\c :source
\set target regress_courier_table_kinds
\i ../test/regress/include/target.sql
create temp table a_temp_table (id int primary key);
create function pg_temp.error_of(command text) returns text language plpgsql as $$
declare
    hint text;
begin
    execute command;
    return 'none';
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return concat_ws(' ', sqlstate, sqlerrm || ';', hint);
end
$$;

-- refused
select r.name, pg_temp.error_of(format('select courier.replication_set_add_table(''default'', %L)', r.name))
from unnest('{shop.a_view,shop.a_matview,shop.a_sequence,shop.an_index,shop.a_foreign_table,shop.row_type,shop.nothing,a_temp_table,
    pg_class,pg_catalog.pg_authid,information_schema.sql_features,courier.node,courier.queue_0,shop.no_columns,shop.only_generated,""}'::text[]) r (name);
select pg_temp.error_of(format('select courier.replication_set_add_table(''default'', %s::regclass)', (select reltoastrelid from pg_class where oid = 'pg_proc'::regclass)))
    like '42809 pg_toast.pg_toast_% cannot be replicated: it is %table%' as toast_refused;
select s.name, pg_temp.error_of(format('select courier.replication_set_add_all_tables(''default'', array[%L])', s.name))
from unnest('{courier,pg_catalog,pg_temp,information_schema,pg_toast}'::text[]) s (name);
-- the target's own bookkeeping
create schema courier_target;
create table courier_target.mine (id int primary key);
select pg_temp.error_of($$select courier.replication_set_add_table('default', 'courier_target.mine')$$);
drop schema courier_target cascade;
-- taken
set client_min_messages = notice;
select courier.replication_set_add_table('default', 'shop.volatile');
set client_min_messages = warning;
select courier.replication_set_add_table('default', 'shop.' || t) from unnest('{item,other,typed}'::text[]) t;
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
\i ../test/regress/include/compare.sql
\i ../test/regress/include/ship.sql
insert into shop.volatile values (1, 'captured'), (2, 'captured');
insert into shop.typed values (1, 'of a type');
update shop.volatile set v = 'changed' where id = 1;
select * from ship();
alter table shop.volatile set logged;
insert into shop.volatile values (3, 'logged');
alter table shop.other set unlogged;
insert into shop.other values (1, 'unlogged');
select * from ship();

-- moved, rewritten, reindexed: no change
insert into shop.item select i, repeat('v', i) from generate_series(1, 50) i;
delete from shop.item where id % 3 = 0;
cluster shop.item using item_pkey;
insert into shop.item values (100, 'after CLUSTER');
vacuum full shop.item;
update shop.item set v = 'after VACUUM FULL' where id = 1;
reindex table shop.item;
update shop.item set v = 'after REINDEX' where id = 2;
alter table shop.item set tablespace pg_default, set (fillfactor = 50);
alter index shop.item_pkey set (fillfactor = 70);
alter table shop.item alter v set storage external, alter v set statistics 500;
alter table shop.item replica identity full, replica identity default;
analyze shop.item;
delete from shop.item where id = 4;
select * from ship();
set allow_in_place_tablespaces = on;
create tablespace regress_courier_space location '';
alter table shop.item set tablespace regress_courier_space;
insert into shop.item values (101, 'elsewhere');
alter table shop.item set tablespace pg_default;
drop tablespace regress_courier_space;
select * from ship();
-- the key's index is replaced
create unique index concurrently item_id on shop.item (id);
alter table shop.item drop constraint item_pkey, add constraint item_pkey primary key using index item_id;
update shop.item set v = 'a new index' where id = 5;
select * from ship();

-- a replica's session is not captured, unless the trigger says so
set session_replication_role = replica;
insert into shop.item values (200, 'of a replica');
truncate shop.other;
reset session_replication_role;
select courier.ship('s');
delete from shop.item where id = 200;
alter table shop.item enable always trigger "!pg_courier_row", enable always trigger "!pg_courier_truncate";
select courier.replication_set_add_table('default', 'shop.item');
set session_replication_role = replica;
insert into shop.item values (201, 'of a replica');
reset session_replication_role;
select courier.ship('s');
select d.* from dblink('target', 'select id, v from shop.item where id > 199') d (id int, v text);
-- switched off: a doctor's matter; replication_set_add_table does not undo it
insert into shop.other values (1, 'unlogged');
alter table shop.other disable trigger all;
insert into shop.other values (2, 'not captured');
alter table shop.other enable trigger all;
insert into shop.other values (3, 'captured');
select courier.ship('s');
select d.* from dblink('target', 'select id, v from shop.other order by 1') d (id int, v text);
-- ... and mended by hand
select courier.enqueue_upsert('shop.other', o) from shop.other o;
select * from ship();

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop extension postgres_fdw cascade;
drop database regress_courier_table_kinds;
