-- Tables that inherit from each other: each is replicated by itself, and what
-- is done to a parent there leaves its children alone.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_inheritance;
create schema shop;
create table shop.place (id int primary key, v text);
create table shop.city (mayor text, primary key (id)) inherits (shop.place);
create table shop.capital (of text, primary key (id)) inherits (shop.city);
create table shop.bag (a int, v text);
create table shop.bag_child (more text) inherits (shop.bag);
alter table shop.bag replica identity full;
alter table shop.bag_child replica identity full;
-- a child that stays at home
create table shop.city_home (primary key (id)) inherits (shop.city);
\c postgres
create database regress_courier_inheritance template :"source";
\c :source
\set target regress_courier_inheritance
\i ../test/regress/include/target.sql
select courier.replication_set_add_table('default', format('shop.%I', t))
from unnest('{place,city,capital,bag,bag_child}'::text[]) t;
\i ../test/regress/include/compare.sql
create function public.ship(out shipped bigint, out row_count bigint, out differ text) language plpgsql as $$
begin
    shipped := courier.ship('s');
    select c.row_count, c.differ into row_count, differ from pg_temp.compare_sides('select x::text from only %s x') c;
end
$$;

-- the copy of a parent has the parent's own rows; the target's children may have others
insert into shop.place select i, 'place ' || i from generate_series(1, 3) i;
insert into shop.city select i, 'city ' || i, 'm' from generate_series(1, 3) i;
insert into shop.capital select i, 'capital ' || i, 'm', 'c' from generate_series(1, 3) i;
insert into shop.bag values (1, 'same'), (1, 'same');
insert into shop.bag_child values (1, 'same'), (1, 'same');
select dblink_exec('target', $$insert into shop.city_home values (1, 'there only', 'm'), (2, 'there only', 'm')$$);
select courier.create_subscription('s', 'eu') is not null as created;
select * from ship();

-- the same key in parents and children; ONLY and not
update only shop.place set v = 'only the place' where id = 1;
select * from ship();
update shop.place set v = v || '!' where id < 3;
select * from ship();
delete from only shop.city where id = 2;
delete from shop.place where id = 3;
select * from ship();
update shop.city set id = id + 100, mayor = 'moved';
insert into shop.city values (1, 'new', 'm'), (7, 'new', 'm');
insert into shop.place values (1, 'here already') on conflict (id) do update set v = 'conflict';
select * from ship();
delete from only shop.bag where ctid = (select min(ctid) from only shop.bag);
update shop.bag set v = 'changed' where ctid = (select max(ctid) from only shop.bag) and tableoid = 'shop.bag'::regclass;
delete from shop.bag_child where ctid = (select min(ctid) from shop.bag_child);
select * from ship();
-- rows there that nobody has named are as they were
select d.* from dblink('target', 'select id, v from shop.city_home order by 1') d (id int, v text);
-- TRUNCATE of a parent takes the children along here, and ONLY does not
truncate only shop.city;
insert into shop.city values (5, 'after', 'm');
select * from ship();
select d.* from dblink('target', 'select count(*) from shop.city_home') d (n int);
truncate shop.place;
insert into shop.capital values (9, 'after', 'm', 'c');
select * from ship();
-- a child comes into being, is added, leaves the family
create table shop.village (primary key (id)) inherits (shop.place);
select dblink_exec('target', 'create table shop.village (primary key (id)) inherits (shop.place)');
insert into shop.village values (1, 'not sent yet');
insert into shop.place values (1, 'place');
update shop.place set v = v || ' changed';
select * from ship();
select courier.replication_set_add_table('default', 'shop.village');
insert into shop.village values (2, 'sent');
select * from ship();
alter table shop.village no inherit shop.place;
update shop.place set v = 'place only';
update shop.village set v = 'by itself';
select * from ship();
select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_inheritance;
