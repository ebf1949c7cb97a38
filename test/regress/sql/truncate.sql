-- TRUNCATE arrives in order with the rows, as the statement it was: several
-- tables, CASCADE, RESTART IDENTITY, ONLY, single partitions.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_truncate;
create schema shop;
create table shop.item (id serial primary key, v text);
create table shop.line (id int generated always as identity (start with 10 increment by 10) primary key,
    item_id int references shop.item, v text);
create table shop.plain (id int primary key, item_id int references shop.item, v text);
create table shop.own (id serial primary key, other bigserial, v text);
create table shop.log (id int primary key, v text);
-- inheritance
create table shop.parent (id int primary key, v text);
create table shop.child (primary key (id)) inherits (shop.parent);
-- partitions: list below range, hash, quoted names
create table shop.part (id int, region text, v text, primary key (id, region)) partition by list (region);
create table shop.part_eu partition of shop.part for values in ('eu');
create table shop.part_us partition of shop.part for values in ('us', 'it''s') partition by range (id);
create table shop.part_us_low (v text, region text not null, id int not null);
alter table shop.part_us attach partition shop.part_us_low for values from (minvalue) to (100);
create table shop.part_us_high partition of shop.part_us for values from (100) to (maxvalue);
create table shop.part_rest partition of shop.part default;
create table shop."Ha'sh" ("I d" int primary key, v text) partition by hash ("I d");
create table shop.hash_0 partition of shop."Ha'sh" for values with (modulus 2, remainder 0);
create table shop.hash_1 partition of shop."Ha'sh" for values with (modulus 2, remainder 1);
create type shop.color as enum ('red', 'green');
create table shop.colored (c shop.color, id int, at date, primary key (c, id)) partition by list (c);
create table shop.colored_red partition of shop.colored for values in ('red');
create table shop.colored_green partition of shop.colored for values in ('green');
create table shop.dated (at timestamptz, n numeric, primary key (at, n)) partition by range (at);
create table shop.dated_old partition of shop.dated for values from ('2020-01-01 00:00+00') to ('2021-01-01 00:00+00');
create table shop.dated_new partition of shop.dated for values from ('2021-01-01 00:00+00') to ('2022-01-01 00:00+00');

