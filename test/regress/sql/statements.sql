-- Every kind of statement arrives: after each section both sides hold equal rows.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source, current_setting('server_version_num')::int >= 150000 as has_merge \gset
drop database if exists regress_courier_statements;
create schema shop;
create table shop.item (id int primary key, name text, quantity int default 0, note text);
create table shop.line (id int primary key, item_id int references shop.item on delete cascade on update cascade, v text);
create table shop.history (what text, item_id int);
create table shop.touched (id int primary key, v text);
create table shop.numbered (id int generated always as identity primary key, gone text, a int, twice int generated always as (a * 2) stored, c text);
alter table shop.numbered drop column gone;
create table shop.pair (a int, b text, c date, v int, primary key (c, a, b));
create table shop.swap (id int primary key, u int unique, d int unique deferrable, v text);
create table shop.bag (a int, b text, c jsonb);
alter table shop.bag replica identity full;
create table shop.by_index (v text, code text not null, n int);
create unique index by_index_code on shop.by_index (code);
alter table shop.by_index replica identity using index by_index_code;
create table shop.big (id int primary key, v int, large text, also text);
alter table shop.big alter large set storage external, alter also set storage external;
create table shop.reordered (a int primary key, b text, c text);
create table shop.part (id int, region text, v text, primary key (id, region)) partition by list (region);
create table shop.part_eu partition of shop.part for values in ('eu');
create table shop.part_us (v text, gone int, region text not null, id int not null);
alter table shop.part_us drop column gone;
alter table shop.part attach partition shop.part_us for values in ('us');
create table shop.changing (id int primary key, a text, gone text);
create table shop.some (id int primary key, a text, secret text, b text);
create table shop.conflict (id int primary key, v text, w text);
create schema "odd ""schema""";
create table "odd ""schema"""."ta ble 'ä€" ("key 1" int, "kéy ""2""" text, "v'al" text, primary key ("kéy ""2""", "key 1"));

