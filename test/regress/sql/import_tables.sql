-- courier.import_tables() and courier.refresh_foreign_tables(): a node's tables as
-- foreign tables, and what becomes of them when the node's change.
\set SHOW_CONTEXT never
set client_min_messages = warning;
drop database if exists regress_courier_import;
create database regress_courier_import;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_import user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as loopback \gset
select courier.create_node('eu', :'loopback' || ' password=sesame');
select dblink_connect('eu', :'loopback');
create function public.on_node(command text) returns void language plpgsql as $$
begin
    perform dblink_exec('eu', command);
end
$$;
create function public.error_of(command text) returns table (code text, message text, detail text, hint text) language plpgsql as $$
begin
    execute command;
    return query select 'none', null, null, null;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    return next;
end
$$;
select public.on_node($$
create schema shop;
create schema "Odd 'one'";
create type shop.mood as enum ('sad', 'ok');
create table shop.item (id int primary key, name varchar(20) not null, price numeric(10,2));
insert into shop.item select i, 'item ' || i, i from generate_series(1, 100) i;
create table shop.part (id int, at date) partition by range (at);
create table shop.part_1 partition of shop.part for values from (minvalue) to (maxvalue);
create view shop.cheap as select * from shop.item where price < 10;
create table "Odd 'one'"."Tab ""le" ("I d" int, "na""me" text);
insert into "Odd 'one'"."Tab ""le" values (1, 'x');
create table "Odd 'one'".typed (m shop.mood)$$);

-- what is refused, and changes nothing
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote')$$);
create schema remote;
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote')$$);
create extension postgres_fdw;
create server courier_fdw_eu foreign data wrapper dblink_fdw;
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote')$$);
drop server courier_fdw_eu;
select * from error_of($$select courier.import_tables('nosuch', 'shop', 'remote')$$);
select * from error_of($$select courier.import_tables('eu', 'nosuch', 'remote')$$);
select * from error_of($$select courier.import_tables('eu', null, 'remote')$$);
select * from error_of($$select courier.import_tables('eu', 'shop', 'courier')$$);
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote', '{item,nosuch}')$$);
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote', '{}')$$);
select * from error_of($$select courier.import_tables('eu', 'Odd ''one''', 'remote')$$);
create table remote.part ();
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote')$$);
drop table remote.part;
select * from error_of($$select courier.refresh_foreign_tables('eu')$$);
select * from error_of($$select courier.schedule_foreign_refresh('eu', '1 h')$$);
select count(*) from pg_foreign_table;
select srvname from pg_foreign_server;

-- some, then all; those that are there stay; a partition by its name only
select courier.import_tables('eu', 'shop', 'remote', '{item}');
create view public.names as select id, name from remote.item;
select courier.import_tables('eu', 'shop', 'remote');
select courier.import_tables('eu', 'shop', 'remote');
select courier.import_tables('eu', 'shop', 'remote', '{part_1}');
select courier.import_tables('eu', 'Odd ''one''', 'remote', array['Tab "le']);
select relation, remote_schema, remote_table from courier.foreign_table_status order by remote_table;
select count(*), sum(price) from remote.item;
select * from remote."Tab ""le";
insert into remote.item values (101, 'from here', 1);
-- the node's own options, and the password in the user mapping only
select srvname, array(select o from unnest(srvoptions) o where o !~ '^(host|port)=' order by o) as options from pg_foreign_server order by 1;
select srvname, umuser, array(select split_part(o, '=', 1) from unnest(umoptions) o order by o) as options from pg_user_mappings order by 1;

-- nothing has changed; analyzed
select * from courier.refresh_foreign_tables('eu');
select reltuples from pg_class where oid = 'remote.item'::regclass;

-- columns added, renamed, of another type, not null; tables added and gone: views stay
select public.on_node($$
drop view shop.cheap;
alter table shop.item add qty int not null default 3;
alter table shop.item rename price to cost;
alter table shop.item alter cost type numeric(12,4);
alter table shop.part alter id set not null;
create table shop.fresh ("A b" text);
create table "Odd 'one'".untouched (id int)$$);
select * from courier.refresh_foreign_tables('eu');
select * from remote.item where id = 1;
select attname, format_type(atttypid, atttypmod), attnotnull, attfdwoptions from pg_attribute where attrelid = 'remote.item'::regclass and attnum > 0 order by attnum;
select * from names where id = 1;
-- only what is still so is told again
select * from courier.refresh_foreign_tables('eu', analyze_tables => false);
-- a column that a view uses is dropped, or of another type
drop foreign table remote.cheap;
select public.on_node('alter table shop.item drop name');
select * from error_of($$select courier.refresh_foreign_tables('eu')$$);
-- so it is told when nobody is there to see it
select courier.schedule_foreign_refresh('eu', '1 h');
update courier.foreign_refresh set next_at = now();
select courier.refresh_next();
select distinct last_error, last_error_sqlstate, next_refresh_at > now() as later from courier.foreign_table_status;
select public.on_node('alter table shop.item add name varchar(20)');
select public.on_node('alter table shop.item alter id type bigint');
select * from error_of($$select courier.refresh_foreign_tables('eu')$$);
select count(*) from names;
drop view names;
select * from courier.refresh_foreign_tables('eu');
select * from remote.item where id = 1;
-- made anew on the node: columns are compared by name
select public.on_node($$drop table shop.fresh; create table shop.fresh (other int, "A b" text not null)$$);
select * from courier.refresh_foreign_tables('eu');
-- a type that is not known here
select public.on_node('alter table shop.fresh add m shop.mood');
select * from error_of($$select courier.refresh_foreign_tables('eu')$$);
select public.on_node('alter table shop.fresh drop m');
-- what a DBA has changed here stays; a table dropped here is imported again with the others
alter foreign table remote.item rename cost to price;
alter foreign table remote.item options (add updatable 'false');
drop foreign table remote.fresh;
select public.on_node('alter table shop.item rename cost to amount');
select * from courier.refresh_foreign_tables('eu');
select price from remote.item where id = 1;

