-- Sets with ddl => 'auto': what their event triggers capture, refuse, leave.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_auto user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
create database regress_courier_auto;
alter database regress_courier_auto set timezone = 'UTC';
alter database regress_courier_auto set datestyle = iso;
select courier.create_node('eu', :'server');
create function public.on_target(command text) returns text language plpgsql as $$
begin
    return (select v from public.dblink('courier_eu', command) d (v text));
end
$$;
-- What a table is, the same text here and there.
create function public.description(relation text) returns text language sql as $$
    select format($q$
        select concat_ws(' | ',
            (select string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then '!' end,
                pg_get_expr(adbin, adrelid), nullif(attidentity, '')), ', ' order by attnum)
             from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
             where attrelid = c.oid and attnum > 0 and not attisdropped),
            (select string_agg(conname || ' ' || pg_get_constraintdef(oid), ', ' order by conname) from pg_constraint
             where conrelid = c.oid and contype in ('p', 'u', 'c', 'f')),
            (select string_agg(indexdef, ', ' order by indexname) from pg_indexes i where format('%%I.%%I', i.schemaname, i.tablename)::regclass = c.oid),
            obj_description(c.oid),
            (select string_agg(col_description(c.oid, attnum), ', ' order by attnum) from pg_attribute where attrelid = c.oid and attnum > 0),
            (select string_agg(a::text, ', ' order by a::text) from unnest(relacl) a where a::text like 'pg_monitor=%%'),
            (select string_agg(inhrelid::regclass::text || ' ' || pg_get_expr(relpartbound, p.oid), ', ' order by inhrelid::regclass::text)
             from pg_inherits join pg_class p on p.oid = inhrelid where inhparent = c.oid))
        from pg_class c where c.oid = to_regclass(%L)$q$, relation)
$$;
create function public.same(relation text) returns text language plpgsql set search_path = pg_catalog set datestyle = iso set timezone = 'UTC' as $$
declare
    here text;
    there text := public.on_target(public.description(relation));
begin
    execute public.description(relation) into here;
    return case when here is not distinct from there then coalesce('both: ' || here, 'on neither') else format(E'DIFFERS\n%s\n%s', here, there) end;
end
$$;
create function public.same_rows(relation regclass) returns text language plpgsql set search_path = pg_catalog set datestyle = iso set timezone = 'UTC' as $$
declare
    query text := format('select count(*) || '' '' || md5(string_agg(t::text, '','' order by t::text)) from %s t', relation);
    here text;
begin
    execute query into here;
    return case when here = public.on_target(query) then split_part(here, ' ', 1) || ' rows' else 'DIFFERS' end;
end
$$;

-- options of a set
select courier.create_replication_set('wrong', ddl => 'all');
select courier.create_replication_set('wrong', ddl => null);
select courier.create_replication_set('plain');
select courier.create_replication_set('plain', ddl => 'auto');
select courier.alter_replication_set('nosuch', ddl => 'auto');
select courier.alter_replication_set('plain', ddl => 'sometimes');
select courier.alter_replication_set('plain', false, false, false, false);
select courier.replication_set_add_schema('plain', 'public');
select courier.alter_replication_set('default', ddl => 'auto');
select courier.alter_replication_set('default', ddl => 'auto');
select set_name, replicate_insert, ddl from courier.replication_set order by 1;
create schema shop;
select on_target('create schema shop; create schema other');
create schema other;
select courier.replication_set_add_schema('default', 'nosuch');
select courier.replication_set_add_schema('default', 'courier');
select courier.replication_set_add_schema('default', 'shop');
select courier.replication_set_add_schema('default', 'shop');
select courier.replication_set_remove_schema('default', 'other');
select set_name, schema from courier.replication_set_schema;
-- without a subscription nothing is captured, and nothing refused
do $$ begin create table shop.early (id int primary key); alter table shop.early add column x int; end $$;
select set_name, relation from courier.replication_set_table;
drop table shop.early;
select count(*) as queued from courier.queue_chunk;
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;

