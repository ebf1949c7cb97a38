-- Row filters: what may be one, what is sent of rows that move in and out, and
-- what becomes of a filter when its table is altered.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_filter;
create database regress_courier_filter;
create schema shop;
create type shop.status as enum ('new', 'open', 'closed');
create domain shop.code as text;
create domain shop.short as text check (length(value) < 5);
create type shop.pair as (a int, b int);
create function shop.mine(int) returns boolean language sql immutable as 'select $1 > 0';
create operator shop.=== (leftarg = int, rightarg = int, function = int4eq);
create collation shop.plain (locale = 'C');
create table shop.item (
    id int primary key, name text, price numeric, status shop.status, kind shop.code, tags text[], info jsonb,
    made timestamptz, p shop.pair, gross numeric generated always as (price * 2) stored, code text collate shop.plain);
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_filter');
create function public.on_target(command text) returns text language sql as $$ select dblink_exec('courier_eu', command) $$;
create function public.target(command text) returns setof text language sql as $$ select r from dblink('courier_eu', command) d (r text) $$;
create function public.try(filter text) returns text language plpgsql as $$
declare
    message text; detail text; hint text;
begin
    return courier.check_row_filter('shop.item', filter);
exception when others then
    get stacked diagnostics message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    return concat_ws(E'\n  ', message, 'DETAIL: ' || nullif(detail, ''),
                     'HINT: ' || nullif(nullif(hint, ''), 'A row filter may use the table''s columns, constants, and built-in operators and functions that are immutable.'));
end
$$;
\pset format unaligned
\pset tuples_only on

-- allowed, in normal form
select try(f) from unnest(array[
    'price > 10', 'item.price between 1 and 2 or name is null', $$status = 'open'$$, $$status in ('new', 'open')$$,
    $$kind = 'x'$$, $$tags && '{a,b}' and tags[1] <> 'c'$$, $$(info ->> 'n')::int > 3 and info['a'] = '1'$$,
    $$name like 'a%' and lower(name) = upper('b')$$, 'gross > 5', $$code = 'x'$$, 'coalesce(price, 0) > greatest(1, id)',
    $$made >= '2026-01-01 00:00 UTC'$$, $$case when id = 1 then true end$$, 'true', $$(id, name) < (1, 'x')$$, $$id = any ('{1,2}')$$,
    'price > 10 -- a comment', $$name collate "C" < 'x'$$, $$id::text = name$$]) f;

-- refused
select try(f) from unnest(array[
    '', '*', 'item.*', 'price > 10 as x', 'price > 10, true', 'price > 10; drop table shop.item', 'true from shop.item',
    'true where false', 'true) or (true', 'true union select false', 'price >', 'price', 'prize > 10', 'other.price > 10', '$1 > 0',
    'count(*) > 1', 'row_number() over () > 1', 'generate_series(1, 2) > 1', 'exists (select)', 'id = (select 1)',
    'ctid is not null', 'tableoid > 0', 'item is not null', 'now() > made', 'made > current_date', 'made > current_timestamp',
    $$current_user = 'x'$$, $$made::text = 'x'$$, 'random() > 0.5', 'shop.mine(id)', 'id operator(shop.===) 1', 'p is null',
    $$kind::shop.short = 'x'$$, '(p).a > 1', $$pg_sleep(1) is null$$, $$nextval('x') > 1$$, $$made::date > '2026-01-01'$$]) f;
select courier.replication_set_add_table('default', 'shop.item', row_filter => 'now() > made');
select courier.replication_set_add_table('default', 'shop.item', row_filter => 'price > 10 and prize < 3');
\pset format aligned
\pset tuples_only off

-- adding: again, otherwise; equal filters of a table are one
select courier.replication_set_add_table('default', 'shop.item', '{id,name}', 'price > 10');
select courier.replication_set_add_table('default', 'shop.item', '{id,name}', '(price>10.0)');
select courier.replication_set_add_table('default', 'shop.item', '{id,name}', ' price > 10 ');
select courier.replication_set_add_table('default', 'shop.item', '{name,id}');
\echo :LAST_ERROR_MESSAGE
select courier.replication_set_add_table('default', 'shop.item', '{id}', 'price > 10');
select courier.create_replication_set('cheap');
select courier.replication_set_add_table('cheap', 'shop.item', row_filter => 'price <= 3');
select courier.create_replication_set('same');
select courier.replication_set_add_table('same', 'shop.item', row_filter => 'price > 10');
select set_name, columns, row_filter, filter_id from courier.replication_set_table order by 1;
select tgname, tgenabled, pg_get_triggerdef(oid) from pg_trigger where tgrelid = 'shop.item'::regclass order by 1;
select courier.drop_replication_set('same');
select courier.replication_set_remove_table('cheap', 'shop.item');
select tgname from pg_trigger where tgrelid = 'shop.item'::regclass order by 1;

