-- What stops a subscription: each error names node, table, key, SQLSTATE and
-- what to do; nothing is skipped, and after the repair it goes on in order.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_errors;
create database regress_courier_errors;
create schema shop;
create table shop.a (id int primary key, v text, n int);
create table shop.b (id int primary key, a_id int, code text);
create table shop."Odd 'one'" (id int, "k 2" text, v numeric(6,2), primary key (id, "k 2"));
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_errors');
select courier.replication_set_add_all_tables('default', '{shop}');
create function public.on_target(command text) returns text language sql as $$ select dblink_exec('courier_eu', command) $$;
create function public.target(command text) returns setof text language sql as $$ select r from dblink('courier_eu', command) d (r text) $$;

-- an error as a client sees it; numbers of transactions vary
create function public.ship_error(name text) returns table (code text, message text, detail text, hint text)
language plpgsql as $$
begin
    message := 'shipped ' || courier.ship(name);
    return next;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint, detail = pg_exception_detail;
    message := regexp_replace(message, 'transaction \d+', 'transaction N');
    hint := regexp_replace(hint, '''\d+''\)', '''N'')');
    return next;
end
$$;
\x on

-- unknown, disabled
select code, message, hint from ship_error('nosuch');
select courier.create_subscription('s', 'eu', enabled => false) is not null as created;
select code, message, hint from ship_error('s');
select courier.ship() as "nothing is enabled";
select courier.alter_subscription_enable('s');

-- table missing on the target: when it is copied, when it is shipped
insert into shop.a values (1, 'one', 1);
select code, message, hint from ship_error('s');
select on_target('create schema shop');
select on_target('create table shop.a (id int primary key, v varchar(5), n smallint check (n <> 13))');
select on_target('create table shop.b (id int primary key, a_id int, code text unique)');
select code, message, hint from ship_error('s');
select on_target('create table shop."Odd ''one''" (id int, "k 2" text, v numeric(6,2), primary key (id, "k 2"))');
select code, message, hint from ship_error('s');
select on_target('drop table shop.b');
insert into shop.a values (2, 'two', 2);
insert into shop.b values (1, 1, 'x');
insert into shop.a values (3, 'three', 3);
select code, message, hint from ship_error('s');
select on_target('create table shop.b (id int primary key, a_id int references shop.a, code text unique)');
select code, message, hint from ship_error('s');
select target('select format(''%s'', a) from shop.a union all select format(''%s'', b) from shop.b order by 1');

-- column missing
alter table shop.b add "new ""column""" numeric(10,2)[];
insert into shop.b values (2, 1, 'y', '{1.5}');
select code, message, hint from ship_error('s');
select on_target('alter table shop.b add "new ""column""" numeric(10,2)[]');
select code, message, hint from ship_error('s');
-- generated there
alter table shop.b add g int;
select on_target('alter table shop.b add g int generated always as (id * 2) stored');
update shop.b set g = 5 where id = 2;
select code, message, hint from ship_error('s');
select on_target('alter table shop.b alter g drop expression');
select code, message, hint from ship_error('s');

-- a type that can't take the value; a value out of range. Those before it arrive, those behind it wait
insert into shop.a values (4, 'four', 4);
insert into shop.a values (5, 'five is too long', 5);
insert into shop.a values (6, 'six', 6);
select code, message, hint from ship_error('s');
select code, message, hint from ship_error('s');
select target('select format(''%s'', a) from shop.a where id > 3');
select on_target('alter table shop.a alter v type text');
select code, message, hint from ship_error('s');
update shop.a set n = 70000 where id = 6;
insert into shop.a values (7, 'seven', 7);
select code, message, hint from ship_error('s');
select on_target('alter table shop.a alter n type int');
select code, message, hint from ship_error('s');
select on_target('alter table shop.a alter v type int using id');
insert into shop.a values (8, 'no number', 8);
select code, message, hint from ship_error('s');
select on_target('alter table shop.a alter v type varchar(4)');
select code, message, hint from ship_error('s');
select on_target('alter table shop.a alter v type text');
select code, message, hint from ship_error('s');

