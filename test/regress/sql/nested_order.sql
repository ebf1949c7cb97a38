-- Triggers, functions and foreign keys that change rows while the statement that
-- fires them still runs: what they do is captured where it happened.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source, current_setting('max_prepared_transactions')::int > 0 as can_prepare \gset
drop database if exists regress_courier_nested_order;
create schema shop;
create table shop.node (id int primary key, touched int default 0, parent int);
create table shop.price (id int primary key, item int, current bool default true);
create unique index one_current on shop.price (item) where current;
create table shop.member (id int primary key, team int, v int default 0, changes int default 0);
create table shop.stock (id int primary key, v int default 0);
create table shop.slot (list int, pos int, what text, primary key (list, pos));
create table shop.customer (id int primary key, v int default 0);
create table shop.account (id int primary key, customer int, note text);
create table shop.tariff (id int, region text, v int default 0, primary key (id, region)) partition by list (region);
create table shop.tariff_eu partition of shop.tariff for values in ('eu');
create table shop.tariff_us partition of shop.tariff for values in ('us');
create table shop.wide (id int primary key, v text, n int default 0);
create table shop.other (id int primary key);
create table shop.log (id int primary key, what text);
\c postgres
create database regress_courier_nested_order template :"source";
\c :source
\set target regress_courier_nested_order
\i ../test/regress/include/target.sql
-- the target has none of the triggers and foreign keys that follow
alter table shop.node add foreign key (parent) references shop.node on update cascade on delete cascade;
alter table shop.account add foreign key (customer) references shop.customer on update cascade on delete set null;
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.create_subscription('s', 'eu', copy_data => false, options => '{"on_conflict": "error"}') is not null as created;
\i ../test/regress/include/compare.sql
\i ../test/regress/include/ship.sql

-- a foreign key's update fires its triggers behind those of the user's trigger
create function shop.touch() returns trigger language plpgsql as $$
begin
    update shop.node set touched = touched + 1 where id = new.id;
    return null;
end
$$;
create trigger touch after update on shop.node for each row when (pg_trigger_depth() = 0) execute function shop.touch();
insert into shop.node values (1, 0, 1), (2, 0, 1), (3, 0, 2);
update shop.node set id = id + 10;
select * from ship();
update shop.node set id = 20 where id = 11;
select * from ship();
table shop.node;

-- also where the trigger is not on the same table, and takes the key of a row that
-- goes with another
create function shop.customer_changed() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' then
        update shop.account set note = concat_ws(' ', note, 'was of', old.id) where customer is null;
        insert into shop.customer values (old.id + 100);
    else
        update shop.account set note = concat_ws(' ', note, 'now of', new.id) where customer = new.id;
    end if;
    return null;
end
$$;
create trigger changed after update or delete on shop.customer for each row execute function shop.customer_changed();
insert into shop.customer select generate_series(1, 4);
insert into shop.account select i, 1 + i % 4 from generate_series(1, 8) i;
update shop.customer set id = id + 10 where id < 3;
select * from ship();
delete from shop.customer where id in (3, 11);
select * from ship();
select * from shop.account order by id;
create function shop.keep_account() returns trigger language plpgsql as $$
begin
    insert into shop.account select i, 4, 'kept' from generate_series(20, 25) i where not exists (select from shop.account a where a.id = i);
    return null;
end
$$;
alter table shop.account drop constraint account_customer_fkey;
alter table shop.account add foreign key (customer) references shop.customer on delete cascade;
drop trigger changed on shop.customer;
create trigger kept after delete on shop.customer for each row execute function shop.keep_account();
insert into shop.customer values (50), (51);
insert into shop.account values (20, 50, 'a'), (21, 51, 'b'), (22, 4, 'c');
select * from ship();
delete from shop.customer where id in (50, 51);
select * from ship();
select * from shop.account where id >= 20 order by id;

-- BEFORE triggers change rows that the same statement has written
create function shop.only_one() returns trigger language plpgsql as $$
begin
    update shop.price set current = false where item = new.item and current;
    return new;
end
$$;
create trigger only_one before insert on shop.price for each row execute function shop.only_one();
insert into shop.price values (1, 1), (2, 1), (3, 2), (4, 1);
select * from ship();
insert into shop.price values (5, 2), (6, 2), (7, 1) on conflict (id) do nothing;
copy shop.price (id, item) from stdin;
8	1
9	1
10	3
\.
select * from ship();
select * from shop.price order by id;

