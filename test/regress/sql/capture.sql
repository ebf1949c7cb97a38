-- What a transaction captured is queued at its end, whole and in order,
-- however large it is and however it came about.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source, current_setting('max_prepared_transactions')::int > 0 as can_prepare \gset
drop database if exists regress_courier_capture;
create schema shop;
create table shop.item (id int primary key, v text, d date);
create table shop.large (id int primary key, v text, b bytea);
alter table shop.large alter v set storage external, alter b set storage external;
\c postgres
create database regress_courier_capture template :"source";
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_capture');
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;

-- ships, and counts the rows of both sides that are equal and those that are not
create function public.rows_of(name text) returns table (id int, hash text) language plpgsql set datestyle = iso as $$
begin
    return query execute format('select id, md5(format(''%%s'', t)) from %s t', name);
end
$$;
create procedure public.ship(name text, inout shipped bigint default null, inout equal bigint default null, inout different bigint default null)
language plpgsql as $$
declare
    rows_of text := format('select id, md5(format(''%%s'', t)) from %s t', name);
begin
    shipped := courier.ship('s');
    select count(*) filter (where here.hash = there.hash), count(*) filter (where here.hash is distinct from there.hash)
    into equal, different
    from public.rows_of(name) here full join dblink('courier_eu', rows_of) there (id int, hash text) using (id);
end
$$;
-- a queued transaction's chunks are numbered from 0 without a gap, bear one k, and stay on their page
create view public.chunks as
select xid, count(*) as chunks, sum(changes) as changes,
       count(distinct k) = 1 and count(distinct (origin, clock)) = 1 as one_k,
       min(seq) = 0 and max(seq) = count(*) - 1 and count(distinct seq) = count(*) as in_sequence,
       max(length(data)) < 8192 and max(pg_column_size(data)) >= max(length(data)) as fits,
       bool_and(origin = 0) as local
from (table courier.queue_0 union all table courier.queue_1 union all table courier.queue_2) q group by xid;

-- one change, one chunk; nothing without a change
insert into shop.item values (1, 'one');
begin;
update shop.item set v = 'rolled back';
rollback;
begin;
savepoint a;
update shop.item set v = 'rolled back';
rollback to a;
commit;
update shop.item set v = 'none' where id < 0;
select chunks, changes, one_k, in_sequence, fits, local from chunks;
select pg_snapshot_xmax(courier.position()) as seen \gset
call ship('shop.item');

-- past courier.buffer_memory: savepoints in memory and in the file, rolled back across the border
set courier.buffer_memory = '64kB';
begin;
insert into shop.item select i, repeat('a', 100) from generate_series(1000, 1999) i;
savepoint a;
insert into shop.item select i, repeat('lost', 100) from generate_series(10000, 19999) i;
update shop.item set v = 'lost';
rollback to a;
insert into shop.item select i, repeat('b', 100) from generate_series(2000, 2099) i;
savepoint b;
insert into shop.item select i, repeat('c', 100) from generate_series(3000, 5999) i;
savepoint c;
delete from shop.item;
savepoint d;
insert into shop.item select i, repeat('lost', 100) from generate_series(1000, 4000) i;
release d;
rollback to c;
savepoint e;
update shop.item set v = v || 'e' where id between 2000 and 3100;
release e;
release b;
savepoint f;
insert into shop.item values (6000, 'lost');
rollback to f;
update shop.item set v = v || 'f' where id < 1010;
commit;
select chunks > 50 as many, changes, one_k, in_sequence, fits from chunks where xid >= :'seen'::xid8;
call ship('shop.item');
-- all of it rolled back: to a savepoint, with the transaction
select pg_snapshot_xmax(courier.position()) as seen \gset
begin;
savepoint a;
update shop.item set v = v || 'lost';
rollback to a;
commit;
begin;
update shop.item set v = v || 'lost';
rollback;
do $$
begin
    update shop.item set v = v || 'lost';
    raise 'lost';
end
$$;
select count(*) from chunks where xid >= :'seen'::xid8;
update shop.item set v = v || 'kept' where id < 1005;
call ship('shop.item');

-- 20,000 subtransactions, one in three of them rolled back
do $$
begin
    for i in 20000 .. 39999 loop
        begin
            insert into shop.item values (i, 'loop');
            if i % 3 = 0 then raise division_by_zero; end if;
        exception when division_by_zero then
            if i % 6 = 0 then insert into shop.item values (-i, 'caught'); end if;
        end;
    end loop;
end
$$;
call ship('shop.item');
-- nested
create procedure public.nest(depth int) language plpgsql as $$
begin
    insert into shop.item values (50000 + depth, 'down');
    if depth < 100 then call nest(depth + 1); end if;
    update shop.item set v = v || ' and up' where id = 50000 + depth;
    if depth % 10 = 7 then raise 'lost'; end if;
exception when raise_exception then
    insert into shop.item values (60000 + depth, 'instead');