-- rows that move in and out; price, which the filter uses, is not sent
select on_target('create schema shop; create table shop.item (id int primary key, name text)');
insert into shop.item (id, name, price) select n, 'row ' || n, n from generate_series(9, 12) n;
select courier.create_subscription('s', 'eu') is not null as created;
select courier.ship('s');
select target('select id || '' '' || name from shop.item order by id');
insert into shop.item (id, name, price) values (1, 'out', 1), (20, 'in', 20), (21, 'null', null);
select courier.ship('s');
update shop.item set price = 30, name = 'moved in' where id = 1;
update shop.item set price = 2 where id = 20;
update shop.item set name = 'stays in' where id = 11;
update shop.item set name = 'stays out' where id = 9;
update shop.item set id = 112, name = 'key changed' where id = 12;
update shop.item set id = 110, price = 11 where id = 10;
select courier.ship('s');
select target('select id || '' '' || name from shop.item order by id');
update shop.item set id = 111, price = 0 where id = 11;
delete from shop.item where id in (9, 112);
select courier.ship('s');
select target('select id || '' '' || name from shop.item order by id');
-- in one batch
begin;
insert into shop.item (id, name, price) values (50, 'a', 50), (51, 'b', 0);
update shop.item set price = 50 - price where id in (50, 51);
update shop.item set price = 50 - price where id in (50, 51);
update shop.item set price = 50 - price, name = name || '!' where id in (50, 51);
commit;
truncate shop.item;
insert into shop.item (id, name, price) values (60, 'after truncate', 60), (61, 'out', 0);
select courier.ship('s');
select target('select id || '' '' || name from shop.item order by id');
select inserted, updated, deleted, truncated, copied from courier.stat_table;

-- large values that an update leaves alone arrive when the row moves in
alter table shop.item alter column name set storage external;
insert into shop.item (id, name, price) values (70, repeat('x', 100000), 0);
select courier.ship('s');
update shop.item set price = 70 where id = 70;
select courier.ship('s');
select target('select length(name) from shop.item where id = 70');
update shop.item set price = 71 where id = 70;
update shop.item set price = 7 where id = 70;
select courier.ship('s');
select target('select count(*) from shop.item where id = 70');

-- by hand: an upsert goes by the filter, a delete does not
select courier.enqueue_upsert('shop.item', i) from shop.item i where id in (60, 61);
select courier.ship('s');
select on_target('insert into shop.item values (61, ''by mistake'')');
select courier.enqueue_delete('shop.item', i) from shop.item i where id = 61;
select courier.ship('s');
select target('select id from shop.item order by id');

-- several sets: a row is in if any lets it in; a later set counts from then on
select courier.replication_set_add_table('cheap', 'shop.item', '{id,name}', 'price <= 3');
select courier.create_subscription('two', 'eu', '{default,cheap}', copy_data => false) is not null as created;
select courier.alter_subscription_disable('s');
select subscription_name, row_filter from courier.subscription_table order by 1;
insert into shop.item (id, name, price) values (80, 'cheap', 1), (81, 'middle', 5), (82, 'dear', 100);
update shop.item set price = 100, name = 'was cheap' where id = 80;
update shop.item set price = 5 where id = 82;
select courier.ship('two');
select target('select id || '' '' || name from shop.item where id >= 80 order by id');
update shop.item set price = 3 where id = 82;
select courier.ship('two');
select courier.create_replication_set('all');
select courier.replication_set_add_table('all', 'shop.item', '{id,name}');
select courier.create_subscription('three', 'eu', '{cheap,all}', copy_data => false) is not null as created;
select row_filter from courier.subscription_table where subscription_name = 'three';
update shop.item set name = 'middle, from all' where id = 81;
select courier.ship('three');
select target('select id || '' '' || name from shop.item where id >= 80 order by id');
select courier.drop_subscription('two');
select courier.drop_subscription('three');
select courier.alter_subscription_enable('s');
select courier.ship('s') > 0 as shipped;
delete from shop.item where id >= 80;
select on_target('delete from shop.item where id >= 80');
select courier.replication_set_remove_table('cheap', 'shop.item');
select courier.drop_replication_set('all');

-- a new filter, and writes that came before it in the same transaction
begin;
update shop.item set name = 'written' where id = 60;
select courier.replication_set_add_table('cheap', 'shop.item', row_filter => 'price < 3');
rollback;

-- renamed columns
select courier.ship('s');
alter table shop.item rename column price to cost;
alter table shop.item rename column name to title;
select columns, row_filter from courier.replication_set_table;
select courier.replication_set_add_table('default', 'shop.item', '{title,id}', 'cost > 10');
select on_target('alter table shop.item rename column name to title');
insert into shop.item (id, title, cost) values (90, 'renamed', 90), (91, 'out', 9);
select courier.ship('s');
select target('select id || '' '' || title from shop.item order by id');

