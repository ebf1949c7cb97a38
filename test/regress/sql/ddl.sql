-- courier.replicate_ddl(): what it refuses, and what arrives where.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_ddl',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port')) as server \gset
create database regress_courier_ddl;
select courier.create_node('eu', format('%s user=%s', :'server', current_user));

-- Runs on the target; gives the one value of a query, or null.
create function on_target(command text) returns text language plpgsql as $$
begin
    return (select v from dblink('courier_eu', command) d (v text));
end
$$;
-- The error of shipping, without numbers that vary.
create function ship_error(out code text, out message text, out hint text) language plpgsql as $$
begin
    perform courier.ship('s');
    message := 'shipped';
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    message := regexp_replace(message, 'transaction \d+', 'transaction N', 'g');
    hint := regexp_replace(hint, '''\d+''', '''N''', 'g');
end
$$;
-- Columns of a table on the target, as the catalog has them.
create function target_columns(relation text) returns text language sql as $$
    select on_target(format(
        'select string_agg(attname || '' '' || format_type(atttypid, atttypmod), '', '' order by attnum) from pg_attribute '
        'where attrelid = to_regclass(%L) and attnum > 0 and not attisdropped', relation))
$$;

create table public.item (id int primary key, name text);
select on_target('create table public.item (id int primary key, name text)');
select courier.create_replication_set('other');
select courier.replication_set_add_table('default', 'item');
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;

-- what is refused
select courier.replicate_ddl(null);
select courier.replicate_ddl('');
select courier.replicate_ddl('  -- nothing');
select courier.replicate_ddl('create table x (id int)', null);
select courier.replicate_ddl('create table x (id int)', '{}');
select courier.replicate_ddl('create table x (id int)', '{nosuch}');
select courier.replicate_ddl('create table x (id int)', array[null::text]);
select courier.replicate_ddl('alter table nosuch add n int');
select courier.replicate_ddl('alter tabel item add n int');
select courier.replicate_ddl('create index concurrently on item (name)');
select courier.replicate_ddl('drop index concurrently item_pkey');
select courier.replicate_ddl('vacuum item');
select courier.replicate_ddl('reindex table item');
select courier.replicate_ddl('cluster item using item_pkey');
select courier.replicate_ddl('create database nosuch');
select courier.replicate_ddl('alter system set work_mem = ''4MB''');
select courier.replicate_ddl('create role regress_courier_x password ''secret''');
select courier.replicate_ddl('comment on database postgres is ''x''');
select courier.replicate_ddl('create user mapping for public server courier_eu');
select courier.replicate_ddl('create temp table x (id int)');
select courier.replicate_ddl('set search_path = public');
select courier.replicate_ddl('begin; create table x (id int); commit');
select courier.replicate_ddl('insert into item values (1)');
select courier.replicate_ddl('create table x (id int); select 1');
select courier.replicate_ddl('truncate item');
select courier.replicate_ddl('do $d$ begin null; end $d$');
begin read only;
select courier.replicate_ddl('create table x (id int)');
rollback;
create role regress_courier_other;
set role regress_courier_other;
select courier.replicate_ddl('create table x (id int)');
reset role;
select count(*) as queued from courier.queue_chunk;
-- the new label of an enum is not usable in the transaction that adds it
create type public.mood as enum ('sad');
select on_target('create type public.mood as enum (''sad'')');
select courier.replicate_ddl('alter type public.mood add value ''glad''; alter table item add m public.mood default ''glad''');
select courier.ship('s') as shipped;

-- in one transaction with rows, before and behind
begin;
insert into item values (1, 'before');
select courier.replicate_ddl('alter table item add price numeric(6,2) not null default 1; create index item_name on item (name)');
insert into item values (2, 'between', 2);
select courier.replicate_ddl('alter table item rename name to title');
update item set title = 'behind', price = 3 where id = 1;
savepoint a;
select courier.replicate_ddl('alter table item drop title');
insert into item values (3, 3);
rollback to a;
select courier.replicate_ddl('alter table item rename to thing');
insert into thing values (4, 'renamed', 4);
commit;
insert into thing values (5, 'later', 5);
select courier.ship('s') as shipped;
select on_target('select string_agg(t::text, '' '' order by id) from public.thing t') as target, string_agg(t::text, ' ' order by id) as source
from thing t;
select on_target('select indexdef from pg_indexes where indexname = ''item_name''');

