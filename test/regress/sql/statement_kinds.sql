-- What a transaction does late, deep, concurrently or on the side: deferred
-- triggers, ON COMMIT actions, cursors, subtransactions, prepared ones, parallel
-- plans, triggers that change what is written.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source, current_setting('max_prepared_transactions')::int > 0 as can_prepare,
       current_setting('server_version_num')::int >= 150000 as has_merge \gset
drop database if exists regress_courier_statement_kinds;
create schema shop;
create table shop.item (id int primary key, v text, n int default 0);
create table shop.audit (id int generated always as identity primary key, what text);
create table shop.late (id int primary key, v text);
create table shop.partial (id int primary key, v text);
create table shop.guarded (id int primary key, v text, n int);
create table shop.image (id int primary key, picture oid);
\c postgres
create database regress_courier_statement_kinds template :"source";
\c :source
\set target regress_courier_statement_kinds
\i ../test/regress/include/target.sql
select format('host=%s port=%s dbname=%s user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), quote_literal(:'source'), current_user) as here \gset
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
\i ../test/regress/include/compare.sql
\i ../test/regress/include/ship.sql

-- triggers that fire at commit and write then, also of what they write: all before
-- the changes are queued, and in order
create function shop.at_commit() returns trigger language plpgsql as $$
begin
    insert into shop.audit (what) values (concat_ws(' ', tg_op, new.id, new.v));
    if new.n < 3 then
        update shop.item set n = n + 1 where id = new.id;
        insert into shop.late values (new.id * 10 + new.n, 'late') on conflict (id) do update set v = late.v || ' again';
    end if;
    return null;
end
$$;
create constraint trigger at_commit after insert or update on shop.item deferrable initially deferred
    for each row execute function shop.at_commit();
begin;
insert into shop.item values (1, 'one'), (2, 'two');
update shop.item set v = 'one changed' where id = 1;
commit;
select * from ship();
-- a savepoint's deferred triggers; SET CONSTRAINTS in the middle
begin;
insert into shop.item values (3, 'three');
savepoint a;
insert into shop.item values (4, 'rolled back');
rollback to a;
set constraints all immediate;
insert into shop.item values (5, 'five');
set constraints all deferred;
update shop.item set n = 2 where id = 5;
commit;
select * from ship();
drop trigger at_commit on shop.item;

-- temporary tables with ON COMMIT actions, NOTIFY, cursors, advisory locks
begin;
create temp table scratch on commit drop as select * from shop.item;
create temp table emptied (id int) on commit delete rows;
insert into emptied select id from scratch;
insert into shop.item select id + 100, v from scratch;
notify regress_courier_channel, 'x';
declare rows_of cursor for select * from shop.item where id > 100 order by id for update;
fetch 2 from rows_of;
update shop.item set v = 'current of' where current of rows_of;
fetch 1 from rows_of;
delete from shop.item where current of rows_of;
select pg_advisory_xact_lock(4711);
commit;
begin;
declare held cursor with hold for select id from shop.item where id > 100;
commit;
fetch 1 from held;
close held;
drop table emptied;
select * from ship();

-- 5,000 subtransactions side by side and 200 in each other, half of them undone
do $$
begin
    for i in 1001 .. 6000 loop
        begin
            insert into shop.item values (i, 'loop');
            if i % 2 = 0 then
                raise division_by_zero;
            end if;
        exception when division_by_zero then
            update shop.item set n = n + 1 where id = i - 1;
        end;
    end loop;
end
$$;
create procedure public.nest(depth int) language plpgsql as $$
begin
    insert into shop.late values (10000 + depth, 'down');
    begin
        if depth < 200 then
            call nest(depth + 1);
        end if;
        update shop.late set v = v || ', up' where id >= 10000 + depth;
        if depth % 7 = 3 then
            raise 'undo';
        end if;
    exception when raise_exception then
        delete from shop.late where id = 10000 + depth;
    end;
end
$$;
call nest(1);
select * from ship();

-- transactions of every level, prepared ones, one that lasts while others commit
begin isolation level serializable;
select count(*) > 0 as rows from shop.item;
insert into shop.item values (7000, 'serializable');
update shop.item set v = 'serializable' where id = 1;
commit;
begin isolation level repeatable read;
insert into shop.item values (7001, 'repeatable read');
commit;
begin read only;
select count(*) > 0 as rows from shop.item;
commit;
begin deferrable isolation level serializable;
delete from shop.item where id = 7001;
commit;
select dblink_connect('other', :'here');
select dblink_exec('other', 'begin; insert into shop.item values (7010, ''long''); update shop.item set v = ''long'' where id = 2');
insert into shop.item values (7011, 'short');
update shop.item set v = 'short' where id = 3;
select courier.ship('s');
select dblink_exec('other', 'update shop.item set v = v || '', longer'' where id in (3, 7011)');
insert into shop.item values (7012, 'short');
select courier.ship('s');
select dblink_exec('other', 'commit');
select * from ship();
-- a serialization failure leaves nothing behind
select dblink_exec('other', 'begin isolation level repeatable read');
select n from dblink('other', 'select count(*) > 0 from shop.item') d (n bool);
update shop.item set v = 'first' where id = 7012;
select dblink_exec('other', 'insert into shop.item values (7013, ''lost'')');
select dblink_exec('other', 'update shop.item set v = ''second'' where id = 7012', false) as failed;
select dblink_exec('other', 'rollback');
select * from ship();
\if :can_prepare
begin;
insert into shop.item values (7020, 'prepared');
insert into shop.late values (7020, 'prepared');
prepare transaction 'regress_courier_statement_kinds';
insert into shop.item values (7021, 'meanwhile');
select courier.ship('s');
commit prepared 'regress_courier_statement_kinds';
\else
insert into shop.item values (7021, 'meanwhile');
select courier.ship('s');
insert into shop.item values (7020, 'prepared');
insert into shop.late values (7020, 'prepared');
\endif
select * from ship();
select dblink_disconnect('other');

-- parallel plans, and statements whose source reads what they write
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
set max_parallel_workers_per_gather = 2;
insert into shop.late select id + 20000, v from shop.item where n >= 0;
update shop.late l set v = i.v || i.n from shop.item i where i.id + 20000 = l.id and i.id % 3 = 0;
delete from shop.late l using shop.item i where i.id + 20000 = l.id and i.id % 5 = 0;
reset all;
set client_min_messages = warning;
select * from ship();
-- UPDATE ... FROM that matches a row several times changes it once
update shop.item i set n = d.n from (values (1, 10), (1, 10), (1, 10), (2, 20)) d (id, n) where d.id = i.id;
select courier.ship('s');
with moved as (delete from shop.late where id > 20000 returning *),
     added as (insert into shop.partial select id, v from moved where id % 2 = 0 returning id),
     changed as (update shop.item set v = 'in a CTE' where id in (select id - 20000 from added) returning id)
select count(*) > 0 as all_three from moved, added, changed;
insert into shop.partial select 5, 'x' on conflict (id) do nothing;
insert into shop.partial values (5, 'y'), (6, 'z') on conflict (id) do update set v = excluded.v || partial.v where partial.id > 5;
\if :has_merge
merge into shop.partial p using (select id, v from shop.item where id < 4 union all values (5, 'merged'), (9, 'new')) s on p.id = s.id
when matched and s.id = 5 then update set v = s.v when matched then delete
when not matched and s.id > 5 then insert values (s.id, s.v) when not matched then do nothing;
\else
delete from shop.partial p using shop.item i where p.id = i.id and i.id < 4;
update shop.partial set v = 'merged' where id = 5;
insert into shop.partial values (9, 'new');
\endif
select * from ship();
-- COPY of all kinds
begin;
truncate shop.late;
copy shop.late from stdin with (freeze);
1	frozen
2	\N
\.
commit;
copy shop.late (v, id) from stdin with (format csv, header, null 'none');
v,id
"a,""b""",3
none,4
\.
copy shop.late from stdin where id <> 6;
5	kept
6	filtered
\.
select * from ship();

-- triggers: one that changes the row, one that leaves it out, one that touches it again
create function shop.guard() returns trigger language plpgsql as $$
begin
    if new.v = 'leave out' then
        return null;
    end if;
    new.n := coalesce(new.n, 0) + 1;
    new.id := abs(new.id);
    return new;
end
$$;
create trigger guard before insert or update on shop.guarded for each row execute function shop.guard();
create function shop.again() returns trigger language plpgsql as $$
begin
    if pg_trigger_depth() < 3 then
        update shop.guarded set v = v || '.' where id = new.id;
    end if;
    return null;
end
$$;
create trigger aa_again after insert or update on shop.guarded for each row execute function shop.again();
create trigger "!pg_courier_row2" after insert or update on shop.guarded for each row execute function shop.again();
create function shop.end_of_statement() returns trigger language plpgsql as $$
begin
    if pg_trigger_depth() < 2 then
        update shop.guarded g set v = g.v || '/' from changed c where c.id = g.id;
        delete from shop.guarded where v like 'delete me%';
    end if;
    return null;
end
$$;
create trigger end_of_statement after insert on shop.guarded referencing new table as changed
    for each statement execute function shop.end_of_statement();
insert into shop.guarded values (1, 'a'), (-2, 'b'), (3, 'leave out'), (4, 'delete me');
update shop.guarded set v = 'leave out' where id = 1;
update shop.guarded set v = 'changed', id = -22 where id = 2;
insert into shop.guarded values (1, 'leave out') on conflict (id) do update set v = 'conflict';
insert into shop.guarded values (1, 'x') on conflict (id) do update set v = 'conflict';
update shop.guarded set id = 5, v = 'moved' where id = 22;
select * from ship();
table shop.guarded order by id;
create view shop.guarded_view as select id, v from shop.guarded;
create function shop.instead() returns trigger language plpgsql as $$
begin
    insert into shop.partial values (old.id + 500, 'instead of deleting');
    return old;
end
$$;
create trigger instead instead of delete on shop.guarded_view for each row execute function shop.instead();
delete from shop.guarded_view;
update shop.guarded_view set v = 'by the view';
select * from ship();

-- pieces of a transaction that come to nothing
select courier.drop_subscription('s');
select courier.create_subscription('s', 'eu', copy_data => false, options => '{"batch_rows": 2}') is not null as created;
begin;
insert into shop.partial values (9001, 'stays'), (9002, 'stays');
insert into shop.partial values (9003, 'goes');
delete from shop.partial where id = 9003;
insert into shop.partial values (9004, 'goes');
delete from shop.partial where id = 9004;
insert into shop.partial values (9005, 'stays');
commit;
select courier.ship('s');
select d.* from dblink('target', 'select string_agg(id::text, '','' order by id) from shop.partial where id between 9000 and 9999') d (ids text);

-- a large object is not sent: its OID is
select lo_from_bytea(0, 'not sent') as picture \gset
insert into shop.image values (1, :picture);
select * from ship();
select d.* from dblink('target', 'select count(*) from pg_largeobject_metadata') d (n int);
select lo_unlink(:picture);

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship;
drop procedure public.nest;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_statement_kinds;
