-- A table that several sets of a subscription have is copied once: leaving one of them
-- is no reason to copy it anew.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_copy_sets;
create schema shop;
create table shop.item (id int primary key, v text);
create table shop.other (id int primary key, v text);
\c postgres
create database regress_courier_copy_sets template :"source";
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_copy_sets user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target');
select dblink_connect('target', :'target');
create function public.ship(out shipped text, out hint text) language plpgsql as $$
begin
    shipped := courier.ship('s');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    shipped := sqlstate || ' ' || sqlerrm;
end
$$;
insert into shop.item values (1, 'one'), (2, 'two');
insert into shop.other values (1, 'one');
select courier.create_replication_set(s) from unnest('{first,second,third}'::text[]) s;
select courier.replication_set_add_table(s, 'shop.item') from unnest('{first,second}'::text[]) s;
select courier.replication_set_add_table('third', 'shop.other');
select courier.create_subscription('s', 'eu', '{first,second,third}') is not null as created;
-- one that has the second set only
select courier.create_subscription('s2', 'eu', '{second}', copy_data => false) is not null as created;
create table public.added as select subscription_name, added::text from courier.subscription_table where table_name = 'item';
create view public.kept as
select t.subscription_name, t.added::text = a.added as kept
from courier.subscription_table t join public.added a using (subscription_name) where table_name = 'item' order by 1;
select * from ship();

-- out of the first: not copied anew, which option on_existing would not let pass
select courier.replication_set_remove_table('first', 'shop.item');
insert into shop.item values (3, 'three');
select * from ship();
select * from kept;
select courier.wait_for_subscription('s', '0');
-- into the first again, and out of the second
select courier.replication_set_add_table('first', 'shop.item');
select courier.replication_set_remove_table('second', 'shop.item');
update shop.item set v = 'changed' where id = 1;
select * from ship();
select * from kept;
-- round again, by way of both
select courier.replication_set_add_table('second', 'shop.item');
select courier.replication_set_remove_table('first', 'shop.item');
delete from shop.item where id = 2;
select * from ship();
select * from kept;
select * from dblink('target', 'select id, v from shop.item order by 1') as d (id int, v text);
select table_name, state from courier.copy_status where subscription_name = 's' order by 1;

-- what was asked for the table holds on
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
select courier.cancel_copy('s', 'shop.item');
select courier.replication_set_add_table('third', 'shop.item');
select courier.replication_set_remove_table('second', 'shop.item');
select on_existing, cancelled from courier.subscription_table_copy where relation = 'shop.item'::regclass;
insert into shop.item values (4, 'not sent');
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
select * from ship();

-- out of the last: if it comes back it is copied anew
select courier.replication_set_remove_table('third', 'shop.item');
select count(*) from courier.subscription_since;
select courier.replication_set_add_table('second', 'shop.item');
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.item');
select * from ship();
-- a table that is dropped is known by when it came, too
select courier.replication_set_add_table('first', 'shop.other');
select courier.replication_set_remove_table('third', 'shop.other');
select added::text as added from courier.subscription_table where table_name = 'other' \gset
insert into shop.other values (2, 'two');
drop table shop.other;
select added::text = :'added' as kept from courier.dropped_table;
select * from ship();
select * from dblink('target', 'select id from shop.other order by 1') as d (id int);
select count(*) from courier.subscription_since;

select courier.drop_subscription('s2');
select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop view public.kept;
drop table public.added;
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_copy_sets;