-- by the parent's name
begin;
create table shop.base (id int primary key, name text, cost int);
create table shop.heir (primary key (id)) inherits (shop.base);
select courier.replication_set_add_table('default', 'shop.heir', '{id,name}', 'cost > 10');
alter table shop.base rename column name to title;
alter table shop.base rename column cost to price;
select columns, row_filter from courier.replication_set_table where relation = 'shop.heir'::regclass;
rollback;

-- columns that are in use can't be dropped or altered unnoticed
alter table shop.item drop column cost;
-- (which of those that use it is named first is up to their OIDs)
\set VERBOSITY sqlstate
alter table shop.item alter column cost type text;
\set VERBOSITY default
drop type shop.status;

-- a filter that fails on a row makes the write fail
select courier.replication_set_add_table('cheap', 'shop.item', row_filter => '100 / cost > 10');
insert into shop.item (id, cost) values (92, 0);
insert into shop.item (id, cost) values (92, 1);
\set SHOW_CONTEXT errors
update shop.item set cost = 0 where id = 92;
\set SHOW_CONTEXT never
select courier.replication_set_remove_table('cheap', 'shop.item');
delete from shop.item where id = 92;
select courier.ship('s');

-- a filter that is gone stops the subscription, nothing is skipped
insert into shop.item (id, title, cost) values (93, 'before', 93);
drop trigger "!pg_courier_filter_1" on shop.item;
insert into shop.item (id, title, cost) values (94, 'after', 94);
do $$
declare
    message text; hint text;
begin
    perform courier.ship('s');
exception when others then
    get stacked diagnostics message = message_text, hint = pg_exception_hint;
    raise warning '%', regexp_replace(message, 'transaction \d+', 'transaction N') using hint = hint;
end
$$;
select target('select id || '' '' || title from shop.item order by id');
select courier.replication_set_remove_table('default', '"shop"."item"');
select courier.replication_set_add_table('default', 'shop.item', '{id,title}', 'cost > 10');
select on_target('truncate shop.item');
select courier.ship('s');
select target('select id || '' '' || title from shop.item order by id');

-- a dead letter holds what would have been sent
select courier.alter_subscription_options('s', '{"on_error": "dead_letter"}');
select on_target('alter table shop.item add constraint no_17 check (title not like ''%17'')');
insert into shop.item (id, title, cost) values (16, 'out 17', 0), (18, 'in', 18), (19, 'out', 0);
select courier.ship('s');
begin;
update shop.item set cost = 17 where id = 16;
update shop.item set cost = 0 where id = 18;
update shop.item set title = 'still out' where id = 19;
commit;
insert into shop.item (id, title, cost) values (20, 'out', 0), (21, 'behind', 21);
set client_min_messages = error;
select courier.ship('s');
select courier.ship('s');
set client_min_messages = warning;
select state, table_name, operation, key, change_count, jsonb_pretty(changes) from courier.dead_letter;
select on_target('alter table shop.item drop constraint no_17');
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter;
select courier.ship('s');
select state, applied_changes from courier.dead_letter;
select target('select id || '' '' || title from shop.item order by id');

-- the whole row identifies it
create table shop.log (line text, level int);
alter table shop.log replica identity full;
select on_target('create table shop.log (line text, level int)');
select courier.replication_set_add_table('default', 'shop.log', row_filter => 'level > 1');
insert into shop.log values ('a', 1), ('b', 2), ('c', 3);
select courier.ship('s');
update shop.log set level = 4 - level;
update shop.log set line = line || '!';
delete from shop.log where level = 2;
select courier.ship('s');
select target('select line || level from shop.log order by 1');

-- partitions, with other numbers for their columns
create table shop.part (id int, region text, n int, primary key (id, region)) partition by list (region);
create table shop.part_a partition of shop.part for values in ('a');
create table shop.part_b (gone int, n int, gone_too text, region text not null, id int not null);
alter table shop.part_b drop column gone, drop column gone_too;
select courier.replication_set_add_table('default', 'shop.part', row_filter => 'n > 10 and region <> ''c''');
alter table shop.part attach partition shop.part_b for values in ('b', 'c');
select tgrelid::regclass, tgname, tgenabled from pg_trigger where tgrelid::regclass::text like 'shop.part%' and tgname ~ 'filter' order by 1, 2;
select on_target('create table shop.part (id int, region text, n int, primary key (id, region))');
insert into shop.part values (1, 'a', 1), (2, 'a', 11), (3, 'b', 3), (4, 'b', 13), (5, 'c', 15);
select courier.ship('s');
update shop.part set region = 'b' where region = 'a';
update shop.part set n = n + 10 where id = 3;
select courier.ship('s');
update shop.part set region = 'a' where id = 5;
update shop.part set region = 'c' where id = 4;
select courier.ship('s');
select target('select id || region || n from shop.part order by 1');
alter table shop.part alter column n type bigint;
alter table shop.part rename column n to m;
update shop.part set m = 0 where id = 3;
select on_target('alter table shop.part rename column n to m');
select courier.ship('s');
select target('select id || region || m from shop.part order by 1');