-- an old shape that waits in the queue: the node follows it to the new one
insert into thing values (6, 'old shape', 6);
select courier.replicate_ddl('alter table thing drop price; alter table thing add n int');
insert into thing values (7, 'new shape', 7);
update thing set n = id;
select courier.ship('s') as shipped;
select target_columns('public.thing');
select on_target('select string_agg(t::text, '' '' order by id) from public.thing t') = string_agg(t::text, ' ' order by id) as equal from thing t;

-- a subscription gets what its sets get
select courier.replicate_ddl('create table elsewhere (id int)', '{other}');
select courier.replicate_ddl('create table both_of_them (id int)', '{other,default,other}');
select courier.ship('s') as shipped;
select target_columns('public.elsewhere') as elsewhere, target_columns('public.both_of_them') as both_of_them;

-- settings and search_path of the caller hold, also for what comes behind
create schema "My Schema";
select on_target('create schema "My Schema"');
set search_path = "My Schema", public;
set datestyle = 'German, DMY';
set timezone = 'Asia/Tokyo';
set standard_conforming_strings = off;
set escape_string_warning = off;
begin;
select courier.replicate_ddl($$create table dated (id int primary key, day date default '03.02.2001', at timestamptz default '2001-02-03 04:05',
    text text default 'a\'b', check (day > '01.02.1999'))$$);
insert into public.thing values (8, 'behind', 8);
commit;
reset standard_conforming_strings;
reset timezone;
reset datestyle;
reset search_path;
select courier.ship('s') as shipped;
select string_agg(a.attname || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), ''), ', ' order by a.attnum) as source
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = '"My Schema".dated'::regclass and a.attnum > 0;
select on_target($$select string_agg(a.attname || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), ''), ', ' order by a.attnum)
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = '"My Schema".dated'::regclass and a.attnum > 0$$) as target;

-- a command that runs a function which changes the session: not for long
create function public.noisy() returns boolean language sql as
    $$ select set_config('standard_conforming_strings', 'off', false) is not null and set_config('search_path', 'nowhere', false) is not null $$;
select on_target($$create function public.noisy() returns boolean language sql as
    'select set_config(''standard_conforming_strings'', ''off'', false) is not null and set_config(''search_path'', ''nowhere'', false) is not null'$$);
select courier.replicate_ddl('alter table public.thing add constraint quiet check (public.noisy()); alter table public.thing drop constraint quiet');
reset search_path;
reset standard_conforming_strings;
insert into thing values (9, 'back\\slash \n', 9);
select courier.ship('s') as shipped;
select on_target('select title from public.thing where id = 9') as title;
drop function public.noisy;

-- SET LOCAL holds for the command
grant usage, create on schema "My Schema" to regress_courier_other;
begin;
select courier.replicate_ddl('set local search_path = "My Schema"; set local role regress_courier_other; create table set_locally (id int)');
select current_setting('search_path') as search_path, current_setting('role') as role;
rollback;

-- the caller's role owns what it creates; one that the link may not be is told
grant usage, create on schema public to regress_courier_other;
select on_target('grant create on schema public to regress_courier_other');
do $$ begin execute format('grant %I to regress_courier_other', (select pg_get_userbyid(extowner) from pg_extension where extname = 'pg_courier')); end $$;
set role regress_courier_other;
select courier.replicate_ddl('create table public.owned (id int primary key)');
reset role;
select courier.ship('s') as shipped;
select on_target('select tableowner || '' '' || (select current_user) from pg_tables where tablename = ''owned''') = 'regress_courier_other ' || current_user as owned;

-- the node refuses: stopped at the command, nothing of its transaction applied
begin;
insert into thing values (20, 'with it', 1);
select courier.replicate_ddl('alter table thing add extra int');
insert into thing values (21, 'behind it', 1, 21);
commit;
insert into thing values (22, 'later', 1, 22);
select on_target('alter table public.thing add extra text');
select code, message, hint from ship_error();
select on_target('select count(*) from public.thing where id >= 20');
select on_target('alter table public.thing drop extra');
select courier.ship('s') as shipped;
select on_target('select string_agg(t::text, '' '' order by id) from public.thing t') = string_agg(t::text, ' ' order by id) as equal from thing t;

