-- courier.copy_table(): both directions, every kind of source, what is refused,
-- and going on behind the last chunk.
\set SHOW_CONTEXT never
set client_min_messages = warning;
set datestyle = 'Postgres, DMY';
set timezone = 'Asia/Tokyo';
set extra_float_digits = -5;
select current_database() as source \gset
drop database if exists regress_courier_copy;
create database regress_courier_copy;
create extension if not exists pg_courier cascade;
select courier.create_node('eu', format('host=%s port=%s dbname=regress_courier_copy user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user));
select dblink_connect('eu', (select server_name::text from courier.node));
create function public.on_node(command text) returns void language plpgsql as $$
begin
    perform dblink_exec('eu', command);
end
$$;
create function public.there(query text) returns setof text language sql as $$
    select v from dblink('eu', query) d (v text)
$$;
-- the rows of a table, whatever the order, here and on the node
create function public.same(here text, there text) returns boolean language plpgsql
set datestyle = 'ISO' set timezone = 'UTC' set extra_float_digits = 1 set intervalstyle = 'postgres' as $$
declare
    a text;
    b text;
begin
    perform on_node('set datestyle = ''ISO''; set timezone = ''UTC''; set extra_float_digits = 1; set intervalstyle = ''postgres''');
    execute format('select count(*) || md5(coalesce(string_agg(md5(t::text), ''|'' order by md5(t::text) collate "C"), '''')) from %s t', here) into a;
    select v into b from there(format('select count(*) || md5(coalesce(string_agg(md5(t::text), ''|'' order by md5(t::text) collate "C"), '''')) from %s t', there)) v;
    return a = b;
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
create view public.progress as
    select direction, source, target, state, rows, chunks, last_error_sqlstate from courier.copy_table_status order by copy_id;
create schema staging;

select public.on_node($$
create type mood as enum ('sad', 'ok');
create schema "Odd 'one'";
create table "Odd 'one'"."Tab ""le" ("I d" int, "na""me" text, at timestamptz, took interval, weight float8, data bytea,
    list text[], mood_is mood, doc json, price numeric(10,2), flag bool, code char(4), primary key (code, "I d"));
insert into "Odd 'one'"."Tab ""le" select i, case when i % 5 = 0 then null else E'it''s \\ "quoted" ' || i end, now() + i * interval '1 h',
    i * interval '90 min', i / 7.0, decode(md5(i::text), 'hex'), array['a', null, 'b,"' || i], 'ok', '{"a": 1}', i / 3.0, i % 2 = 0,
    'c' || i % 3 from generate_series(1, 1000) i;
create table plain (v int, w text);
insert into plain select i % 100, repeat('x', 100) || i from generate_series(1, 3000) i;
create table part (id int, v text) partition by range (id);
create table part_1 partition of part for values from (1) to (500);
create table part_2 partition of part for values from (500) to (2000);
insert into part select i, 'p' || i from generate_series(1, 1000) i;
create table parent (id int, v text);
create table child (more int) inherits (parent);
insert into parent select i, 'parent' from generate_series(1, 100) i;
insert into child select i, 'child', i from generate_series(1, 100) i;
create view seen as select "I d" as id, at from "Odd 'one'"."Tab ""le";
create table gen (id int generated always as identity primary key, v int, doubled int generated always as (v * 2) stored);
insert into gen (v) select generate_series(1, 50);
create table empty (id int primary key);
create table typed (id int primary key, p mood)$$);
create type mood as enum ('sad', 'ok');

-- pull: a table that is made for it, of the node's types; a second call finds rows
select courier.copy_table('eu', '"Odd ''one''"."Tab ""le"', 'staging.odd', '{"chunk_rows": 100}');
select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'staging.odd'::regclass and attnum > 0 order by attnum;
select same('staging.odd', '"Odd ''one''"."Tab ""le"');
select * from progress;
select * from error_of($$select courier.copy_table('eu', '"Odd ''one''"."Tab ""le"', 'staging.odd')$$);
select courier.copy_table('eu', '"Odd ''one''"."Tab ""le"', 'staging.odd', '{"on_existing": "truncate"}');
select same('staging.odd', '"Odd ''one''"."Tab ""le"');
select courier.copy_table('eu', '"Odd ''one''"."Tab ""le"', 'staging.odd', '{"on_existing": "append"}');
select count(*) from staging.odd;

-- push it, into a table that is there
select public.on_node($$create table back (like "Odd 'one'"."Tab ""le" including all)$$);
truncate staging.odd;
select courier.copy_table('eu', '"Odd ''one''"."Tab ""le"', 'staging.odd', '{"direction": "pull"}');
alter table staging.odd add primary key (code, "I d");
select courier.copy_table('eu', 'staging.odd', 'back', '{"chunk_rows": 300}');
select same('staging.odd', 'back');
-- nothing is left of it on the node
select there('select count(*) from pg_namespace where nspname = ''courier_target''');

-- without a key: by place, also of partitions and children; no chunk is larger than it may be
select courier.copy_table('eu', 'plain', 'staging.plain', '{"chunk_bytes": 16384}');
select same('staging.plain', 'plain');
select courier.copy_table('eu', 'part', 'staging.part');
select same('staging.part', 'part');
select courier.copy_table('eu', 'parent', 'staging.parent');
select same('staging.parent', 'parent');
select public.on_node('create table plain_back (like plain)');
select courier.copy_table('eu', 'staging.plain', 'plain_back', '{"chunk_rows": 500}');
select same('staging.plain', 'plain_back');
-- a key that is not one: rows of one value stay together
select courier.copy_table('eu', 'plain', 'staging.plain_by', '{"key": "v", "chunk_rows": 70}');
select same('staging.plain_by', 'plain');
select courier.copy_table('eu', 'empty', 'staging.empty');
select chunks > 1 as chunks, target from progress where target like 'staging.plain%' order by target;

-- views and queries: with a key in chunks, without in one
select courier.copy_table('eu', 'seen', 'staging.seen', '{"key": "id", "chunk_rows": 100}');
select courier.copy_table('eu', 'seen', 'staging.seen_once', '{"columns": ["id"]}');
select courier.copy_table('eu', '(select id, count(*) as "How many", max(at::date) as day from seen group by 1)',
                          'staging.counted', '{"key": ["id"], "chunk_rows": 250}');
select courier.copy_table('eu', $$ ( select 1 as one, 'x' as two, null as three -- a remark
)$$, 'staging.tiny');
select * from staging.tiny;
select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'staging.counted'::regclass and attnum > 0 order by attnum;
select target, rows, chunks from progress where target ~ 'seen|counted|tiny';

-- of a query, types that are not in pg_catalog, and arrays of them
select courier.copy_table('eu', '(select 1 as id, ''ok''::mood as p, array[''sad'', null]::mood[] as q, array[1] as a, now() - now() as i)', 'staging.moods');
select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'staging.moods'::regclass and attnum > 0 order by attnum;
select * from staging.moods;

-- computed columns are left to the target, those it has more get their defaults
create table staging.gen (doubled int generated always as (v * 3) stored, v bigint, id int generated always as identity, more text default 'd');
select courier.copy_table('eu', 'gen', 'staging.gen');
select * from staging.gen where id in (1, 50) order by id;
-- names of this database are the caller's, and of the node public's
set search_path = staging, public;
select courier.copy_table('eu', 'gen', 'fresh', '{"direction": "pull", "columns": ["v", "id"]}');
reset search_path;
select count(*), max(v) from staging.fresh;

-- rows too large for a statement, with others of their key: in pieces
select public.on_node($$
create table "Odd 'one'"."Lar'ge" as select t.*, 1 as kind, null::text as "fill""er" from "Odd 'one'"."Tab ""le" t where "I d" <= 10;
insert into "Odd 'one'"."Lar'ge" select t.*, 1 + "I d" % 2, repeat(E'\u00e4\\ ''$"', 720000) from "Odd 'one'"."Tab ""le" t where "I d" between 20 and 21;
insert into "Odd 'one'"."Lar'ge" (data, kind) select convert_to(repeat('bytes', 850000), 'UTF8'), 3;
insert into "Odd 'one'"."Lar'ge" (list, kind) select array[null, repeat('x ', 2200000)], 3;
insert into "Odd 'one'"."Lar'ge" (kind, "fill""er") values (3, ''), (4, null);
alter table "Odd 'one'"."Lar'ge" alter kind set not null$$);
select courier.copy_table('eu', '"Odd ''one''"."Lar''ge"', 'staging.large', '{"key": "kind", "chunk_rows": 2}');
select same('staging.large', '"Odd ''one''"."Lar''ge"');
select courier.copy_table('eu', '"Odd ''one''"."Lar''ge"', 'staging.large_place', '{"chunk_bytes": 8192}');
select same('staging.large_place', '"Odd ''one''"."Lar''ge"');
create table staging.large_whole (like staging.large);
select courier.copy_table('eu', '(select * from "Odd ''one''"."Lar''ge")', 'staging.large_whole');
select same('staging.large_whole', '"Odd ''one''"."Lar''ge"');
select rows, chunks from progress where target = 'staging.large';
-- as text they are what small ones are
create table staging.large_texts (kind text, flag text, code text, address text, list text, data text);
select public.on_node($$
create table typed_large as select i as kind, true as flag, 'c'::char(3) as code, '10.0.0.1'::inet as address,
    array[null, repeat('x', i * 4500000)] as list, null::bytea as data from generate_series(0, 1) i$$);
select courier.copy_table('eu', 'typed_large', 'staging.large_texts', '{"key": "kind"}');
select kind, flag, code || '.' as code, address, length(list), data from staging.large_texts order by kind;
-- in pieces to the node, which refuses one at first; as text in another encoding
select public.on_node($$create table large_back (like "Odd 'one'"."Lar'ge", constraint small check (kind < 3))$$);
select * from error_of($$select courier.copy_table('eu', 'staging.large', 'large_back', '{"key": "kind", "chunk_rows": 1}')$$);
select there('select rows || '' '' || chunks from courier_target.table_copy'), there('select count(*) from large_back');
select public.on_node('alter table large_back drop constraint small');
select courier.copy_table('eu', 'staging.large', 'large_back', '{"key": "kind", "chunk_rows": 1}');
select same('staging.large', 'large_back');
select courier.copy_table('eu', 'staging.large_place', 'large_back', '{"on_existing": "truncate", "chunk_bytes": 8192}');
select same('staging.large', 'large_back');
create database regress_courier_copy_latin encoding 'LATIN1' locale 'C' template template0;
select courier.create_node('latin', format('host=%s port=%s dbname=regress_courier_copy_latin user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user));
select courier.copy_table('eu', '(select kind, "fill""er" as w from "Odd ''one''"."Lar''ge")', 'staging.large_text');
select dblink_exec((select server_name::text from courier.node where node_name = 'latin'), 'create table large_text (kind int, w text)');
select courier.copy_table('latin', 'staging.large_text', 'large_text', '{"key": "kind"}');
select courier.copy_table('latin', 'large_text', 'staging.large_again', '{"key": "kind", "direction": "pull"}');
select count(*), count(distinct w) from (table staging.large_text union all table staging.large_again) t;
select courier.forget_copies('latin');
select courier.drop_node('latin');
drop database regress_courier_copy_latin;

-- a chunk that fails: those before it are there, the next call goes on behind them
create table staging.checked ("I d" int, code text, constraint small check ("I d" < 500));
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.checked', '{"columns": ["v"]}')$$);
select public.on_node('create view numbered as select "I d", code from "Odd ''one''"."Tab ""le"');
select * from error_of($$select courier.copy_table('eu', 'numbered', 'staging.checked', '{"key": "I d", "chunk_rows": 100}')$$);
select * from progress where target = 'staging.checked';
-- another copy into it, and one that is not the same
select * from error_of($$select courier.copy_table('eu', 'gen', 'staging.checked')$$);
select * from error_of($$select courier.copy_table('eu', 'numbered', 'staging.checked', '{"key": ["code", "I d"]}')$$);
alter table staging.checked drop constraint small;
select courier.copy_table('eu', 'numbered', 'staging.checked', '{"key": "I d", "chunk_rows": 200}');
select * from progress where target = 'staging.checked';
select same('(select "I d", code::char(4) from staging.checked)', 'numbered');
-- the same for a push, whose progress the node has
select public.on_node('create table narrow (v int, w text, constraint small check (v < 50))');
alter table staging.plain add id int generated always as identity primary key;
select * from error_of($$select courier.copy_table('eu', 'staging.plain', 'narrow', '{"columns": ["v", "w"], "key": ["v", "id"], "chunk_rows": 500}')$$);
select * from progress where target = 'public.narrow';
select there('select rows || '' '' || chunks from courier_target.table_copy'), there('select count(*) from narrow');
select * from error_of($$select courier.drop_node('eu')$$);
select public.on_node('alter table narrow drop constraint small');
select courier.copy_table('eu', 'staging.plain', 'narrow', '{"columns": ["v", "w"], "key": ["v", "id"]}');
select same('(select v, w from staging.plain)', 'narrow');
select there('select count(*) from pg_namespace where nspname = ''courier_target''');
-- without a key it goes on only if nothing has changed
create table staging.limited (v int, w text, constraint small check (w not like '%2000'));
select code, message from error_of($$select courier.copy_table('eu', 'plain', 'staging.limited', '{"chunk_bytes": 16384}')$$);
select rows > 0 as some, rows < 2000 as not_all from progress where target = 'staging.limited';
alter table staging.limited drop constraint small;
select public.on_node('update plain set v = 7 where w like ''%2999''');
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.limited')$$);
select courier.copy_table('eu', 'plain', 'staging.limited', '{"restart": true, "on_existing": "truncate"}');
select same('staging.limited', 'plain');
-- emptied meanwhile
create table staging.lost (v int, w text, constraint small check (w not like '%2000'));
select code from error_of($$select courier.copy_table('eu', 'plain', 'staging.lost', '{"chunk_bytes": 16384}')$$);
truncate staging.lost;
alter table staging.lost drop constraint small;
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.lost')$$);
-- made anew meanwhile: it begins again
drop table staging.lost;
select courier.copy_table('eu', 'plain', 'staging.lost');

-- which way
create table public.empty (id int primary key);
select * from error_of($$select courier.copy_table('eu', 'empty', 'staging.empty')$$);
select courier.copy_table('eu', 'public.empty', 'empty', '{"direction": "push"}');
select * from error_of($$select courier.copy_table('eu', 'staging.plain', 'staging.new')$$);
select * from error_of($$select courier.copy_table('eu', '(select 1 as a)', 'empty', '{"direction": "push"}')$$);
select * from error_of($$select courier.copy_table('eu', 'nowhere', 'empty', '{"direction": "push"}')$$);

-- bad input changes nothing
select * from error_of($$select courier.copy_table('nosuch', 'empty', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', null, 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'nowhere', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'nowhere.x')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'a.b.c')$$);
select * from error_of($$select courier.copy_table('eu', '(select 1 as a', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'pla"in', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', '(select from where)', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', '(select 1, 2)', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"key": "nope"}')$$);
select * from error_of($$select courier.copy_table('eu', '(select doc, mood_is from "Odd ''one''"."Tab ""le")', 'staging.x', '{"key": "doc"}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"columns": ["nope"]}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"chunk_rows": 0}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"key": ["v", "v"]}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"speed": 9}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '{"on_existing": "merge"}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', '[]')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x', null)$$);
select * from error_of($$select courier.copy_table('eu', 'gen_id_seq', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'courier.node', '{"direction": "pull"}')$$);
create table staging.short (v int, must int not null, w text);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.short')$$);
create table staging.wrong (v date, w text);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.wrong')$$);
drop type mood cascade;
select * from error_of($$select courier.copy_table('eu', 'typed', 'staging.typed')$$);
create view staging.viewed as select 1 as id;
select public.on_node('create table viewed (id int)');
select * from error_of($$select courier.copy_table('eu', 'staging.viewed', 'viewed')$$);
create temp table passing (id int);
select code, regexp_replace(message, '^pg_temp_\d+', 'pg_temp') as message, hint from error_of($$select courier.copy_table('eu', 'passing', 'viewed')$$);
create table staging.nokey (v int, w text);
select * from error_of($$select courier.copy_table('eu', 'staging.nokey', 'plain')$$);
select to_regclass('staging.x'), count(*) from courier.table_copy where target = 'staging.x';
select count(*) from courier.table_copy where rows = 0 and chunks = 0 and finished_at is null;

-- what the node's role may not do, and the caller
create role regress_courier_plain login;
create role regress_courier_member;
select pg_get_userbyid(extowner) as owner from pg_extension where extname = 'pg_courier' \gset
grant :"owner" to regress_courier_member;
create schema closed;
create table staging.few (v int primary key, w text);
insert into staging.few values (1, 'one');
grant usage on schema staging to regress_courier_member;
alter schema closed owner to regress_courier_plain;
select public.on_node('create schema closed; create table closed.item (v int primary key, w text); create table kept (v int primary key, w text); insert into kept values (7, ''kept''); grant select, insert on kept to regress_courier_plain');
alter user mapping for public server courier_eu options (set user 'regress_courier_plain');
select * from error_of($$select courier.copy_table('eu', 'closed.item', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', '(select * from plain)', 'staging.x')$$);
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'closed.item')$$);
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'plain')$$);
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'kept', '{"on_existing": "truncate"}')$$);
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'kept', '{"on_existing": "append"}')$$);
alter user mapping for public server courier_eu options (set user :'USER');
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'kept')$$);
select there('select array_agg(k)::text from kept k'), there('select count(*) from pg_namespace where nspname = ''courier_target''');
set role regress_courier_member;
select code, message, replace(hint, quote_ident(current_user), 'ME') as hint from error_of($$select courier.copy_table('eu', 'plain', 'closed.x')$$);
reset role;
-- types that do not fit are found before the target is emptied
select public.on_node('create table dated (v date primary key, w text); insert into dated values (''2026-01-01'', ''kept'')');
select * from error_of($$select courier.copy_table('eu', 'staging.few', 'dated', '{"on_existing": "truncate"}')$$);
select there('select count(*) from dated');
select * from error_of($$select courier.copy_table('eu', 'dated', 'staging.few', '{"on_existing": "truncate", "direction": "pull"}')$$);
select * from staging.few;
select public.on_node('drop owned by regress_courier_plain; drop table closed.item; drop schema closed');
drop schema closed;
drop owned by regress_courier_member;
drop role regress_courier_plain, regress_courier_member;

