-- Foreign keys of the target: where the role may not switch them off, the order
-- of the statements satisfies them; where it may, they do not act.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_target_fk;
drop role if exists regress_courier_apply;
create role regress_courier_apply in role pg_read_all_stats; -- of the session that has become this role
create schema shop;
grant usage on schema shop to regress_courier_apply;
-- a chain, by name in the wrong order
create table shop.z_parent (id int primary key, v text);
create table shop.m_child (id int primary key, parent int not null references shop.z_parent, v text);
create table shop.a_grandchild (id int primary key, child int references shop.m_child, parent int references shop.z_parent);
-- to itself
create table shop.tree (id int primary key, up int references shop.tree, v text);
-- in a circle: nullable; deferred; deferrable
create table shop.man (id int primary key, wife int);
create table shop.wife (id int primary key, husband int references shop.man);
alter table shop.man add foreign key (wife) references shop.wife;
create table shop.egg (id int primary key, hen int not null);
create table shop.hen (id int primary key, egg int not null references shop.egg deferrable initially deferred);
alter table shop.egg add foreign key (hen) references shop.hen deferrable initially deferred;
create table shop.lock (id int primary key, opened_by int not null);
create table shop.key (id int primary key, kept_in int not null references shop.lock deferrable);
alter table shop.lock add foreign key (opened_by) references shop.key deferrable;
-- with actions
create table shop.customer (id int primary key, v text);
create table shop.invoice (customer int references shop.customer on update cascade on delete cascade, n int, v text, primary key (customer, n));
create table shop.line (id int primary key, customer int, n int, v text,
    foreign key (customer, n) references shop.invoice on update cascade on delete set null);
create table shop.note (id int primary key, customer int default 0 references shop.customer on update cascade on delete set default);
-- unique values that are checked late
create table shop.seat (id int primary key, place int unique deferrable, v text, w text);
alter table shop.egg owner to regress_courier_apply; -- which alters it there
alter table shop.hen owner to regress_courier_apply;
grant all on all tables in schema shop to regress_courier_apply;
\c postgres
create database regress_courier_target_fk template :"source";
grant create on database regress_courier_target_fk to regress_courier_apply;
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_target_fk user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target' || ' options=-crole=regress_courier_apply');
select dblink_connect('target', :'target');
select courier.replication_set_add_all_tables('default', '{shop}');

-- ships, and compares; says how often batches had to be sent row by row
\i ../test/regress/include/compare.sql
create function public.ship(out shipped text, out hint text, out row_count bigint, out differ text) language plpgsql as $$
begin
    begin
        shipped := courier.ship('s');
    exception when others then
        get stacked diagnostics hint = pg_exception_hint;
        shipped := sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID');
        hint := regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)');
    end;
    select c.row_count, c.differ into row_count, differ from pg_temp.compare_sides() c;
end
$$;

