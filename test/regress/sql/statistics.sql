-- Statistics: what is counted for a subscription and its tables, and the reset.
-- Here everything is shipped by courier.ship().
\set SHOW_CONTEXT never
set client_min_messages = warning;
drop database if exists regress_courier_statistics;
create database regress_courier_statistics;
create schema shop;
create table shop.item (id int primary key, name text, price int);
create table shop.part (id int primary key, place int) partition by range (id);
create table shop.part_low partition of shop.part for values from (0) to (100);
create table shop.other (id int primary key);
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_statistics');
create function public.on_target(command text) returns text language sql as $$ select dblink_exec('courier_eu', command) $$;
create function public.target(command text) returns setof text language sql as $$ select r from dblink('courier_eu', command) d (r text) $$;
select on_target('create schema shop');
select on_target('create table shop.item (id int primary key, name text unique, price int)');
select on_target('create table shop.part (id int primary key, place int) partition by range (id)');
select on_target('create table shop.part_all partition of shop.part default');
select on_target('create table shop.other (id int primary key)');
create view public.counted as
select table_name as "table", captured_inserts as ci, captured_updates as cu, captured_deletes as cd, captured_truncates as ct,
       filtered, inserted as i, updated as u, deleted as d, truncated as t, copied, folded, bytes > 0 as sent
from courier.stat_table where subscription_name = 's' order by 1;
create view public.conflicts as
select table_name as "table", confl_insert_exists as ie, confl_update_exists as ue, confl_update_missing as um, confl_delete_missing as dm
from courier.stat_table where subscription_name = 's' order by 1;

-- nothing yet; then a copy
select courier.replication_set_add_table('default', 'shop.item', row_filter => 'price < 100');
select courier.replication_set_add_table('default', 'shop.part');
insert into shop.item values (1, 'one', 1), (2, 'two', 2), (3, 'dear', 300);
insert into shop.part values (1, 1);
select courier.create_subscription('s', 'eu') is not null as created;
\x
select subscription_name, captured_inserts, filtered, shipped, inserted, copied, batches, bytes, read_time, render_time, apply_time, stats_reset, updated_at
from courier.stat_subscription;
\x
select * from counted;
select courier.ship('s');
select * from counted;

-- a batch, folded: five inserts, five updates and a delete need four rows
begin;
insert into shop.item select n, 'item ' || n, n from generate_series(11, 15) n;
update shop.item set price = price + 1 where id > 10;
delete from shop.item where id = 15;
update shop.part set place = 2;
select courier.enqueue('c', 'p');
commit;
select courier.ship('s');
select * from counted;

-- what is not sent: the row filter, tables of others, operations of the set
insert into shop.item values (20, 'dear', 200);
update shop.item set price = 100 where id = 14;
insert into shop.other values (1);
select courier.ship('s');
select * from counted;
truncate shop.part;
select courier.ship('s');
select * from counted;
\x
select captured_inserts, captured_updates, captured_deletes, captured_truncates, filtered, shipped, inserted, updated, deleted, truncated, events,
       copied, folded, batches, bytes > 0 as bytes, read_time > 0 as read, render_time > 0 as render, apply_time > 0 as apply,
       stats_reset < updated_at as reset, updated_at < clock_timestamp() as updated
from courier.stat_subscription;
\x
select shipped from courier.subscription_status;

-- conflicts are counted where the row is, in a batch of rows without
select courier.reset_statistics('s');
select shipped, inserted, bytes, read_time, stats_reset > clock_timestamp() - interval '1 minute' as fresh from courier.stat_subscription;
select * from counted;
select on_target($$insert into shop.item values (30, 'mine', 1), (31, 'mine too', 1)$$);
select on_target($$insert into shop.part values (30, 1)$$);
select on_target($$delete from shop.item where id = 1$$);
begin;
insert into shop.item select n, 'item ' || n, n from generate_series(30, 34) n;
insert into shop.part select n, n from generate_series(30, 31) n;
update shop.item set price = 50 where id in (1, 2);
commit;
select courier.ship('s');
select * from conflicts;
select target('select id || '' '' || name from shop.item order by id');
-- in a batch as a whole
select on_target($$delete from shop.item where id in (33, 34)$$);
delete from shop.item where id in (32, 33, 34);
select courier.ship('s');
select * from conflicts;
-- the node keeps its own
select courier.alter_subscription_options('s', '{"on_conflict": "keep_local"}');
select on_target($$delete from shop.item where id = 30; insert into shop.item values (40, 'mine', 1)$$);
begin;
insert into shop.item values (40, 'forty', 40), (41, 'forty-one', 41);
update shop.item set price = 51 where id in (30, 31);
commit;
select courier.ship('s');
select * from conflicts;
-- re-shipped rows are none, nor those a batch both re-ships and deletes
select courier.enqueue_upsert('shop.item', i) from shop.item i where id = 41;
begin;
insert into shop.item values (42, 'forty-two', 42);
select courier.enqueue_upsert('shop.item', i) from shop.item i where id = 42;
delete from shop.item where id = 42;
commit;
select courier.ship('s');
select * from conflicts;
select * from counted;