-- CREATE TABLE in a covered schema, with rows behind it in its transaction
begin;
create table shop.item (id int primary key, name text not null, made timestamptz default now());
insert into shop.item values (1, 'one');
commit;
set search_path = shop, public;
create table part (id serial, item int references item, at date, primary key (id, at)) partition by range (at);
create table part_1 partition of part for values from ('2024-01-01') to ('2025-01-01');
insert into part (item, at) values (1, '2024-05-05');
create temp table passing (id int primary key);
set client_min_messages = notice;
create unlogged table hasty (id int primary key);
set client_min_messages = warning;
insert into hasty values (1);
create table other.uncovered (id int primary key);
create table if not exists item (x int);
create table keyless (line text);
alter table keyless add primary key (line);
select set_name, relation from courier.replication_set_table order by relation::text;
select courier.ship('s') as shipped;
select same('shop.item');
select same('shop.part');
select same('shop.keyless');
select same_rows('item'), same_rows('part');
select same_rows('hasty'), on_target('select relpersistence from pg_class where oid = ''shop.hasty''::regclass') as persistence;
select on_target('select to_regclass(''other.uncovered'')::text') as uncovered;

-- ALTER TABLE in all its forms, mixed with rows
begin;
insert into item values (2, 'two');
alter table item add column price numeric(8,2) default 1.5 not null, add column note text;
insert into item values (3, 'three', now(), 3, 'x');
alter table item alter column note type varchar(40);
alter table item rename column note to remark;
alter table item alter column name drop not null;
insert into item values (4, null, now(), 4, 'y');
alter table item alter column price set default 2, alter price drop not null;
rollback;
begin;
insert into item values (2, 'two');
alter table item add column price numeric(8,2) default 1.5 not null, add column note text;
insert into item values (3, 'three', now(), 3, 'x');
alter table item alter column note type varchar(40);
alter table item rename column note to remark;
alter table item alter column name drop not null;
insert into item values (4, null, now(), 4, 'y');
update item set remark = 'z' where id = 1;
alter table item drop column made;
delete from item where id = 2;
insert into item values (5, 'five', 5, 'five');
commit;
alter table item alter column price set default 2, alter price drop not null;
alter table item add constraint dear check (price < 100) not valid;
alter table item validate constraint dear;
alter table item rename constraint dear to not_dear;
alter table item alter column remark type text using upper(remark);
create index item_name on item (name);
create unique index concurrently item_id on item (id);
drop index concurrently item_name;
create unique index concurrently uncovered_id on other.uncovered (id);
alter index item_name rename to item_by_name;
comment on table item is 'things';
comment on column item.price is 'in €';
comment on index item_by_name is 'by name';
comment on constraint not_dear on item is 'not too dear';
grant select on item, part to pg_monitor;
grant select on all tables in schema shop to pg_monitor;
revoke select on item from pg_monitor;
alter table item replica identity full;
select courier.ship('s') as shipped;
select same('shop.item');
select same_rows('item');
select on_target('select obj_description(''shop.item_by_name''::regclass) || '', '' || (select obj_description(oid) from pg_constraint where conname = ''not_dear'')') as comments;

-- several statements in one string: each has its own text
alter table item add column a int \; insert into item (id, a) values (10, 1) \; alter table item rename a to b \; select 'done' as multi;
-- of this server only
alter table item disable trigger all;
alter table item enable trigger all;
alter table item set tablespace pg_default;
select courier.ship('s') as shipped;
select same('shop.item');

-- types of a covered schema
create type color as enum ('red', 'green');
create domain positive as int check (value > 0);
alter table item add color color, add n positive;
alter type color add value 'blue' after 'red';
update item set color = 'blue', n = 1;
select courier.ship('s') as shipped;
select same('shop.item');
select same_rows('item');
create type size as (w int, h int);
alter table item add dims size;
alter type size add attribute d int cascade;
alter type size rename attribute h to height;
update item set dims = row(1, 2, 3);
select courier.ship('s') as shipped;
select same_rows('item');
select on_target('select string_agg(attribute_name, '','' order by ordinal_position) from information_schema.attributes where udt_name = ''size''') as attributes;
alter table item drop column dims;
drop type size;

-- nothing to do between two commands of a transaction
begin;
alter table item add column passing int;
update item set name = name;
alter table item drop column passing;
commit;
select courier.ship('s') > 0 as shipped;
select same_rows('item');