-- and so is one whose transaction is to be set aside: never by itself …
select courier.alter_subscription_options('s', '{"on_error": "dead_letter"}');
select on_target('create table public.taken (id int)');
begin;
select pg_current_xact_id() as xid \gset
select courier.replicate_ddl('create table public.taken (id int primary key); create unique index on public.taken (id)');
insert into thing values (30, 'beside it', 1, 30);
commit;
insert into thing values (31, 'behind', 1, 31);
select code, message, hint from ship_error();
-- … also if a row of it is at fault
select on_target('drop table public.taken; alter table public.thing add check (id <> 30)');
select code, message, hint ~ 'holds DDL' as says_why from ship_error();
-- by a person's will, with the command kept to be read
select courier.skip_transaction('s', :'xid') is not null as letter;
select courier.ship('s') as shipped;
select courier.ship('s') as shipped;
select state, jsonb_path_query_array(changes, '$[*].op') as ops, changes #>> '{0,command}' as command, changes #>> '{0,role}' = current_user as role
from courier.dead_letter;
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter;
select courier.ship('s') as shipped;
select state, error_sqlstate, error, error_hint from courier.dead_letter;
select on_target('alter table public.thing drop constraint thing_id_check; create table public.taken (id int primary key)');
select courier.retry_dead_letter(dead_letter_id, changes - 0) from courier.dead_letter;
select courier.ship('s') as shipped;
select state, applied_changes from courier.dead_letter;
select on_target('select string_agg(t::text, '' '' order by id) from public.thing t') = string_agg(t::text, ' ' order by id) as equal from thing t;

-- a role that the node does not have, or that the link's role cannot be
create role regress_courier_link login;
select courier.drop_subscription('s');
select on_target('grant create on database regress_courier_ddl to regress_courier_link');
select on_target('grant select, insert, update, delete on all tables in schema public to regress_courier_link');
select on_target('alter table public.thing owner to regress_courier_link');
select courier.create_node('poor', :'server' || ' user=regress_courier_link');
select courier.create_subscription('s', 'poor', copy_data => false) is not null as created;
select courier.replicate_ddl('comment on table public.thing is ''by ' || current_user || '''');
select code, replace(message, current_user, 'ME') as message, replace(hint, current_user, 'ME') as hint from ship_error();
select courier.alter_subscription_options('s', '{"ddl_role": "link"}');
select courier.ship('s') as shipped;
select on_target('select obj_description(''public.thing''::regclass)') = 'by ' || current_user as commented;
create role regress_courier_gone;
do $$ begin execute format('grant %I to regress_courier_gone', (select pg_get_userbyid(extowner) from pg_extension where extname = 'pg_courier')); end $$;
select courier.alter_subscription_options('s', '{"ddl_role": null}');
set role regress_courier_gone;
select courier.replicate_ddl('create table public.orphan (id int)');
reset role;
drop owned by regress_courier_gone;
drop role regress_courier_gone;
select code, message, hint from ship_error();

-- values that each side computes for itself
select courier.replicate_ddl('alter table thing add r float default random()');
select courier.replicate_ddl('alter table thing add s serial');
select courier.replicate_ddl('alter table thing add at timestamptz default now()');
select courier.replicate_ddl('alter table thing add t int generated always as identity');
select courier.replicate_ddl('alter table thing alter n type text using n::text || clock_timestamp()::text');
select courier.replicate_ddl('alter table thing add fixed int default abs(-1)');

-- DROP EXTENSION takes the passwords of nodes along
set client_min_messages = error; -- the warning bears a random key
drop extension pg_courier;
set client_min_messages = warning;
select srvname from pg_foreign_server where srvname like 'courier\_%';
drop table thing, elsewhere, both_of_them, owned, taken;
drop schema "My Schema" cascade;
drop type mood;
drop function on_target, ship_error, target_columns;
drop database regress_courier_ddl;
drop owned by regress_courier_other;
drop role regress_courier_other, regress_courier_link;