-- another filter, in one transaction
begin;
select courier.replication_set_remove_table('default', 'shop.log');
select courier.replication_set_add_table('default', 'shop.log', row_filter => 'level > 2');
commit;
select on_target('truncate shop.log');
insert into shop.log values ('d', 2), ('e', 3);
select courier.ship('s');
select target('select line || level from shop.log order by 1');

-- types of filters, as capture evaluates them
create table shop.kind (id int primary key, status shop.status, kind shop.code, tags text[], info jsonb, price numeric,
                        gross numeric generated always as (price * 2) stored, code text collate shop.plain);
select on_target('create table shop.kind (id int primary key)');
select courier.replication_set_add_table('default', 'shop.kind', '{id}', $$
    status in ('new', 'open') and kind <> 'z' and tags[1] <> 'c' and info['a'] = '1' and (info ->> 'n')::int > 3 and gross > 5
    and code < 'a' and case when id < 100 then true end and (id, kind) > (0, 'a') and id::text ~ '^\d$'$$);
select courier.ship('s');
insert into shop.kind (id, status, kind, tags, info, price, code) values (1, 'new', 'x', '{a}', '{"a": 1, "n": 4}', 3, 'ABC');
insert into shop.kind (id, status, kind, tags, info, price, code) select 2, 'closed', kind, tags, info, price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 3, status, 'z', tags, info, price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 4, status, kind, '{c}', info, price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 5, status, kind, tags, '{"a": 2, "n": 4}', price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 6, status, kind, tags, '{"a": 1, "n": 3}', price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 7, status, kind, tags, info, 2, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 8, status, kind, tags, info, price, 'x' from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 10, status, kind, tags, info, price, code from shop.kind where id = 1;
insert into shop.kind (id, status, kind, tags, info, price, code) select 9, status, kind, tags, info, price, code from shop.kind where id = 1;
select courier.ship('s');
select target('select id from shop.kind order by 1');

-- a dropped table: what is queued of it still goes by its filters, and by each
-- set's own operations
create table shop.brief (id int primary key, n int);
select on_target('create table shop.brief (id int primary key, n int)');
select courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false);
select courier.create_subscription('b', 'eu', '{cheap,inserts}', copy_data => false) is not null as created;
select courier.replication_set_add_table('cheap', 'shop.brief', row_filter => 'n > 10');
select courier.replication_set_add_table('inserts', 'shop.brief', row_filter => 'n < 0');
insert into shop.brief values (1, 1), (2, 12), (3, -3), (4, 14), (5, 5), (6, -6);
update shop.brief set n = n + 10 where id in (1, 6);
update shop.brief set n = 0 where id = 4;
update shop.brief set n = 6 where id = 5;
delete from shop.brief where id = 3;
drop table shop.brief;
select table_name, filters from courier.dropped_table t
cross join lateral (select array_agg(f.set_name order by f.set_name) as filters from courier.dropped_table_filter f
                    where f.subscription_id = t.subscription_id and f.relation = t.relation) f;
select courier.ship('b');
select target('select id || '' '' || n from shop.brief order by id');
insert into shop.item (id, title, cost) values (22, 'later', 0);
select courier.ship('b');
select count(*) from courier.dropped_table_filter;
-- the queue might have been emptied behind the drop
update courier.queue_current set truncated_xid = pg_current_xact_id();
insert into shop.item (id, title, cost) values (23, 'later still', 0);
select courier.ship('b');
select count(*) from courier.dropped_table_filter;
select courier.drop_subscription('b');

-- ALTER TABLE changes no configuration, and so waits for none, unless it renames
create table shop.unrelated (id int primary key);
select generation as before from courier.configuration \gset
alter table shop.unrelated add column n int;
alter table shop.item alter column cost set default 5;
select generation - :before as changes from courier.configuration;

-- nothing is left behind
select courier.drop_subscription('s');
select courier.drop_node('eu');
select courier.replication_set_remove_table('default', 'shop.part');
drop extension pg_courier cascade;
select tgname from pg_trigger where tgname like '!pg_courier%';
drop schema shop cascade;
drop function on_target, target, try;
drop extension dblink;
drop database regress_courier_filter;