end
$$;
call nest(1);
select count(*) from shop.item where id > 50000;
call ship('shop.item');
-- a procedure that commits
create procedure public.commits() language plpgsql as $$
begin
    for i in 70000 .. 70010 loop
        insert into shop.item values (i, 'in a procedure');
        if i % 2 = 0 then commit; else rollback; end if;
    end loop;
end
$$;
call commits();
call ship('shop.item');
reset courier.buffer_memory;

-- prepared: queued when it is, delivered once it is committed, never if rolled back
-- (a server without prepared transactions does the same in other ways)
\if :can_prepare
begin;
insert into shop.item values (80000, 'prepared');
update shop.item set v = v || 'prepared' where id between 2000 and 2999;
savepoint a;
insert into shop.item values (80001, 'lost');
rollback to a;
prepare transaction 'regress_courier_1';
begin;
insert into shop.item select i, repeat('lost', 100) from generate_series(80100, 82000) i;
prepare transaction 'regress_courier_2';
\endif
insert into shop.item values (80002, 'meanwhile');
update shop.item set v = v || 'meanwhile' where id < 1500;
call ship('shop.item');
\if :can_prepare
commit prepared 'regress_courier_1';
\else
begin;
insert into shop.item values (80000, 'prepared');
update shop.item set v = v || 'prepared' where id between 2000 and 2999;
commit;
\endif
insert into shop.item values (80003, 'after');
call ship('shop.item');
\if :can_prepare
rollback prepared 'regress_courier_2';
\endif
call ship('shop.item');

-- a writer whose snapshot is older than what was shipped meanwhile
select dblink_connect('other', :'server' || ' dbname=' || quote_literal(:'source'));
select dblink_exec('other', 'begin isolation level repeatable read');
select r from dblink('other', 'select count(*) > 0 from shop.item') d (r bool);
insert into shop.item values (90000, 'before the old one');
call ship('shop.item');
select dblink_exec('other', 'insert into shop.item values (90001, ''of an old snapshot''); update shop.item set v = v || ''old'' where id between 3000 and 3009');
insert into shop.item values (90002, 'while the old one writes');
call ship('shop.item');
select dblink_exec('other', 'commit');
insert into shop.item values (90003, 'after the old one');
call ship('shop.item');
-- one that got its number first and commits last
select dblink_exec('other', 'begin; insert into shop.item values (90010, ''numbered first'')');
insert into shop.item values (90011, 'second');
select dblink_exec('other', 'update shop.item set v = ''of both'' where id = 90003');
call ship('shop.item');
select dblink_exec('other', 'commit');
update shop.item set v = v || ', and mine' where id = 90003;
call ship('shop.item');
select dblink_disconnect('other');

-- values larger than a chunk, than a batch
select pg_snapshot_xmax(courier.position()) as seen \gset
insert into shop.large values (1, repeat('ä€', 200000), decode(repeat('00ff5c27', 250000), 'hex'));
insert into shop.large values (2, repeat('twenty MB ', 2000000), null), (3, null, decode(repeat('0aff', 3000000), 'hex'));
select chunks > 3000 as many, changes, one_k, in_sequence, fits from chunks where xid >= :'seen'::xid8 and changes = 2;
call ship('shop.large');
begin;
update shop.large set v = v || '.' where id < 3;
insert into shop.item select i, 'between' from generate_series(91000, 91099) i;
insert into shop.large values (4, repeat('x', 8151), ''), (5, repeat('x', 8152), ''), (6, repeat('x', 8153), '\x00'), (7, repeat('x', 3000000), '');
update shop.large set id = 107, v = v || '!' where id = 7;
delete from shop.large where id = 1;
select courier.enqueue('large', repeat('event ', 1000000));
commit;
call ship('shop.large');
select * from dblink('courier_eu', 'select channel, length(payload), md5(payload) = md5(repeat(''event '', 1000000)) from courier_target.event') d (channel text, length int, equal bool);
select bool_and(one_k and in_sequence and fits and local) as all_chunks from chunks;

-- sessions that are not to be captured, settings that are to stay
set session_replication_role = replica;
insert into shop.item values (92000, 'not captured');
reset session_replication_role;
delete from shop.item where id = 92000;
set datestyle = 'German, DMY';
insert into shop.item values (92001, 'x', '03.04.2024');
select d, current_setting('datestyle') from shop.item where id = 92001;
reset datestyle;
call ship('shop.item');

-- the triggers, made by hand
select courier.capture_row();
create trigger a before insert on shop.large for each row execute function courier.capture_row();
insert into shop.large values (9);
drop trigger a on shop.large;
create trigger a after insert on shop.large execute function courier.capture_row();
insert into shop.large values (9);
drop trigger a on shop.large;
set courier.buffer_memory = '1kB';
call ship('shop.large');

select courier.drop_subscription('s');
select courier.drop_node('eu');
drop procedure public.ship, public.nest, public.commits;
drop view public.chunks;
drop function public.rows_of;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_capture;