-- AFTER triggers change rows that the same statement has written
create function shop.tell_team() returns trigger language plpgsql as $$
begin
    update shop.member set changes = changes + 1 where team = new.team and id <> new.id;
    return null;
end
$$;
create trigger tell_team after insert or update on shop.member for each row when (pg_trigger_depth() = 0) execute function shop.tell_team();
insert into shop.member select i, i % 3 from generate_series(1, 9) i;
select * from ship();
update shop.member set v = v + 1;
select * from ship();
update shop.member set id = id + 100, team = 1 where team = 2;
select * from ship();
select * from shop.member order by id;

-- one whose name sorts before that of the trigger that captures
create function shop.early() returns trigger language plpgsql as $$
begin
    update shop.stock set v = v + 10 where id in (new.id, new.id + 1);
    return null;
end
$$;
create trigger " early" after insert or update on shop.stock for each row when (pg_trigger_depth() = 0) execute function shop.early();
insert into shop.stock select generate_series(1, 4);
select * from ship();
update shop.stock set v = v + 1;
select * from ship();
drop trigger " early" on shop.stock;

-- functions in a statement
create function shop.add_below(i int) returns int language plpgsql as $$
begin
    update shop.stock set v = v + 100 where id < i;
    return i;
end
$$;
insert into shop.stock select i, shop.add_below(i) from generate_series(5, 8) i;
select * from ship();
update shop.stock set v = shop.add_below(2) where id > 2;
select * from ship();
create function shop.drop_previous() returns trigger language plpgsql as $$
begin
    delete from shop.stock where id = new.id - 1;
    return new;
end
$$;
create trigger drop_previous before insert on shop.stock for each row execute function shop.drop_previous();
insert into shop.stock select generate_series(10, 13);
select * from ship();
drop trigger drop_previous on shop.stock;
-- an INSERT that replaces
create function shop.replace() returns trigger language plpgsql as $$
begin
    delete from shop.stock where id = new.id;
    return new;
end
$$;
create trigger replace before insert on shop.stock for each row execute function shop.replace();
insert into shop.stock values (1, -1), (20, -2), (20, -3), (20, -4), (13, -5);
select * from ship();
drop trigger replace on shop.stock;
select * from shop.stock order by id;

-- what a row leaves is taken by another
create function shop.close_gap() returns trigger language plpgsql as $$
declare
    s record;
begin
    for s in select * from shop.slot where list = old.list and pos > old.pos order by pos loop
        update shop.slot set pos = pos - 1 where list = s.list and pos = s.pos;
    end loop;
    return null;
end
$$;
create trigger close_gap after delete on shop.slot for each row execute function shop.close_gap();
insert into shop.slot select l, p, format('%s.%s', l, p) from generate_series(1, 2) l, generate_series(1, 6) p;
select * from ship();
delete from shop.slot where what in ('1.2', '1.3', '1.5', '2.1', '2.6');
select * from ship();
select * from shop.slot order by list, pos;
create function shop.fill_gap() returns trigger language plpgsql as $$
begin
    insert into shop.slot select old.list, p, 'filled' from generate_series(1, 4) p on conflict do nothing;
    return null;
end
$$;
drop trigger close_gap on shop.slot;
create trigger fill_gap after delete on shop.slot for each row execute function shop.fill_gap();
delete from shop.slot where list = 1;
select * from ship();

-- rows that move to another partition, and back
create function shop.move_others() returns trigger language plpgsql as $$
begin
    update shop.tariff set region = case region when 'eu' then 'us' else 'eu' end, v = v + 1 where id <> new.id;
    return null;
end
$$;
create trigger move_others after update on shop.tariff for each row when (pg_trigger_depth() = 0) execute function shop.move_others();
insert into shop.tariff select i, 'eu' from generate_series(1, 3) i;
update shop.tariff set v = 10;
select * from ship();
create function shop.move_below(i int) returns int language plpgsql as $$
begin
    update shop.tariff set region = case region when 'eu' then 'us' else 'eu' end, v = v + 1 where id < i;
    return i;
end
$$;
insert into shop.tariff select i, 'eu', shop.move_below(i) from generate_series(4, 7) i;
select * from ship();
update shop.tariff set v = shop.move_below(3) where id > 4;
select * from ship();
drop trigger move_others on shop.tariff;
update shop.tariff set region = case region when 'eu' then 'us' else 'eu' end, v = shop.move_below(2) where id > 4;
select * from ship();
select * from shop.tariff order by id;