-- partitions
create table part_2 partition of part for values from ('2025-01-01') to ('2026-01-01');
insert into part (item, at) values (3, '2025-05-05');
create table loose (id int not null, item int, at date not null, primary key (id, at));
insert into loose values (100, 3, '2026-01-01');
alter table part attach partition loose for values from ('2026-01-01') to ('2027-01-01');
delete from loose;
alter table part attach partition loose for values from ('2026-01-01') to ('2027-01-01');
insert into part values (100, 3, '2026-01-01');
alter table part detach partition part_1;
drop table part_2;
select courier.ship('s') as shipped;
select same('shop.part');
select same('shop.part_1');
select same_rows('part');
alter table part detach partition loose concurrently;
-- what it was before it became a partition arrives as of then
create table early (id int not null, item int, at date not null, primary key (id, at));
insert into early values (200, 3, '2027-02-02');
delete from early where item = 3;
insert into early values (201, 3, '2027-02-02');
select courier.ship('s') as shipped;
begin;
delete from early;
alter table part attach partition early for values from ('2027-01-01') to ('2028-01-01');
insert into part values (202, 3, '2027-03-03');
commit;
select relation::regclass from courier.dropped_table where relation = 'early'::regclass;
select set_name from courier.replication_set_table where relation = 'early'::regclass;
update part set item = 4 where id = 202;
select courier.ship('s') as shipped;
select same('shop.early');
select same_rows('part');
-- in a set that the partitioned table is not in
create table stray (id int not null, item int, at date not null, primary key (id, at));
select courier.create_replication_set('stray', replicate_update => false, replicate_delete => false);
select courier.replication_set_add_table('stray', 'stray');
alter table part attach partition stray for values from ('2028-01-01') to ('2029-01-01');
select courier.replication_set_remove_table('stray', 'stray');
alter table part attach partition stray for values from ('2028-01-01') to ('2029-01-01');
select courier.drop_replication_set('stray');
select courier.ship('s') as shipped;
select same('shop.stray');

-- what can't be captured is refused, and nothing of it is done
do $$ begin alter table shop.item add column x int; end $$;
create function add_column() returns void language sql as 'alter table shop.item add column x int';
select add_column();
select add_column() \; alter table item add column y int;
create table copied as select 1 as id;
select 1 as id into copied;
grant select on item, other.uncovered to pg_monitor;
alter table item add column r float default random();
alter table item add column s serial;
alter table item add column at timestamptz not null default now();
alter table item alter column name type text using name || clock_timestamp();
select courier.ship('s') as shipped;
select same('shop.item');
-- … but values of no row may be what they like, and DO may use replicate_ddl
create table empty (id int primary key);
alter table empty add column s serial, add column r float default random();
do $$ begin perform courier.replicate_ddl('alter table shop.item add column x int'); end $$;
set courier.capture_ddl = off;
alter table item add column only_here int;
reset courier.capture_ddl;
alter table item drop column only_here, drop column if exists y;
do $$
begin
    perform courier.ship('s');
exception when others then
    raise warning '%', regexp_replace(sqlerrm, 'transaction \d+', 'transaction N');
end
$$;
set courier.capture_ddl = off;
select on_target('alter table shop.item add column only_here int');
reset courier.capture_ddl;
select courier.ship('s') as shipped;
select same('shop.item');
select same('shop.empty');

-- a set without the option: nothing is sent
select courier.replication_set_add_table('plain', 'other.uncovered');
alter table other.uncovered add column x int;
create schema more;
create table more.t (id int primary key);
select courier.ship('s') as shipped;

-- row filters and lists of columns, with commands between the rows
create table sieved (id int primary key, n int);
create table listed (id int primary key, a int, secret text);
select courier.replication_set_remove_table('default', 'sieved');
select courier.replication_set_remove_table('default', 'listed');
select courier.replication_set_add_table('default', 'sieved', row_filter => 'n > 10');
select courier.replication_set_add_table('default', 'listed', '{id,a}');
begin;
insert into sieved values (1, 1), (2, 12), (3, 13), (6, 16);
insert into listed values (1, 1, 'not sent');
alter table sieved add column extra text default 'x';
alter table listed rename column a to b;
update sieved set n = n + 10 where id = 1;
update sieved set n = 0 where id = 2;
insert into sieved values (4, 4, 'y'), (5, 15, 'y');
update listed set b = 2, secret = 'nor this';
insert into listed values (2, 2, 'nor this');
alter table sieved rename column extra to more;
update sieved set more = 'z' where id > 2;
delete from sieved where id = 3;
commit;
select courier.ship('s') as shipped;
select on_target('select string_agg(s::text, '' '' order by id) from shop.sieved s') as target,
       string_agg(s::text, ' ' order by id) filter (where n > 10) as source from sieved s;