-- in a transaction that holds what the copy needs; with another's lock
begin;
create table staging.mine (v int, w text);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.mine')$$);
rollback;
begin isolation level repeatable read;
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.mine')$$);
rollback;
begin read only;
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.mine')$$);
rollback;
create table staging.held (v int, w text);
select dblink_connect('other', (select format('dbname=%s host=%s port=%s user=%s', current_database(),
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'), current_setting('port'), current_user)));
select dblink_exec('other', 'begin; lock table staging.held in share mode');
set lock_timeout = '200ms';
select code, message from error_of($$select courier.copy_table('eu', 'plain', 'staging.held')$$);
reset lock_timeout;
select dblink_exec('other', 'commit');
select courier.copy_table('eu', 'plain', 'staging.held');
select dblink_disconnect('other');

-- nowhere to create it; nothing to copy
set search_path = '';
select * from public.error_of($$select courier.copy_table('eu', 'public.plain', 'nowhere')$$);
reset search_path;
create table staging.columnless ();
select public.on_node('create table columnless ()');
select courier.copy_table('eu', 'staging.columnless', 'columnless', '{"direction": "push"}');
select * from error_of($$select courier.copy_table('eu', 'columnless', 'staging.columnless', '{"direction": "pull"}')$$);
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.columnless', '{"direction": "pull"}')$$);
select * from error_of($$select courier.copy_table('eu', '(select from plain)', 'staging.columnless')$$);
-- the node has lost what it knew of a copy that was cut short
create table staging.brief as select i as v, 'w' || i as w from generate_series(1, 500) i;
alter table staging.brief add primary key (v);
select public.on_node('create table brief (v int primary key check (v < 350), w text)');
select code from error_of($$select courier.copy_table('eu', 'staging.brief', 'brief', '{"chunk_rows": 100}')$$);
select there('select count(*) from brief');
select public.on_node('drop schema courier_target cascade; alter table brief drop constraint brief_v_check');
select * from error_of($$select courier.copy_table('eu', 'staging.brief', 'brief', '{"chunk_rows": 100}')$$);
select there('select count(*) from brief');
select courier.copy_table('eu', 'staging.brief', 'brief', '{"restart": true, "on_existing": "truncate"}');

-- for administrators
create role regress_courier_nobody;
grant usage on schema staging to regress_courier_nobody;
set role regress_courier_nobody;
select * from error_of($$select courier.copy_table('eu', 'plain', 'staging.x')$$);
select * from error_of($$select courier.forget_copies('eu')$$);
select count(*) > 10 as copies, count(source) as sources, count(last_error) as errors from courier.copy_table_status;
reset role;
revoke usage on schema staging from regress_courier_nobody;
drop role regress_courier_nobody;

-- a node that is down
select courier.create_node('dead', 'host=/nonexistent');
select code, message, hint from error_of($$select courier.copy_table('dead', 'plain', 'staging.x')$$);
select courier.drop_node('dead');

select courier.forget_copies('eu') > 10 as forgotten;
select count(*) from courier.copy_table_status;
select courier.drop_node('eu');
select dblink_disconnect('eu');
drop schema staging cascade;
drop table public.empty;
drop view public.progress;
drop function on_node(text), there(text), same(text, text), error_of(text);
drop database regress_courier_copy;