-- what is rolled back inside leaves no trace, also in the next try
create function shop.try_twice() returns trigger language plpgsql as $$
begin
    begin
        update shop.wide set n = n + 1000, id = id + 1000 where id = new.id - 1;
        raise division_by_zero;
    exception when division_by_zero then
        update shop.wide set n = n + 1 where id = new.id - 1;
    end;
    begin
        delete from shop.wide where id = new.id - 1;
        raise division_by_zero;
    exception when division_by_zero then
        null;
    end;
    return new;
end
$$;
create trigger try_twice before insert on shop.wide for each row execute function shop.try_twice();
begin;
insert into shop.wide select i, 'x' from generate_series(1, 3) i;
savepoint a;
insert into shop.wide select i, 'y' from generate_series(4, 6) i;
rollback to a;
insert into shop.wide select i, 'z' from generate_series(4, 5) i;
commit;
select * from ship();
select * from shop.wide order by id;
drop trigger try_twice on shop.wide;

-- more than memory takes, and more than a chunk of the queue
set courier.buffer_memory = 64;
create function shop.widen() returns trigger language plpgsql as $$
begin
    update shop.wide set n = n + 1 where id in (new.id + 1, new.id - 7);
    return null;
end
$$;
create trigger widen after update on shop.wide for each row when (pg_trigger_depth() = 0) execute function shop.widen();
insert into shop.wide select i, repeat(i::text, 200) from generate_series(101, 1100) i;
update shop.wide set v = v || 'w', n = 0 where id > 100;
select * from ship();
select sum(n) from shop.wide where id > 100;
reset courier.buffer_memory;

-- a prepared transaction
\if :can_prepare
begin;
update shop.member set v = v + 1;
prepare transaction 'nested';
commit prepared 'nested';
\else
update shop.member set v = v + 1;
\endif
select * from ship();

-- the making of a row that was not captured is not waited for
create function shop.in_secret() returns text language plpgsql as $$
declare
    s record;
begin
    set local session_replication_role = replica;
    insert into shop.stock values (100), (101);
    set local session_replication_role = origin;
    for s in select * from shop.stock where id >= 100 loop
        update shop.stock set v = v + 1 where id = s.id;
    end loop;
    insert into shop.stock values (102);
    return 'done';
end
$$;
select dblink_exec('target', 'insert into shop.stock values (100), (101)');
begin;
select shop.in_secret();
update shop.stock set v = v + 1 where id = 101;
savepoint a;
insert into shop.other values (9);
rollback to a;
alter table shop.stock alter v type bigint;
update shop.stock set v = v + 1 where id = 100;
commit;
select * from ship();
select * from shop.stock where id >= 100 order by id;

-- one statement of many: what is shipped by hand, and emptied, comes where it happened
create function shop.mixed() returns trigger language plpgsql as $$
begin
    update shop.member set v = v + 1 where id = new.id + 1;
    perform courier.enqueue_upsert('shop.member', m) from shop.member m where m.id = new.id + 1;
    truncate shop.log;
    insert into shop.log values (new.id, 'only');
    return null;
end
$$;
drop trigger tell_team on shop.member;
create trigger mixed after update on shop.member for each row when (pg_trigger_depth() = 0) execute function shop.mixed();
update shop.member set v = 0;
select * from ship();
table shop.log;

-- row filters judge a row by what it is in the end
select courier.create_replication_set('some');
select courier.replication_set_add_table('some', 'shop.price', row_filter => 'current');
select courier.drop_subscription('s');
delete from shop.price;
select dblink_exec('target', 'truncate shop.price');
select courier.create_subscription('s', 'eu', '{some}', copy_data => false, options => '{"on_conflict": "error"}') is not null as created;
insert into shop.price values (1, 1), (2, 1), (3, 2), (4, 1);
select courier.ship('s');
select * from dblink('target', 'select id, item, current from shop.price order by 1') as p (id int, item int, current bool);
update shop.price set current = false, id = id + 10 where id = 3;
update shop.price set current = false where id = 4;
select courier.ship('s');
select * from dblink('target', 'select id, item, current from shop.price order by 1') as p (id int, item int, current bool);

select dblink_disconnect('target');
select courier.drop_subscription('s');
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_nested_order;
