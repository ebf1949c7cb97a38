-- Statements inside of which others run: the keys that one leaves and another takes,
-- changes of what was just changed, what is sent by hand meanwhile. See nested_order.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_nested_keys;
create schema shop;
create table shop.part (id int primary key, v int default 0);
create table shop.other (id int primary key);
create table shop.seat (team int default 0, pos int, what text, primary key (team, pos));
\c postgres
create database regress_courier_nested_keys template :"source";
\c :source
\set target regress_courier_nested_keys
\i ../test/regress/include/target.sql
-- the target has none of the triggers and foreign keys that follow
alter table shop.seat add foreign key (team) references shop.other on delete set default;
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.create_subscription('s', 'eu', copy_data => false, options => '{"on_conflict": "error"}') is not null as created;
\i ../test/regress/include/compare.sql
\i ../test/regress/include/ship.sql

-- a foreign key's update whose BEFORE trigger makes way for the row
create function shop.make_way() returns trigger language plpgsql as $$
begin
    delete from shop.seat where team = new.team and pos = new.pos;
    return new;
end
$$;
create trigger make_way before update on shop.seat for each row execute function shop.make_way();
insert into shop.other values (0), (1);
insert into shop.seat values (0, 1, 'old'), (1, 1, 'new'), (1, 2, 'x');
select * from ship();
delete from shop.other where id = 1;
select * from ship();
table shop.seat order by pos;

-- what is sent by hand by a BEFORE trigger precedes the row
create function shop.send_old() returns trigger language plpgsql as $$
begin
    perform courier.enqueue_upsert('shop.part', old);
    return new;
end
$$;
create trigger send_old before update on shop.part for each row execute function shop.send_old();
insert into shop.part values (1), (2);
select * from ship();
begin;
insert into shop.other values (2);
update shop.part set v = 7;
commit;
select * from ship();
drop trigger send_old on shop.part;

-- events stay in the order in which they were sent
create function shop.send_event() returns trigger language plpgsql as $$
begin
    if new.id = 1 then
        insert into shop.other values (3);
    end if;
    perform courier.enqueue('part', 'row ' || new.id);
    return null;
end
$$;
create trigger send_event after update on shop.part for each row execute function shop.send_event();
update shop.part set v = 8;
select * from ship();
select * from dblink('target', 'select payload from courier_target.event order by event_id') as e (payload text);
drop trigger send_event on shop.part;

-- a key that the statement leaves is taken meanwhile: by a function, before a row,
-- by a trigger whose name sorts first, by one of another table
create function shop.take(i int) returns int language plpgsql as $$
begin
    insert into shop.part values (i, 99);
    return i;
end
$$;
with d as (delete from shop.part where id = 1 returning id) select shop.take(id) from d;
select * from ship();
update shop.part set id = id + 10 where id = 1 returning shop.take(1);
select * from ship();
create function shop.take_back() returns trigger language plpgsql as $$
begin
    if tg_op = 'DELETE' and old.id = 11 then
        insert into shop.part values (2, 50);
    elsif tg_op = 'UPDATE' and old.id = 2 then
        delete from shop.part where id = 1;
        insert into shop.part values (1, 60);
    end if;
    return case tg_op when 'DELETE' then old else new end;
end
$$;
create trigger take_back before update or delete on shop.part for each row execute function shop.take_back();
table shop.part;
delete from shop.part where id in (2, 11);
select * from ship();
update shop.part set v = 5;
select * from ship();
drop trigger take_back on shop.part;
create function shop.take_old() returns trigger language plpgsql as $$
begin
    insert into shop.part values (old.id, 70);
    return null;
end
$$;
create trigger " take_old" after update of id on shop.part for each row execute function shop.take_old();
update shop.part set id = id + 20;
select * from ship();
drop trigger " take_old" on shop.part;
create table shop.unsent (id int);
insert into shop.unsent values (1);
create trigger take_old after delete on shop.unsent for each row execute function shop.take_old();
with e as (delete from shop.part), d as (delete from shop.unsent returning *) select * from d;
select * from ship();
table shop.part;
drop trigger take_old on shop.unsent;
begin;
savepoint a;
with d as (delete from shop.part where id = 1 returning id) select shop.take(id) from d;
rollback to a;
update shop.part set v = 71;
commit;
select * from ship();

-- rows that are frozen at once do not tell which command has made them
create function shop.count_next() returns trigger language plpgsql as $$
begin
    update shop.part set v = v + 1 where id = new.id + 1;
    return null;
end
$$;
create trigger count_next after insert on shop.part for each row execute function shop.count_next();
begin;
truncate shop.part;
copy shop.part (id) from stdin (freeze);
1
2
3
\.
commit;
select * from ship();
table shop.part;
drop trigger count_next on shop.part;

-- changes of changes: of a row of which another command further out has just written
-- a version, and of one of which two have
truncate shop.part;
insert into shop.part select generate_series(1, 9);
create function shop.count_previous() returns trigger language plpgsql as $$
begin
    if tg_when = 'BEFORE' and pg_trigger_depth() = 1 then
        update shop.part set v = v + 10 where id = new.id - 1;
    elsif tg_when = 'AFTER' and pg_trigger_depth() = 2 and new.v < 1000 then
        update shop.part set v = v + 1000 where id = new.id;
    end if;
    return new;
end
$$;
create trigger count_previous before update on shop.part for each row execute function shop.count_previous();
create trigger count_after after update on shop.part for each row execute function shop.count_previous();
update shop.part set v = v + 1 where id in (1, 2, 3);
select * from ship();
drop trigger count_previous on shop.part;
drop trigger count_after on shop.part;
create function shop.add_ten(i int) returns int language plpgsql as $$
begin
    update shop.part set v = v + 10 where id = i;
    return i;
end
$$;
create function shop.add_twenty(i int) returns int language plpgsql as $$
begin
    update shop.part set v = v + 10 where id = i returning shop.add_ten(id) into i;
    return i;
end
$$;
update shop.part set v = 0 where id in (4, 5) returning shop.add_twenty(id);
insert into shop.part values (20) returning shop.add_twenty(id);
select * from ship();
create function shop.move_away(i int) returns int language plpgsql as $$
begin
    update shop.part set id = 30 where id = i returning shop.take(i) into i;
    return i;
end
$$;
update shop.part set v = 1 where id = 6 returning shop.move_away(id);
select * from ship();
-- a change that waited, and one behind it, to a key that is left in between
create function shop.replace_last() returns trigger language plpgsql as $$
begin
    delete from shop.part where id = 9;
    update shop.part set id = 9 where id = 8;
    return null;
end
$$;
create trigger replace_last after update on shop.part for each row when (new.id = 7) execute function shop.replace_last();
update shop.part set v = v + 1 where id in (7, 8) returning case id when 8 then shop.add_ten(id) end;
select * from ship();
drop trigger replace_last on shop.part;
-- a row that was locked before
begin;
select id from shop.part where id = 9 for key share;
savepoint a;
with d as (delete from shop.part where id = 9 returning id) select shop.take(id) from d;
commit;
select * from ship();
select * from shop.part order by id;

select dblink_disconnect('target');
select courier.drop_subscription('s');
drop function public.ship;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_nested_keys;