-- constraints: check, not null, unique
begin;
insert into shop.a values (9, 'nine', 9);
insert into shop.a values (13, 'thirteen', 13);
commit;
insert into shop.a values (14, 'fourteen', 14);
select code, message, hint from ship_error('s');
select subscription_name, state, pending_changes from courier.subscription_status;
select target('select format(''%s'', a) from shop.a where id > 8');
select on_target('alter table shop.a drop constraint a_n_check');
select code, message, hint from ship_error('s');
select on_target('alter table shop.a alter n set not null');
update shop.a set n = null where id = 14;
select code, message, hint from ship_error('s');
update shop.a set n = 15 where id = 14;
select on_target('alter table shop.a alter n drop not null');
select code, message, hint from ship_error('s');
select on_target('insert into shop.b values (100, null, ''taken'')');
insert into shop.b values (3, 1, 'free');
insert into shop.b values (4, 1, 'taken');
update shop.b set code = 'changed' where id = 3;
select code, message, hint from ship_error('s');
select target('select format(''%s|%s'', id, code) from shop.b where id > 2 order by 1');
select on_target('delete from shop.b where id = 100');
select code, message, hint from ship_error('s');
insert into shop."Odd 'one'" values (1, 'a, ''b''', 1), (2, 'c', 2);
select on_target('alter table shop."Odd ''one''" add check (v < 100)');
update shop."Odd 'one'" set v = 100 where id = 1;
select code, message, hint from ship_error('s');
delete from shop."Odd 'one'" where id = 1;
select code, message, hint from ship_error('s');
select on_target('alter table shop."Odd ''one''" drop constraint "Odd ''one''_v_check"');
select code, message, hint from ship_error('s');
select target('select format(''%s'', o) from shop."Odd ''one''" o');
select state, last_error, pending_changes from courier.subscription_status;

-- another session ships it
select format('select pg_advisory_%%slock(%s, %s)', 'courier.subscription'::regclass::oid::int8::bit(32)::int4, subscription_id) as lock
from courier.subscription \gset
select dblink_connect('other', :'server' || ' dbname=' || quote_literal(:'source'));
select r from dblink('other', format(:'lock', '')) d (r text);
insert into shop.a values (20, 'waits', 1);
select code, message, hint from ship_error('s');
select r from dblink('other', format(:'lock', 'un')) d (r text);
select dblink_disconnect('other');
select code, message, hint from ship_error('s');

-- a copy into a table that holds rows already
select courier.drop_subscription('s');
select courier.create_subscription('s', 'eu') is not null as created;
select code, message, hint from ship_error('s');
select target('select count(*) from shop.a');
select on_target('truncate shop.a, shop.b, shop."Odd ''one''"');
select code, message, hint from ship_error('s');
select (select count(*) from shop.a) = (select target('select count(*) from shop.a'))::int as equal;

-- the target says that another source ships under this name: a clone of this database
select on_target('update courier_target.progress set source_system = ''1/1''');
select regexp_replace(message, '\d+/\d+', 'N/N', 'g') as message, code, hint from ship_error('s');
select courier.drop_subscription('s');

-- a node that does not answer; a role or password that is wrong
select courier.create_node('dead', 'host=/nonexistent password=sesame');
select courier.create_subscription('d', 'dead', copy_data => false) is not null as created;
select code, message, detail ~ 'sesame' as tells_secret, hint from ship_error('d');
select courier.create_node('wrong', :'server' || ' user=regress_courier_nobody password=sesame dbname=regress_courier_errors');
select courier.create_subscription('w', 'wrong', copy_data => false) is not null as created;
select code, message, detail ~ 'sesame' as tells_secret, hint from ship_error('w');
-- a role that may not create the schema on the target
create role regress_courier_poor login;
select courier.create_node('poor', :'server' || ' user=regress_courier_poor password=sesame dbname=regress_courier_errors');
select courier.create_subscription('p', 'poor', copy_data => false) is not null as created;
select code, message, hint from ship_error('p');

-- who may ship
create role regress_courier_shipper;
set role regress_courier_shipper;
select code, message, hint ~ 'superuser' as says_who from ship_error('d');
select code, message, hint ~ 'superuser' as says_who from ship_error(null);
reset role;

\x off
set client_min_messages = error;
select courier.drop_subscription(n) from unnest('{d,w,p}'::text[]) n;
set client_min_messages = warning;
select courier.drop_node(n) from unnest('{dead,wrong,poor,eu}'::text[]) n;
drop extension pg_courier;
drop schema shop cascade;
drop function public.on_target, public.target, public.ship_error;
drop database regress_courier_errors;
drop role regress_courier_shipper, regress_courier_poor;