-- the target begins as a copy of this database; some tables are different there
\c postgres
create database regress_courier_statements template :"source";
\c regress_courier_statements
set client_min_messages = warning;
drop table shop.part;
create table shop.part (id int, region text, v text, primary key (id, region));
drop table shop.reordered;
create table shop.reordered (extra text default 'made here', c text, stamp int generated always as (a + 1) stored, b text, more text, a int primary key);
alter table shop.some drop column secret;
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select courier.create_node('eu', format('host=%s port=%s dbname=regress_courier_statements user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user));
select courier.create_replication_set('inserts', replicate_update => false, replicate_delete => false, replicate_truncate => false);
select courier.replication_set_add_table('inserts', 'shop.history');
select courier.replication_set_add_table('default', r::regclass)
from unnest('{item,line,touched,numbered,pair,swap,bag,by_index,big,reordered,part,changing}'::text[]) t, format('shop.%I', t) r;
select courier.replication_set_add_table('default', '"odd ""schema"""."ta ble ''ä€"');
select courier.replication_set_add_table('default', 'shop.some', columns => '{id,a,b}');
select courier.create_subscription('s', 'eu', '{default,inserts}', copy_data => false) is not null as created;

-- the rows of a table on both sides: equal or which differ
create function public.compare(variadic tables text[]) returns table (name text, row_count int, verdict text)
language plpgsql set datestyle = iso as $$
declare
    here text[];
    there text[];
    rows_of text;
    column_list text;
begin
    foreach name in array tables loop
        column_list := case name when 'shop.reordered' then 'a, b, c' when 'shop.some' then 'id, a, b'
                       when 'shop.part' then 'id, region, v' else '*' end;
        rows_of := format('select array(select format(''%%s'', r) from (select %s from %s) r order by 1)', column_list, name);
        execute rows_of into here;
        select d.r into there from dblink('courier_eu', rows_of) d (r text[]);
        row_count := cardinality(here);
        verdict := case when here = there then 'equal' else format('here %s, there %s', here, there) end;
        return next;
    end loop;
end
$$;

-- plain ones, and COPY
insert into shop.item values (1, 'one', null, null), (2, 'two', 2, 'x'), (3, null, 3, '');
insert into shop.item (id) select generate_series(4, 9);
copy shop.item (id, name, note) from stdin;
10	ten	\N
11	a\tb	\\N
12		''
\.
update shop.item set name = 'all ' || id where id < 3;
update shop.item set note = null where id = 2;
delete from shop.item where id in (5, 6);
insert into shop.history values ('made', 1), ('made', 1), (null, null);
select courier.ship('s') as shipped;
select * from compare('shop.item', 'shop.history');

-- INSERT ... ON CONFLICT, MERGE
insert into shop.item values (1, 'again', 1), (20, 'fresh', 1) on conflict (id) do update set quantity = item.quantity + 1, name = excluded.name;
insert into shop.item values (1, 'not this') on conflict do nothing;
\if :has_merge
merge into shop.item i using (values (2, 'merged'), (3, null), (21, 'merged')) m (id, name) on i.id = m.id
when matched and m.name is null then delete when matched then update set name = m.name when not matched then insert values (m.id, m.name);
\else
delete from shop.item where id = 3;
insert into shop.item values (2, 'merged'), (21, 'merged') on conflict (id) do update set name = excluded.name;
\endif
select courier.ship('s') as shipped;
select * from compare('shop.item');
table shop.item order by id limit 2;

-- a user's triggers, whose names sort before and after
create function shop.touch() returns trigger language plpgsql as $$
begin
    update shop.touched set v = v || '+' || tg_name where id = new.id and length(v) < 40;
    return null;
end
$$;
create trigger aa_touch after insert on shop.touched for each row execute function shop.touch();
create trigger zz_touch after insert or update on shop.touched for each row execute function shop.touch();
insert into shop.touched values (1, 'v'), (2, 'w');
select courier.ship('s') > 0 as shipped;
select * from compare('shop.touched');

-- what foreign keys do
insert into shop.line select i, case when i % 2 = 0 then 1 else 2 end, 'line ' || i from generate_series(1, 6) i;
delete from shop.item where id = 1;
update shop.item set id = 102 where id = 2;
insert into shop.item values (1, 'back');
insert into shop.line values (7, 1, 'to the one that is back');
select courier.ship('s') as shipped;
select * from compare('shop.item', 'shop.line');

-- writable CTEs, rules
with gone as (delete from shop.line where id < 4 returning *), noted as (insert into shop.history select v, item_id from gone)
update shop.item set note = 'had lines' where id in (select item_id from gone);
create view shop.named as select id, name from shop.item;
create rule named_insert as on insert to shop.named do instead insert into shop.item values (new.id, new.name);
create rule item_note as on update to shop.item do also insert into shop.history values ('rule', new.id);
insert into shop.named values (30, 'by rule'), (31, 'by rule');
update shop.item set quantity = 7 where id = 30;
drop rule item_note on shop.item;
select courier.ship('s') as shipped;
select * from compare('shop.item', 'shop.line', 'shop.history');

-- savepoints and exceptions: only what survives
begin;
insert into shop.pair values (1, 'kept', '2024-01-01', 1);
savepoint a;
insert into shop.pair values (2, 'lost', '2024-01-01', 1);
savepoint b;
insert into shop.pair values (3, 'lost', '2024-01-01', 1);
release b;
rollback to a;
insert into shop.pair values (4, 'kept', '2024-01-01', 1);
savepoint c;
update shop.pair set v = 2;
release c;
savepoint d;
savepoint e;
delete from shop.pair;
rollback to e;
update shop.pair set v = v + 10 where a = 1;
commit;
do $$
begin
    for i in 10 .. 20 loop
        begin
            insert into shop.pair values (i, 'loop', '2024-02-02', i);
            perform 1 / (i % 3);
        exception when division_by_zero then
            insert into shop.pair values (i, 'caught', '2024-02-02', i);
        end;
    end loop;
end
$$;
begin;
insert into shop.pair values (99, 'never', '2024-01-01', 1);
rollback;
select courier.ship('s') as shipped;
select * from compare('shop.pair');
select a, b, v from shop.pair where a < 13 order by a;

-- keys: composite, changed, swapped; a unique column swapped
update shop.pair set b = b || '!', c = c + 1 where v > 12;
update shop.pair set a = a + 1000;
update shop.pair set a = a - 1000 where a < 1012;
insert into shop.swap select i, i, i, 'row ' || i from generate_series(1, 6) i;
select courier.ship('s') as shipped;
begin;
update shop.swap set id = -1 where id = 1;
update shop.swap set id = 1 where id = 2;
update shop.swap set id = 2 where id = -1;
commit;
begin;
set constraints all deferred;
update shop.swap set d = 3 where id = 4;
update shop.swap set d = 4 where id = 3;
commit;
begin;
update shop.swap set u = null where id = 5;
update shop.swap set u = 5 where id = 6;
update shop.swap set u = 6 where id = 5;
commit;
begin;
delete from shop.swap where id = 1;
update shop.swap set id = 1, u = 100 where id = 3;
insert into shop.swap values (3, 101, 101, 'another 3');
commit;
select courier.ship('s') as shipped;
select * from compare('shop.pair', 'shop.swap');
table shop.swap order by id;

-- unchanged TOAST: an update that leaves it alone does not send it, and does not harm it
insert into shop.big select i, i, repeat(md5(i::text), 2000), repeat(md5(i::text), 3000) from generate_series(1, 3) i;
select courier.ship('s') as shipped;
update shop.big set v = v + 1;
update shop.big set also = 'short' where id = 2;
update shop.big set large = large || '.' where id = 3;
select sum(bytes) < 150000 as little from (select length(data) as bytes from courier.queue_0 order by k desc, xid desc limit 20) q;
select courier.ship('s') as shipped;
-- filled and changed before it was shipped; a key changed
insert into shop.big values (4, 4, repeat('large', 5000), repeat('also', 5000));
update shop.big set v = v + 1;
update shop.big set id = id + 100, also = repeat('new', 5000) where id in (1, 4);
update shop.big set large = null where id = 2;
select courier.ship('s') as shipped;
select * from compare('shop.big');

-- generated, identity and dropped columns; other columns, in another order, on the target
insert into shop.numbered (a, c) select i, 'c' || i from generate_series(1, 5) i;
insert into shop.numbered (id, a) overriding system value values (50, 50);
update shop.numbered set a = a + 1 where id < 3;
delete from shop.numbered where id = 4;
insert into shop.reordered values (1, 'b1', 'c1'), (2, 'b2', null), (3, null, 'c3');
update shop.reordered set c = 'changed' where a > 1;
insert into shop.some values (1, 'a', 'secret', 'b'), (2, 'a', 'secret', 'b');
update shop.some set secret = 'other';
update shop.some set b = 'bb' where id = 2;
select courier.ship('s') as shipped;
select * from compare('shop.numbered', 'shop.reordered', 'shop.some');
select * from dblink('courier_eu', 'select a, extra, stamp, more from shop.reordered') d (a int, extra text, stamp int, more text) order by a;

-- no key: whole rows, also equal ones and NULLs; a key by index
insert into shop.bag values (1, 'same', '{"a": 1.0}'), (1, 'same', '{"a": 1.0}'), (1, 'same', '{"a": 1.0}'), (2, null, null), (2, null, null), (null, null, null), (3, '', '[]');
select courier.ship('s') as shipped;
delete from shop.bag where ctid = (select min(ctid) from shop.bag where a = 1);
update shop.bag set b = 'other' where ctid = (select max(ctid) from shop.bag where a = 1);
update shop.bag set b = 'was null' where ctid = (select min(ctid) from shop.bag where a = 2);
update shop.bag set c = '{"n": null}' where a is null;
insert into shop.bag values (4, 'made and gone', null);
delete from shop.bag where a = 4;
insert into shop.by_index values ('v', 'a', 1), (null, 'b', 2), ('w', 'c', 3);
update shop.by_index set n = n * 10, v = null where code < 'c';
update shop.by_index set code = 'z' where code = 'a';
delete from shop.by_index where code = 'c';
select courier.ship('s') as shipped;
select * from compare('shop.bag', 'shop.by_index');

-- partitions here, a plain table there
insert into shop.part values (1, 'eu', 'one'), (2, 'us', 'two'), (3, 'eu', 'three');
insert into shop.part_us (id, region, v) values (4, 'us', 'straight');
select courier.ship('s') as shipped;
update shop.part set region = 'us', v = 'moved' where id = 1;
update shop.part set region = case region when 'eu' then 'us' else 'eu' end where id in (2, 3);
update shop.part_us set v = 'straight again' where id = 4;
create table shop.part_asia partition of shop.part for values in ('asia');
insert into shop.part values (5, 'asia', 'five');
delete from shop.part where id = 2;
select courier.ship('s') as shipped;
select * from compare('shop.part');
truncate shop.part;
insert into shop.part values (1, 'us', 'after');
select courier.ship('s') as shipped;
select * from compare('shop.part');

-- odd names
insert into "odd ""schema"""."ta ble 'ä€" values (1, 'ключ ''"', 'x'), (2, '', '\'), (3, '{}', null);
update "odd ""schema"""."ta ble 'ä€" set "v'al" = "v'al" || '''' where "key 1" < 3;
update "odd ""schema"""."ta ble 'ä€" set "kéy ""2""" = 'k' where "key 1" = 3;
delete from "odd ""schema"""."ta ble 'ä€" where "key 1" = 2;
select courier.ship('s') as shipped;
select * from compare('"odd ""schema"""."ta ble ''ä€"');

-- TRUNCATE: among other changes, of several tables, of what others refer to
insert into shop.pair values (1, 'before', '2024-01-01', 1);
truncate shop.pair;
insert into shop.pair values (1, 'after', '2024-01-01', 1);
truncate shop.numbered restart identity;
insert into shop.numbered (a) values (1);
select courier.ship('s') as shipped;
select * from compare('shop.pair', 'shop.numbered');
truncate shop.line;
insert into shop.line values (1, 1, 'between');
truncate shop.item, shop.line;
insert into shop.item values (1, 'first');
insert into shop.line values (1, 1, 'first');
truncate shop.item cascade;
insert into shop.item values (1, 'last');
insert into shop.line values (1, 1, 'last');
begin;
truncate shop.by_index;
rollback;
truncate shop.history;
select courier.ship('s') as shipped;
select * from compare('shop.item', 'shop.line', 'shop.by_index');
select * from dblink('courier_eu', 'select count(*) > 0 from shop.history') d (truncate_is_not_sent bool);

-- DDL between changes of one interval
insert into shop.changing values (1, 'a', 'x'), (2, 'b', 'y');
alter table shop.changing add added int default 5;
select dblink_exec('courier_eu', 'alter table shop.changing add added int default 5');
insert into shop.changing values (3, 'c', 'z', 30);
update shop.changing set added = 10 where id = 1;
alter table shop.changing drop gone;
insert into shop.changing values (4, 'd', 40);
update shop.changing set a = 'bb' where id = 2;
alter table shop.changing alter a type varchar(40);
insert into shop.changing values (5, 'e', 50);
select courier.ship('s') as shipped;
select dblink_exec('courier_eu', 'alter table shop.changing drop gone');
select * from compare('shop.changing');

-- events, in order with the rows
begin;
insert into shop.item values (40, 'before');
select courier.enqueue('orders', 'first');
update shop.item set name = 'after' where id = 40;
select courier.enqueue('orders', '');
savepoint a;
select courier.enqueue('orders', 'rolled back');
rollback to a;
select courier.enqueue('ch "an'' nel', e'ä€𐍈 \\ '' "\n$1');
commit;
select courier.enqueue('orders', 'last');
select courier.ship('s') as shipped;
select * from dblink('courier_eu', 'select channel, payload from courier_target.event order by event_id') d (channel text, payload text);
select * from compare('shop.item');

-- rows shipped again by hand
insert into shop.item values (41, 'a'), (42, 'b'), (43, 'c');
select courier.ship('s') as shipped;
select dblink_exec('courier_eu', 'delete from shop.item where id = 41; update shop.item set name = ''wrong'', note = ''wrong'' where id = 42;
    insert into shop.item values (44, ''only there'')');
select count(*) from (select courier.enqueue_upsert('shop.item', i) from shop.item i where id > 40) u;
select courier.enqueue_delete('shop.item', (44, null, null, null)::shop.item);
select courier.enqueue_delete('shop.item', i) from shop.item i where id = 43;
update shop.item set quantity = 9 where id = 41;
select courier.ship('s') as shipped;
select * from dblink('courier_eu', 'select id, name, quantity, note from shop.item where id > 40') d (id int, name text, quantity int, note text) order by id;
\set VERBOSITY terse
select courier.enqueue_upsert('shop.item', l) from shop.line l;
select courier.enqueue_upsert('shop.bag', r) from shop.bag r limit 1;
select courier.enqueue_upsert('shop.conflict', c) from (select 1, 'v', 'w') c (id, v, w);
select courier.enqueue('', 'x');
select courier.enqueue('x', null);
\set VERBOSITY default
select courier.drop_subscription('s');

-- conflicts: what the target holds is not what the source thinks
select courier.create_replication_set('conflicts');
select courier.replication_set_add_table('conflicts', 'shop.conflict');
create procedure public.make_conflicts(policy text) language plpgsql as $$
begin
    perform courier.drop_subscription('c') from courier.subscription;
    truncate shop.conflict;
    insert into shop.conflict values (2, 'source', 'old'), (3, 'source', 'old'), (4, 'source', 'old');
    commit;
    perform dblink_exec('courier_eu', $d$truncate shop.conflict; insert into shop.conflict values (1, 'target', 'target'), (4, 'source', 'target')$d$);
    perform courier.create_subscription('c', 'eu', '{conflicts}', copy_data => false, options => jsonb_build_object('on_conflict', policy));
    commit;
end
$$;
create function public.there() returns table (id int, v text, w text) language sql as
    $$ select * from dblink('courier_eu', 'table shop.conflict') d (id int, v text, w text) order by id $$;
-- how an error would be seen
create function public.ship_error(name text) returns table (code text, message text, hint text) language plpgsql as $$
begin
    perform courier.ship(name);
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    message := regexp_replace(message, 'transaction \d+', 'transaction N');
    hint := regexp_replace(hint, '''\d+''\)', '''N'')');
    return next;
end
$$;
\set conflicts 'begin; insert into shop.conflict values (1, $$source$$, $$new$$); update shop.conflict set w = $$new$$ where id in (2, 4); delete from shop.conflict where id = 3; commit;'
call make_conflicts('apply_remote');
:conflicts
select courier.ship('c') as shipped;
select * from there();
call make_conflicts('keep_local');
:conflicts
select courier.ship('c') as shipped;
select * from there();
-- error: each kind stops it, and nothing of the transaction is applied
call make_conflicts('error');
insert into shop.conflict values (1, 'source', 'new');
select * from ship_error('c');
select * from there();
call make_conflicts('error');
update shop.conflict set w = 'new' where id in (2, 4);
select * from ship_error('c');
select * from there();
call make_conflicts('error');
delete from shop.conflict where id in (3, 4);
select code, message ~ 'apply delete of table shop.conflict \(id=3\)' as names_key from ship_error('c');
select * from there();
-- a missing row can't be made up from an update that left TOAST alone
call make_conflicts('apply_remote');
alter table shop.conflict alter v set storage external;
insert into shop.conflict values (7, repeat('v', 5000), 'old');
select courier.ship('c') as shipped;
select dblink_exec('courier_eu', 'delete from shop.conflict where id = 7');
update shop.conflict set w = 'new' where id = 7;
select * from ship_error('c');
-- until it is whole again
select courier.enqueue_upsert('shop.conflict', c) from shop.conflict c where id = 7;
select dblink_exec('courier_eu', 'insert into shop.conflict values (7, ''anything'')');
select courier.ship('c') as shipped;
select id, length(v), w from there() where id = 7;

select courier.drop_subscription('c');
select courier.drop_node('eu');
drop extension pg_courier;
drop schema shop, "odd ""schema""" cascade;
drop function public.compare, public.there, public.ship_error;
drop procedure public.make_conflicts;
drop database regress_courier_statements;