-- the node moves: so does the server of its tables
alter server courier_eu options (set connect_timeout '9');
alter user mapping for public server courier_eu options (set password 'open sesame');
alter server courier_fdw_eu options (add fetch_size '500');
select * from courier.refresh_foreign_tables('eu');
select array(select o from unnest(srvoptions) o where o ~ '^(connect_timeout|fetch_size)=' order by o) from pg_foreign_server where srvname = 'courier_fdw_eu';
select count(distinct umoptions) from pg_user_mappings where srvname like 'courier%';

-- on a schedule
select * from error_of($$select courier.schedule_foreign_refresh('eu', '0 s')$$);
select courier.schedule_foreign_refresh('eu', '1 h');
select courier.refresh_is_due();
select distinct refreshed_every, next_refresh_at > now() as later from courier.foreign_table_status;
update courier.foreign_refresh set next_at = now() + interval '1 h';
select courier.refresh_next() is null as nothing_due;
select courier.schedule_foreign_refresh('eu', null);
select distinct refreshed_every, next_refresh_at from courier.foreign_table_status;

-- the node's role, and the caller's
create role regress_courier_plain login;
create role regress_courier_member;
select pg_get_userbyid(extowner) as owner from pg_extension where extname = 'pg_courier' \gset
grant :"owner" to regress_courier_member;
create schema elsewhere;
create schema theirs authorization regress_courier_plain;
alter user mapping for public server courier_eu options (set user 'regress_courier_plain');
select * from error_of($$select courier.import_tables('eu', 'shop', 'elsewhere')$$);
select public.on_node('grant usage on schema shop to regress_courier_plain; grant select on shop.fresh to regress_courier_plain');
select * from error_of($$select courier.import_tables('eu', 'shop', 'elsewhere', '{fresh,item,part}')$$);
select count(*) from courier.foreign_table where local_schema = 'elsewhere';
select courier.import_tables('eu', 'shop', 'elsewhere', '{fresh}');
select courier.import_tables('eu', 'shop', 'elsewhere');
drop schema elsewhere cascade;
set role regress_courier_member;
select code, message, replace(hint, quote_ident(current_user), 'ME') as hint from error_of($$select courier.import_tables('eu', 'shop', 'theirs', '{fresh}')$$);
reset role;
alter user mapping for public server courier_eu options (set user :'USER');
-- the schema that is gone is no longer refreshed
select * from courier.refresh_foreign_tables('eu', analyze_tables => false);
select public.on_node('drop owned by regress_courier_plain');
drop schema theirs;
drop role regress_courier_plain, regress_courier_member;
-- for administrators
create role regress_courier_nobody;
set role regress_courier_nobody;
select * from error_of($$select courier.import_tables('eu', 'shop', 'remote')$$);
select * from error_of($$select courier.refresh_foreign_tables('eu')$$);
select * from error_of($$select courier.schedule_foreign_refresh('eu', '1 h')$$);
reset role;
drop role regress_courier_nobody;

-- a node whose tables are in use stays
select * from error_of($$select courier.drop_node('eu')$$);
drop foreign table remote.item, remote.part, remote.part_1, remote.fresh, remote."Tab ""le";
create foreign table remote.by_hand (id int) server courier_fdw_eu;
select * from error_of($$select courier.drop_node('eu')$$);
drop foreign table remote.by_hand;
select courier.drop_node('eu');
select count(*) from pg_foreign_server;
select count(*) from courier.foreign_import;

-- a server of the DBA's own, with a mapping for one role
create server regress_courier_own foreign data wrapper dblink_fdw options (dbname 'regress_courier_import');
create user mapping for current_user server regress_courier_own options (password 'sesame');
do $$ begin
    execute format('alter server regress_courier_own options (add host %L, add port %L)',
        coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'), current_setting('port'));
end $$;
select courier.create_node('own', server => 'regress_courier_own');
select courier.import_tables('own', 'shop', 'remote', '{part_1}');
select count(*) from remote.part_1;
select usename = current_user as mine from pg_user_mappings where srvname = 'courier_fdw_own';
drop foreign table remote.part_1;
select courier.drop_node('own');
drop server regress_courier_own cascade;

-- nothing of ours is left open
select dblink_get_connections();
select dblink_disconnect('eu');
drop schema remote;
drop extension pg_courier;
drop extension postgres_fdw cascade;
drop function on_node(text), error_of(text);
drop database regress_courier_import;
