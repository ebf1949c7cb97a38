-- Triggers of the target, for a role that may switch ordinary ones off and for
-- one that may not: each that fires does so once a row. Triggers that change or
-- refuse rows; rules; views as destinations.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_target_triggers;
drop role if exists regress_courier_apply;
create role regress_courier_apply in role pg_read_all_stats; -- of the session that has become this role
create schema shop;
grant usage on schema shop to regress_courier_apply;
create table shop.item (id int primary key, v text, n int default 0);
create table shop.bag (a int, v text);
alter table shop.bag replica identity full;
create table shop.skipped (id int primary key, v text);
create table shop.seen (id int primary key, v text);
create table shop.by_view (id int primary key, v text, gone text);
create table shop.by_instead (id int primary key, v text);
create table shop.by_join (id int primary key, v text);
create table shop.ruled (id int primary key, v text);
create table shop.bag_view (a int, v text);
alter table shop.bag_view replica identity full;
grant all on all tables in schema shop to regress_courier_apply;
\c postgres
create database regress_courier_target_triggers template :"source";
grant create on database regress_courier_target_triggers to regress_courier_apply;
\c regress_courier_target_triggers
set client_min_messages = warning;
create table shop.log (n int generated always as identity, what text);
grant all on shop.log to regress_courier_apply;
create function shop.note() returns trigger language plpgsql security definer as $$
begin
    insert into shop.log (what) values (concat_ws(' ', tg_table_name, tg_name, tg_when, tg_level, tg_op,
        case when tg_level = 'ROW' then case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end end));
    return case when tg_op = 'DELETE' then old else new end;
end
$$;
create trigger ordinary after insert or update or delete on shop.item for each row execute function shop.note();
create trigger always after insert or update or delete on shop.item for each row execute function shop.note();
create trigger replica before insert or update or delete on shop.item for each row execute function shop.note();
create trigger off after insert or update or delete on shop.item for each row execute function shop.note();
create trigger always_statement after truncate on shop.item for each statement execute function shop.note();
alter table shop.item enable always trigger always, enable replica trigger replica, disable trigger off, enable always trigger always_statement;
create trigger always after insert or update or delete on shop.bag for each row execute function shop.note();
alter table shop.bag enable always trigger always;
-- one that leaves rows out, one that changes them, one that refuses
create function shop.skip() returns trigger language plpgsql as $$
begin
    if (case when tg_op = 'DELETE' then old.v else new.v end) like '%skip%' then
        return null;
    elsif new.v like '%refuse%' then
        raise 'not this one' using hint = 'Ask the trigger''s author.';
    end if;
    if tg_op <> 'DELETE' then
        new.v := new.v || ' (seen)';
        return new;
    end if;
    return old;
end
$$;
create trigger skip before insert or update or delete on shop.skipped for each row execute function shop.skip();
alter table shop.skipped enable always trigger skip;
-- views: one that takes all, one that a trigger answers for, one that can't be written, one over a keyless table
drop table shop.by_view, shop.by_instead, shop.by_join, shop.bag_view;
create table shop.base (key int primary key, text text, extra int default 5);
create view shop.by_view as select key as id, text as v, null::text as gone from shop.base;
create table shop.base_instead (id int primary key, v text);
create view shop.by_instead as select id, v from shop.base_instead group by id, v;
create function shop.instead() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then insert into shop.base_instead values (new.*);
    elsif tg_op = 'UPDATE' then update shop.base_instead set id = new.id, v = new.v where id = old.id;
    else delete from shop.base_instead where id = old.id;
    end if;
    return case when tg_op = 'DELETE' then old else new end;
end
$$;
create trigger instead instead of insert or update or delete on shop.by_instead for each row execute function shop.instead();
create view shop.by_join as select a.key as id, b.text as v from shop.base a join shop.base b using (key);
create view shop.bag_view as select id as a, v from shop.ruled;
create rule twice as on insert to shop.ruled do also insert into shop.log (what) values ('rule ' || new.id);
grant all on all tables in schema shop to regress_courier_apply;
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_target_triggers user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target' || ' options=-crole=regress_courier_apply');
select dblink_connect('target', :'target');
select courier.replication_set_add_all_tables('default', '{shop}');
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
-- ships, and says what triggers did, or why it stopped
create function public.ship() returns table (said text) language plpgsql as $$
declare
    hint text;