select on_target('select string_agg(l::text, '' '' order by id) from shop.listed l') as target;

-- sequences that DDL makes are ahead when the first rows are there
begin;
create table counted (id serial primary key, v text);
insert into counted (v) values ('a'), ('b'), ('c');
commit;
create table numbered (v text primary key);
alter table numbered add column n int generated by default as identity;
insert into numbered values ('a'), ('b');
select courier.replicate_ddl('create sequence shop.invoice');
select courier.replication_set_add_sequence('default', 'shop.invoice');
select nextval('invoice');
select courier.ship('s') as shipped;
select on_target('select nextval(''shop.counted_id_seq'')') as counted, on_target('select nextval(''shop.numbered_n_seq'')') as numbered,
       on_target('select nextval(''shop.invoice'')') as invoice;
alter table counted rename to counts;
insert into counts (v) select 'more' from generate_series(1, 5000);
select courier.ship('s') as shipped;
select on_target('select nextval(''shop.counted_id_seq'') > max(id) from shop.counts') as ahead;

-- drops: of everything that is gone, whatever made it go
create index item_x on item (x);
create index item_y on item (b);
drop index item_x;
create type mood as enum ('sad');
alter table item add m mood;
insert into item (id, m) values (50, 'sad');
drop type mood cascade;
create table child (id int primary key, empty int references empty);
insert into empty (id) values (1);
insert into child values (1, 1);
drop table empty cascade;
begin;
insert into child values (2, 2);
drop table child;
commit;
insert into part values (101, 3, '2026-01-02');
drop table part;
select table_name from courier.dropped_table order by 1;
select courier.ship('s') as shipped;
-- known as long as the queue has changes of them
select table_name from courier.dropped_table order by 1;
update courier.queue_current set truncated_xid = pg_current_xact_id();
insert into item (id) values (51);
select courier.ship('s') as shipped;
select table_name from courier.dropped_table order by 1;
select same('shop.item');
select same('shop.empty'), same('shop.child'), same('shop.part'), on_target('select to_regtype(''shop.mood'')::text') as mood;
select same_rows('item');

-- changes of a dropped table that waited arrive, also without DDL
create table other.short_lived (id int primary key);
select on_target('create table other.short_lived (id int primary key)');
select courier.create_replication_set('log');
select courier.replication_set_add_table('log', 'other.short_lived');
select courier.create_subscription('l', 'eu', '{log}', copy_data => false) is not null as created;
insert into other.short_lived values (1), (2);
begin;
drop table other.short_lived;
rollback;
select count(*) from courier.dropped_table where table_name = 'short_lived';
drop table other.short_lived;
select relation from courier.replication_set_table where set_name = 'log';
select courier.ship('l') as shipped;
select on_target('select count(*) from other.short_lived') as there;

-- DROP SCHEMA: the tables of the set go on the node as well, the schema stays
-- (and part_1 in it, which is detached)
insert into item (id) values (60);
reset search_path;
drop schema shop cascade;
select set_name, relation from courier.replication_set_table order by 2;
select * from courier.replication_set_schema;
select courier.ship('s') as shipped;
select on_target('select count(*) from pg_class where relnamespace = ''shop''::regnamespace and relkind in (''r'', ''p'')') as tables;

-- as somebody who may not administer pg_courier
create role regress_courier_owner;
select on_target('grant create, usage on schema other to regress_courier_owner');
grant create, usage on schema other to regress_courier_owner;
select courier.replication_set_add_schema('default', 'other');
set role regress_courier_owner;
create table other.mine (id int primary key);
insert into other.mine values (1);
alter table other.mine add column a text default 'x';
drop table if exists other.nosuch;
drop extension pg_courier;
reset role;
select courier.ship('s') as shipped;
select same('other.mine');
select on_target('select tableowner from pg_tables where tablename = ''mine''') as owner;
begin isolation level repeatable read;
select count(*) from other.mine;
alter table other.mine add column b text;
create table other.yours (id int primary key);
insert into other.yours values (1);
commit;
select courier.ship('s') as shipped;
select same('other.mine');
select same_rows('other.yours');

set client_min_messages = error; -- the warning bears a random key
drop extension pg_courier;
drop schema other cascade;
drop schema more cascade;
drop function on_target, description, same, same_rows;
drop database regress_courier_auto;
drop role regress_courier_owner;