-- the copy
insert into shop.z_parent select i, 'p' from generate_series(1, 5) i;
insert into shop.m_child select i, i, 'c' from generate_series(1, 5) i;
insert into shop.a_grandchild select i, i, 6 - i from generate_series(1, 5) i;
insert into shop.tree values (1, null), (5, 1), (2, 5);
begin;
insert into shop.egg values (1, 1);
insert into shop.hen values (1, 1);
commit;
select courier.create_subscription('s', 'eu', options => '{"ddl_role": "link"}') is not null as created;
select * from ship();
-- a chain: made, gone, adopted, in one batch
insert into shop.z_parent values (10, 'new');
insert into shop.m_child values (10, 10, 'new');
insert into shop.a_grandchild values (10, 10, 10);
delete from shop.a_grandchild where child = 1 or parent = 1;
delete from shop.m_child where id = 1;
delete from shop.z_parent where id = 1;
update shop.m_child set parent = 10 where parent = 2;
update shop.a_grandchild set parent = 10 where parent = 2;
delete from shop.z_parent where id = 2;
select * from ship();
begin;
insert into shop.z_parent values (20, 'soon gone');
insert into shop.m_child values (20, 20, 'soon gone');
delete from shop.m_child where id = 20;
delete from shop.z_parent where id = 20;
insert into shop.z_parent values (20, 'again');
update shop.a_grandchild set parent = 20 where parent = 10;
commit;
select * from ship();
-- to itself: children before parents in the order of keys, both ways
begin;
insert into shop.tree values (100, null), (50, 100), (75, 50), (60, 75);
update shop.tree set up = 60 where id = 2;
delete from shop.tree where id = 5;
commit;
select * from ship();
delete from shop.tree where id in (100, 50, 75, 60, 2);
select * from ship();
-- to each other, by one statement; then others to them
insert into shop.tree values (200, 201), (201, 200);
update shop.tree set up = 200 where id = 1;
select * from ship();
-- one that others refer to is written anew by one statement
with gone as (delete from shop.tree where id = 200 returning *) insert into shop.tree select id, up, 'again' from gone;
insert into shop.tree values (202, 203), (203, 202);
update shop.tree set up = 202 where id = 201;
select * from ship();
begin;
insert into shop.tree values (300, 301), (301, 300);
update shop.tree set up = 300 where id = 1;
update shop.tree set v = 'moved' where id = 200;
delete from shop.tree where id in (200, 201);
commit;
select * from ship();
-- circles
begin;
insert into shop.man values (1, null), (2, null);
insert into shop.wife values (1, 1), (2, 2);
update shop.man set wife = id;
commit;
select * from ship();
begin;
update shop.man set wife = null where id = 1;
delete from shop.wife where id = 1;
delete from shop.man where id = 1;
commit;
begin;
insert into shop.egg select i, i from generate_series(2, 4) i;
insert into shop.hen select i, i from generate_series(2, 4) i;
delete from shop.egg where id = 1;
delete from shop.hen where id = 1;
commit;
select * from ship();
-- in one batch with rows whose foreign keys are checked by its commit: a table is
-- truncated, altered
begin;
insert into shop.egg values (7, 7);
insert into shop.hen values (7, 7);
commit;
truncate shop.egg, shop.hen;
begin;
insert into shop.egg values (8, 8);
insert into shop.hen values (8, 8);
commit;
select * from ship();
begin;
insert into shop.egg values (9, 9);
insert into shop.hen values (9, 9);
commit;
select courier.replicate_ddl('alter table shop.hen alter egg drop not null') is not null as queued;
insert into shop.hen values (10, null);
select * from ship();
begin;
set constraints all deferred;
insert into shop.lock values (1, 1), (2, 2);
insert into shop.key values (1, 2), (2, 1);
commit;
select * from ship();
begin;
set constraints all deferred;
delete from shop.lock where id = 1;
update shop.lock set opened_by = 3;
insert into shop.key values (3, 3);
insert into shop.lock values (3, 3);
delete from shop.key where id < 3;
commit;
select * from ship();
-- what the actions do here arrives, and what they do there does no harm
insert into shop.customer values (0, 'nobody'), (1, 'a'), (2, 'b'), (3, 'c');
insert into shop.invoice select c, n, 'v' from generate_series(1, 3) c, generate_series(1, 2) n;
insert into shop.line select i, 1 + i % 3, 1 + i % 2, 'l' from generate_series(1, 12) i;
insert into shop.note values (1, 1), (2, 2), (3, 3);
select * from ship();
update shop.customer set id = 11 where id = 1;
select * from ship();
delete from shop.invoice where customer = 2 and n = 1;
select * from ship();
delete from shop.note where customer = 2;
delete from shop.customer where id = 2;
update shop.customer set id = id + 100 where id > 2;
delete from shop.customer where id = 111;
select * from ship();
begin;
insert into shop.customer values (5, 'short lived');
insert into shop.invoice values (5, 1, 'short lived'), (5, 2, 'moves on');
update shop.customer set id = 6 where id = 5;
delete from shop.invoice where customer = 6 and n = 1;
update shop.invoice set v = 'there' where customer = 6;
commit;
select * from ship();
-- unique values that are checked late, rows that set other columns
insert into shop.seat select i, i, 'v', 'w' from generate_series(1, 6) i;
select * from ship();
begin;
set constraints all deferred;
update shop.seat set place = 2, v = 'moved' where id = 1;
update shop.seat set place = 3, w = 'moved' where id = 2;
update shop.seat set place = 1 where id = 3;
commit;
select * from ship();
-- a row that the target lacks: the error names table and key, and what to do
select dblink_exec('target', 'delete from shop.m_child where id = 3; delete from shop.lock where id = 2') from dblink_exec('target', 'delete from shop.a_grandchild where child = 3 or parent = 3');
insert into shop.a_grandchild values (30, 3, 3);
select * from ship();
select dblink_exec('target', $$insert into shop.m_child values (3, 3, 'c')$$);
begin;
insert into shop.key values (4, 2);
insert into shop.lock values (4, 4);
commit;
select * from ship();
select dblink_exec('target', 'insert into shop.lock values (2, 3)');
select * from ship();

-- a role that may switch them off: any order, and rows without parents
alter role regress_courier_apply superuser;
select dblink_exec('target', 'update shop.man set wife = null; delete from shop.wife; delete from shop.man');
insert into shop.wife values (8, 2);
delete from shop.invoice where customer = 3;
update shop.customer set v = 'x';
begin;
set constraints all deferred;
insert into shop.lock values (5, 5);
insert into shop.key values (5, 5);
commit;
select shipped, hint from ship();
select d.* from dblink('target', 'select count(*), count(m.id) from shop.wife w left join shop.man m on m.id = w.husband') d (wives int, husbands int);

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_target_fk;
drop role regress_courier_apply;