begin
    perform dblink_exec('target', 'truncate shop.log restart identity');
    begin
        perform courier.ship('s');
    exception when others then
        get stacked diagnostics hint = pg_exception_hint;
        said := concat_ws(' ', sqlstate, regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID'), regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)'));
        return next;
    end;
    return query select d.what from dblink('target', 'select what from shop.log order by n') d (what text);
end
$$;
create function public.there(name text) returns setof text language sql as $$
    select d.r from dblink('target', format('select t::text from shop.%I t order by 1', name)) d (r text)
$$;

-- each once a row: a single one, several, of several transactions, row by row
insert into shop.item values (1, 'one'), (2, 'two'), (3, 'three');
insert into shop.bag values (1, 'x'), (1, 'x');
select * from ship();
update shop.item set v = 'changed' where id = 1;
update shop.item set v = 'changed again' where id = 1;
update shop.item set n = 7 where id > 1;
delete from shop.bag where ctid = '(0,1)';
select * from ship();
update shop.item set id = 10 where id = 1;
delete from shop.item where id = 2;
insert into shop.item values (4, 'four');
update shop.item set v = 'born as this' where id = 4;
select * from ship();
-- a row that is there already: the batch is sent again, row by row
select dblink_exec('target', 'set session_replication_role = replica; insert into shop.item values (5, ''there''); set session_replication_role = origin');
insert into shop.item values (5, 'five'), (6, 'six');
update shop.item set n = 9 where id = 3;
select * from ship();
truncate shop.item;
select * from ship();
-- a role that may not be a replica's: ordinary triggers fire, those for replicas don't
alter role regress_courier_apply superuser;
insert into shop.item values (1, 'one'), (2, 'two');
update shop.item set v = 'changed' where id = 1;
select * from ship();
update shop.item set v = 'changed' where id = 2;
delete from shop.item where id = 1;
select * from ship();

-- a trigger that leaves out or changes
insert into shop.skipped values (1, 'a'), (2, 'skip'), (3, 'c');
select * from ship();
select * from there('skipped');
update shop.skipped set v = 'skip' where id = 1;
update shop.skipped set v = 'cc' where id = 3;
select * from ship();
select * from there('skipped');
insert into shop.skipped values (4, 'refuse');
select * from ship();
update shop.skipped set v = 'fine' where id = 4;
select * from ship();
select dblink_exec('target', 'alter table shop.skipped disable trigger skip');
select * from ship();
select * from there('skipped');

-- a rule of the target; views
insert into shop.ruled values (1, 'a'), (2, 'b');
update shop.ruled set v = 'changed' where id = 2;
delete from shop.ruled where id = 1;
select * from ship();
insert into shop.by_view select i, 'v' || i from generate_series(1, 3) i;
select * from ship();
select dblink_exec('target', $$drop view shop.by_view; alter table shop.base add gone text;
    create view shop.by_view as select key as id, text as v, gone from shop.base; grant all on shop.by_view to regress_courier_apply$$);
select * from ship();
update shop.by_view set v = 'changed' where id = 1;
update shop.by_view set id = 22 where id = 2;
delete from shop.by_view where id = 3;
insert into shop.by_view values (4, 'x'), (5, 'y');
select * from ship();
select * from there('by_view');
-- row by row
select dblink_exec('target', $$delete from shop.by_view where id = 1; insert into shop.by_view values (6, 'there')$$);
insert into shop.by_view values (6, 'six');
update shop.by_view set v = 'changed again' where id = 1;
select * from ship();
select * from there('by_view');
-- views that cannot be written by statements of any role
insert into shop.by_instead values (1, 'x');
select * from ship();
select courier.replication_set_remove_table('default', 'shop.by_instead');
insert into shop.by_join values (1, 'x');
select * from ship();
select courier.replication_set_remove_table('default', 'shop.by_join');
insert into shop.bag_view values (1, 'x');
select * from ship();
select courier.replication_set_remove_table('default', 'shop.bag_view');
select * from ship();

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.there;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_target_triggers;
drop role regress_courier_apply;