-- one that is refused counts once, and what a retry applies counts then
select courier.alter_subscription_options('s', '{"on_conflict": "error", "on_error": "dead_letter"}');
select courier.reset_statistics();
select on_target($$insert into shop.item values (50, 'theirs', 1)$$);
insert into shop.item values (50, 'fifty', 50);
select courier.ship('s');
select courier.ship('s');
update shop.item set name = 'mine too' where id = 41;
select on_target($$insert into shop.item values (60, 'mine too', 1)$$);
select courier.ship('s');
select courier.ship('s');
select on_target($$delete from shop.item where id = 12$$);
update shop.item set price = 0 where id = 12;
select courier.ship('s');
select courier.ship('s');
select on_target($$delete from shop.item where id = 13$$);
delete from shop.item where id = 13;
select courier.ship('s');
select courier.ship('s');
select count(*) from courier.dead_letter;
select * from conflicts;
select * from counted;
select batches from courier.stat_subscription;
select on_target($$delete from shop.item where id = 50$$);
select min(dead_letter_id) as first from courier.dead_letter \gset
select courier.retry_dead_letter(:first);
select courier.ship('s');
select state from courier.dead_letter where dead_letter_id = :first;
select * from conflicts;
select * from counted;
select batches from courier.stat_subscription;

-- a call that is rolled back has shipped, and has not counted
select courier.reset_statistics('s');
insert into shop.item values (70, 'seventy', 70);
begin;
select courier.ship('s');
rollback;
select target('select name from shop.item where id = 70');
select * from counted;
select courier.ship('s');
select * from counted;

-- the dead rows of thousands of writes, which a snapshot keeps from vacuum
create procedure pg_temp.write(n int) language plpgsql as $$
begin
    for i in 1..n loop
        update courier.subscription_statistics set shipped = shipped + 1;
        update courier.table_statistics set captured_inserts = captured_inserts + 1;
        if i % 20 = 0 then
            commit;
        end if;
    end loop;
end
$$;
insert into shop.item values (72, 'seventy-two', 72);
select courier.ship('s');
select dblink_connect('other', :'server' || ' dbname=' || current_database()) = 'OK' as connected;
select dblink_exec('other', 'begin isolation level repeatable read');
select * from dblink('other', 'select 1') d (n int);
call pg_temp.write(4000);
vacuum courier.subscription_statistics, courier.table_statistics;
select c, pg_relation_size(c) > 128 * 1024 as large from unnest('{courier.subscription_statistics,courier.table_statistics}'::regclass[]) c;
select md5(array_agg(u order by u)::text || array_agg(t order by t)::text) as before
from courier.subscription_statistics u, courier.table_statistics t \gset
select * from courier.housekeep();
select * from courier.housekeep();
select * from courier.housekeep();
select c, pg_relation_size(c) from unnest('{courier.subscription_statistics,courier.table_statistics}'::regclass[]) c;
select md5(array_agg(u order by u)::text || array_agg(t order by t)::text) = :'before' as same
from courier.subscription_statistics u, courier.table_statistics t;
select dblink_disconnect('other');
select captured_inserts, inserted, shipped from courier.stat_subscription;
select courier.reset_statistics('s');

-- each its own; what is dropped is not counted any more
select courier.create_replication_set('others');
select courier.replication_set_add_table('others', 'shop.other');
select courier.create_subscription('t', 'eu', '{others}', copy_data => false) is not null as created;
insert into shop.other values (2);
insert into shop.item values (71, 'seventy-one', 71);
select courier.ship() > 0 as shipped;
select subscription_name, table_name, inserted from courier.stat_table order by 1, 2;
select courier.reset_statistics('t');
select subscription_name, table_name, inserted from courier.stat_table order by 1, 2;
select subscription_name, inserted, shipped from courier.stat_subscription order by 1;
drop table shop.item;
select subscription_name, table_name, inserted from courier.stat_table order by 1, 2;
select subscription_name, inserted, shipped from courier.stat_subscription order by 1;
select courier.drop_subscription('s');
select count(*) from courier.subscription_statistics;
select count(*) from courier.table_statistics;

select courier.reset_statistics('nosuch');
\echo :LAST_ERROR_MESSAGE
select courier.reset_statistics('');

select courier.drop_subscription('t');
select courier.drop_node('eu');
drop view counted, conflicts;
drop schema shop cascade;
drop function on_target, target;
drop extension pg_courier cascade;
drop extension dblink;
drop database regress_courier_statistics;