\c postgres
create database regress_courier_truncate template :"source";
\c regress_courier_truncate
set client_min_messages = warning;
-- here it has no partitions, and one of the others is divided in another way
drop table shop.part, shop.dated;
create table shop.part (id int, region text, v text, primary key (id, region));
create table shop.dated (at timestamptz, n numeric, primary key (at, n)) partition by hash (n);
create table shop.dated_0 partition of shop.dated for values with (modulus 1, remainder 0);
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select courier.create_node('eu', format('host=%s port=%s dbname=regress_courier_truncate user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user));
select courier.replication_set_add_table('default', r::regclass)
from unnest('{item,line,plain,own,log,parent,child,part,Ha''sh,colored,dated}'::text[]) t, format('shop.%I', t) r;
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
select dblink_connect('eu', (select server_name::text from courier.node));
select dblink_exec('eu', 'set timezone = ''UTC''');
create function public.there(query text) returns setof text language sql as $$
    select v from dblink('eu', query) d (v text)
$$;
-- rows of a table on both sides: equal, or which differ
create function public.compare(variadic names text[]) returns table (name text, row_count int, verdict text)
language plpgsql set timezone = 'UTC' as $$
declare
    here text[];
    there text[];
begin
    foreach name in array names loop
        execute format('select array(select (to_jsonb(r))::text from shop.%I r order by 1)', name) into here;
        there := array(select public.there(format('select (to_jsonb(r))::text from shop.%I r order by 1', name)));
        row_count := cardinality(here);
        verdict := case when here = there then 'equal' else format('here %s, there %s', here, there) end;
        return next;
    end loop;
end
$$;
-- the changes that wait in the queue: kinds of messages of the last transaction
create function public.queued() returns text language sql as $$
    with recursive chunk as (
        select q.data from courier.queue_0 q order by k desc, seq limit 1
    ), frame as (
        select 1 as n, 0 as at, data from chunk
        union all
        select n + 1, at + 4 + get_byte(data, at + 2) * 256 + get_byte(data, at + 3), data from frame
        where at + 4 + get_byte(data, at + 2) * 256 + get_byte(data, at + 3) < length(data)
    )
    select string_agg(chr(get_byte(data, at + 4)) || case when get_byte(data, at + 4) = ascii('T')
        then format('(%s tables, options %s)', get_byte(data, at + 8), get_byte(data, at + 9)) else '' end, ' ' order by n)
    from frame
$$;

-- the triggers: two for TRUNCATE, on partitions too
select tgrelid::regclass as "table", string_agg(tgname, ' ' order by tgname) as triggers
from pg_trigger where tgname like '!pg\_courier%' and tgrelid in ('shop.item'::regclass, 'shop.part'::regclass, 'shop.part_us'::regclass, 'shop.part_us_low'::regclass)
group by 1 order by 1;

-- several tables and CASCADE are one statement, RESTART IDENTITY is seen
insert into shop.item (v) values ('a'), ('b');
insert into shop.line (item_id) values (1), (2), (2);
insert into shop.plain values (1, 1), (2, 2);
begin;
insert into shop.log values (1, 'before');
truncate shop.item, shop.line, shop.plain;
insert into shop.log values (2, 'after');
commit;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('item', 'line', 'plain', 'log');
insert into shop.item (v) values ('c'), ('d');
insert into shop.line (item_id) values (3), (4);
insert into shop.plain values (3, 3);
select courier.ship('s') > 0 as shipped;
begin;
truncate shop.item restart identity cascade;
insert into shop.item (v) values ('e');
insert into shop.line (item_id) values (1);
commit;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('item', 'line', 'plain', 'log');
-- what the target's sequence gave before is gone
select there('select last_value < 10000 from shop.item_id_seq') as restarted;

-- without RESTART IDENTITY a sequence stays where it is, though another statement
-- of the transaction restarts one
insert into shop.own (v) values ('x'), ('y');
select courier.ship('s') > 0 as shipped;
select there('select setval(''shop.own_id_seq'', 500000) + setval(''shop.own_other_seq'', 600000)');
begin;
truncate shop.line restart identity;
truncate shop.own;
alter sequence shop.own_id_seq restart;
truncate shop.log;
truncate shop.own;
commit;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('line', 'own', 'log');
select there('select last_value from shop.own_id_seq'), there('select last_value from shop.own_other_seq');
truncate shop.own restart identity;
select courier.ship('s') > 0 as shipped;
select there('select last_value from shop.own_id_seq'), there('select last_value from shop.own_other_seq');

-- savepoints
insert into shop.log values (1, 'stays'), (2, 'stays');
insert into shop.own (v) values ('stays');
begin;
savepoint a;
truncate shop.log, shop.own restart identity;
insert into shop.log values (3, 'never');
rollback to a;
insert into shop.log values (4, 'stays');
savepoint b;
truncate shop.own;
release b;
commit;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('log', 'own');

-- triggers of users that write and truncate meanwhile: all tables of a
-- statement are emptied before the first AFTER trigger fires
create function shop.before() returns trigger language plpgsql as $$
begin
    insert into shop.own (v) values ('before ' || tg_table_name);
    truncate shop.log, shop.part_eu;
    insert into shop.log values (50, 'before ' || tg_table_name);
    return null;
end
$$;
create function shop.after() returns trigger language plpgsql as $$
begin
    insert into shop.item (id, v) values (1000, 'after ' || tg_table_name);
    insert into shop.plain values (1000, 1000, 'after ' || tg_table_name);
    return null;
end
$$;
create trigger "!a" before truncate on shop.item for each statement execute function shop.before();
create trigger z before truncate on shop.plain for each statement execute function shop.before();
create trigger a_after after truncate on shop.item for each statement execute function shop.after();
insert into shop.part values (1, 'eu', 'v');
begin;
truncate shop.item, shop.plain, shop.line restart identity;
commit;
select * from compare('item', 'plain', 'line', 'log', 'own', 'part');
select courier.ship('s') > 0 as shipped;
select * from compare('item', 'plain', 'line', 'log', 'own', 'part');
drop trigger "!a" on shop.item;
drop trigger z on shop.plain;
drop trigger a_after on shop.item;
-- one that refuses leaves no trace
create function shop.refuse() returns trigger language plpgsql as $$ begin raise exception 'not now'; end $$;
create trigger z before truncate on shop.plain for each statement execute function shop.refuse();
insert into shop.log values (60, 'stays');
do $$
begin
    begin
        truncate shop.log, shop.plain;
    exception when raise_exception then
        null;
    end;
    truncate shop.own;
end
$$;
select queued();
drop trigger z on shop.plain;
-- a table whose trigger is disabled is not taken along by the next statement
alter table shop.item disable trigger "!pg_courier_truncate";
alter table shop.plain disable trigger "!pg_courier_truncate";
alter table shop.line disable trigger "!pg_courier_truncate";
begin;
truncate shop.item, shop.plain, shop.line;
insert into shop.item values (7, 'stays');
truncate shop.log;
commit;
select queued();
alter table shop.item enable trigger "!pg_courier_truncate";
alter table shop.plain enable trigger "!pg_courier_truncate";
alter table shop.line enable trigger "!pg_courier_truncate";
truncate shop.item, shop.plain, shop.line;
select courier.ship('s') > 0 as shipped;
select * from compare('item', 'plain', 'line', 'log', 'own');

-- ONLY: what inherits on the node is emptied if it was emptied here
insert into shop.parent values (1, 'parent');
insert into shop.child values (2, 'child');
truncate only shop.parent;
select courier.ship('s') > 0 as shipped;
select * from compare('parent', 'child');
insert into shop.parent values (1, 'parent');
truncate shop.parent;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('parent', 'child');

-- partitions: the root, one of them, one that is divided itself, several, hash
insert into shop.part select g, r, 'v' from generate_series(50, 150, 10) g, unnest('{eu,us,it''s,other}'::text[]) r;
insert into shop."Ha'sh" select g, 'v' from generate_series(1, 20) g;
insert into shop.colored select c, g from generate_series(1, 5) g, unnest('{red,green}'::shop.color[]) c;
insert into shop.dated values ('2020-06-01 00:00+02', 1), ('2020-12-31 23:59:59+00', 2), ('2021-01-01 00:00+00', 3);
select courier.ship('s') > 0 as shipped;
select * from compare('part', 'Ha''sh', 'colored', 'dated');
begin;
set local timezone = 'Asia/Tokyo';
set local datestyle = 'German';
set local search_path = shop;
truncate part_us_low, colored_red, dated_old;
insert into part values (51, 'us', 'new'), (53, 'eu', 'new');
commit;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('part', 'Ha''sh', 'colored', 'dated');
truncate shop.part_rest, shop.hash_1;
select courier.ship('s') > 0 as shipped;
select * from compare('part', 'Ha''sh');
truncate shop.part_us;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('part');
truncate shop.part_eu, shop.part;
select queued();
select courier.ship('s') > 0 as shipped;
select * from compare('part');

-- partitions that come and go
create table shop.part_asia partition of shop.part for values in ('asia');
create table shop.part_africa (id int not null, region text not null, v text);
alter table shop.part attach partition shop.part_africa for values in ('africa');
alter table shop.part detach partition shop.part_eu;
select tgrelid::regclass as "table", string_agg(tgname, ' ' order by tgname) as triggers
from pg_trigger where tgname like '!pg\_courier%' and tgrelid in ('shop.part_asia'::regclass, 'shop.part_africa'::regclass, 'shop.part_eu'::regclass)
group by 1 order by 1;
insert into shop.part values (1, 'asia'), (2, 'africa'), (3, 'other');
insert into shop.part_eu values (1, 'eu');
truncate shop.part_asia;
truncate shop.part_africa;
truncate shop.part_eu;
select courier.ship('s') > 0 as shipped;
select * from compare('part');
-- in the transaction that attaches
begin;
create table shop.part_mars partition of shop.part for values in ('mars');
insert into shop.part values (5, 'mars'), (6, 'mars');
truncate shop.part_mars;
insert into shop.part values (7, 'mars');
commit;
select courier.ship('s') > 0 as shipped;
select * from compare('part');
select courier.replication_set_remove_table('default', 'shop.part');
select count(*) as triggers_left from pg_trigger t join pg_partition_tree('shop.part') p on p.relid = t.tgrelid;

-- what the node's own tables refer to can't be emptied there
select dblink_exec('eu', 'create table shop.local (id int references shop.log)');
truncate shop.log;
do $$
declare
    advice text;
begin
    perform courier.ship('s');
exception when others then
    get stacked diagnostics advice = pg_exception_hint;
    raise warning '%: %', sqlstate, regexp_replace(sqlerrm, 'transaction \d+', 'transaction ...') using hint = advice;
end
$$;
select dblink_exec('eu', 'drop table shop.local');
select courier.ship('s') > 0 as shipped;

-- set aside and sent again
select courier.drop_subscription('s');
select courier.create_subscription('s', 'eu', copy_data => false, options => '{"on_error": "dead_letter"}') is not null as created;
select dblink_exec('eu', $d$
    create function shop.refuse_too() returns trigger language plpgsql as 'begin raise exception ''not now''; end';
    create trigger z before truncate on shop.own for each statement execute function shop.refuse_too();
    alter table shop.own enable always trigger z;
    create trigger z before delete on shop.colored_green for each row execute function shop.refuse_too();
    alter table shop.colored_green enable always trigger z$d$);
insert into shop.own (v) values ('in a letter'), ('too');
insert into shop.colored values ('green', 100), ('red', 100);
select courier.ship('s') > 0 as shipped;
truncate shop.own, shop.log restart identity;
truncate shop.colored_green;
select courier.ship('s') is not null as shipped;
select courier.ship('s') is not null as shipped;
select courier.ship('s') is not null as shipped;
select table_name, operation, error, changes from courier.dead_letter order by dead_letter_id;
select * from compare('colored');
select dblink_exec('eu', 'drop trigger z on shop.own; drop trigger z on shop.colored_green');
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter order by dead_letter_id;
select courier.ship('s') is not null as shipped;
select state, error from courier.dead_letter order by dead_letter_id;
select * from compare('own', 'log', 'colored');

select courier.drop_subscription('s');
select courier.drop_node('eu');
select dblink_disconnect('eu');
drop extension pg_courier;
select tgname from pg_trigger where tgname like '!pg%';
drop schema shop cascade;
drop function public.there, public.compare, public.queued;
drop database regress_courier_truncate;
