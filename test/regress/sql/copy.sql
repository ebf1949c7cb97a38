-- The copy of existing rows: what it refuses, before it changes anything on the
-- node; merging, truncating, pausing, cancelling, copying once more.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_copy;
create schema shop;
create type shop.mood as enum ('sad', 'it''s "fine"');
create table shop.item (id int primary key, code text unique, moods shop.mood[], n numeric(8,2), b bytea,
                        g int generated always as (id * 2) stored);
create table shop.line (item int references shop.item, "the ""no" text collate "C", v int, primary key (item, "the ""no"));
create table shop.part (id int primary key, v text) partition by range (id);
create table shop.part_low partition of shop.part for values from (minvalue) to (100);
create table shop.part_high partition of shop.part for values from (100) to (maxvalue);
create table shop.bag (v text);
\c postgres
create database regress_courier_copy template :"source";
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_copy user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target');
select dblink_connect('target', :'target');
create function public.ship(out shipped text, out hint text) language plpgsql as $$
begin
    shipped := courier.ship('s');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    shipped := sqlstate || ' ' || sqlerrm;
end
$$;
-- what the tables hold on either side
create function public.differing() returns table (table_name text, here bigint, there bigint, differ bigint) language plpgsql as $$
declare
    content text;
begin
    foreach table_name in array '{item,line,part,bag}'::text[] loop
        content := format('select t::text from shop.%I t', table_name);
        return query execute format(
            'with a as (%1$s), b as (select * from dblink(''target'', %1$L) as d (t text))
             select %2$L, (select count(*) from a), (select count(*) from b),
                    (select count(*) from ((table a except all table b) union all (table b except all table a)) x)', content, table_name);
    end loop;
end
$$;
insert into shop.item select i, 'code ' || i, array['sad', 'it''s "fine"', null]::shop.mood[], i / 7.0, decode(md5(i::text), 'hex')
from generate_series(1, 2000) i;
insert into shop.item values (2001, null, null, null, null), (2002, E'a\\b''{c},"', '{}', -0.5, '\x');
insert into shop.line select i, E'no\\ ''' || i, i from generate_series(1, 500) i;
insert into shop.part select i, repeat('v', i) from generate_series(1, 200) i;
insert into shop.bag values ('twice'), ('twice'), (null);
alter table shop.bag replica identity full;
select courier.replication_set_add_all_tables('default', '{shop}');

-- refused when it is asked for
select courier.create_subscription('s', 'eu', on_existing => 'overwrite');
select courier.create_subscription('s', 'eu', options => '{"copy_workers": 0}');
select courier.pause_copy('nosuch');
select courier.create_subscription('s', 'eu', options => '{"copy_workers": 3}') is not null as created;
select courier.alter_subscription_resynchronize_table('s', 'shop.nosuch');
select courier.alter_subscription_resynchronize_table('s', 'pg_class');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'overwrite');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', null);
select courier.cancel_copy('s', 'pg_class');

-- refused when it is begun: one table does not fit, and nothing is written to any
select dblink_exec('target', 'insert into shop.part values (7, ''here already'')');
select * from ship();
select dblink_exec('target', 'delete from shop.part; alter table shop.bag rename v to w');
select * from ship();
select dblink_exec('target', 'alter table shop.bag rename w to v');
select * from differing() where table_name <> 'bag';
select table_name, state, chunks_done from courier.copy_status order by 1;
select courier.wait_for_subscription('s', '0');

-- all of it, by every kind of table
select * from ship();
select * from differing();
select table_name, state, chunks_done = chunks_total as whole, rows_copied, finished_at >= started_at as timed
from courier.copy_status order by 1;
select courier.wait_for_subscription('s', '0');
select state from courier.subscription_status;
select courier.cancel_copy('s');
select courier.cancel_copy('s', 'shop.item');

-- merging: equal rows are left alone, codes have changed owners, some are gone
select dblink_exec('target', $$
    set session_replication_role = replica;
    delete from shop.item where id between 100 and 199;
    update shop.item set code = 'x' || code where id between 300 and 320;
    update shop.item set code = null where id in (400, 401);
    update shop.item set code = 'code 400' where id = 401;
    update shop.item set code = 'code 401', moods = null where id = 400;
    insert into shop.item select i, 'mine ' || i from generate_series(5000, 5100) i;
    update shop.item set code = null where id = 500;
    insert into shop.item values (6000, 'code 500');
    delete from shop.line where item % 3 = 0;
    insert into shop.line values (1, 'mine');
    update shop.part set v = 'mine' where id in (5, 150);
    insert into shop.bag values ('mine');
    reset session_replication_role$$);
select * from dblink('target', 'select pg_current_xact_id()') as d (xid xid8) \gset
select * from differing();
select courier.alter_subscription_resynchronize_table('s', t) from unnest('{shop.item,shop.line,shop.part,shop.bag}'::text[]) t;
select distinct state from courier.copy_status;
select courier.wait_for_subscription('s', '0');
select * from ship();
select * from differing();
select * from dblink('target', format('select count(*) from shop.item where xmin::text::int8 < %s', :'xid')) as d ("left alone" int);
select courier.wait_for_subscription('s', '0');
update shop.item set n = 1 where id = 400;
delete from shop.item where id = 2001;
select * from ship();
select * from differing();

-- emptying it first, though another table refers to it; and one that has no key;
-- indexes are dropped for the copy and made again
select dblink_exec('target', 'create index "by ''n''" on shop.item (n, lower(code)) where n > 0; create index other on shop.item using hash (code)');
select courier.alter_subscription_options('s', '{"copy_indexes": "rebuild"}');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
select courier.alter_subscription_resynchronize_table('s', 'shop.bag', 'truncate');
select courier.alter_subscription_resynchronize_table('s', 'shop.line', 'error');
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.line');
select * from ship();
select * from differing();

select * from dblink('target', $$select indexdef from pg_indexes where tablename = 'item' order by 1$$) as d (index text);
select * from dblink('target', $$select count(*) from courier_target.dropped_index$$) as d (dropped int);
select courier.alter_subscription_options('s', '{"copy_indexes": null}');

-- what the role may not do is found before anything of any table is changed
create role regress_courier_copy login;
select dblink_exec('target', $$
    grant create on database regress_courier_copy to regress_courier_copy;
    grant usage on schema shop, courier_target to regress_courier_copy;
    grant all on all tables in schema courier_target to regress_courier_copy;
    grant select, insert, update, delete on all tables in schema shop to regress_courier_copy;
    revoke delete on shop.part from regress_courier_copy;
    insert into shop.bag values ('mine'); insert into shop.part values (90, 'mine') on conflict do nothing$$);
select courier.create_node('eu2', :'target' || ' options=-crole=regress_courier_copy');
select courier.create_replication_set('some');
select courier.replication_set_add_table('some', t) from unnest('{shop.bag,shop.part}'::text[]) t;
select courier.create_subscription('s2', 'eu2', '{some}', on_existing => 'merge') is not null as created;
create function public.ship2(out shipped text, out hint text) language plpgsql as $$
begin
    shipped := courier.ship('s2');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    shipped := sqlstate || ' ' || sqlerrm;
end
$$;
select * from ship2();
select courier.alter_subscription_options('s2', '{"on_existing": "truncate"}');
select * from ship2();
select * from dblink('target', 'select (select count(*) from shop.bag), (select count(*) from shop.part)') as d (bag int, part int);
select courier.drop_subscription('s2');
select courier.drop_node('eu2');
select courier.drop_replication_set('some');
select dblink_exec('target', 'drop owned by regress_courier_copy');
drop role regress_courier_copy;
drop function public.ship2;

-- rows are counted before a table counts as copied: somebody else adds one, or keeps some away
select dblink_exec('target', $$
    create function shop.meddle() returns trigger language plpgsql as
        'begin if new.id = 5 then insert into shop.part values (1000, ''mine''); end if; return null; end';
    create trigger meddle after insert on shop.part for each row execute function shop.meddle();
    alter table shop.part enable always trigger meddle$$);
select courier.alter_subscription_resynchronize_table('s', 'shop.part', 'truncate');
select * from ship();
select courier.wait_for_subscription('s', '0');
select table_name, state from courier.copy_status where table_name = 'part';
select dblink_exec('target', $$
    create or replace function shop.meddle() returns trigger language plpgsql as 'begin return case when new.id <> 5 then new end; end';
    drop trigger meddle on shop.part;
    create trigger meddle before insert on shop.part for each row execute function shop.meddle();
    alter table shop.part enable always trigger meddle$$);
select courier.alter_subscription_resynchronize_table('s', 'shop.part', 'truncate');
select * from ship();
select dblink_exec('target', 'drop function shop.meddle cascade');
select courier.alter_subscription_resynchronize_table('s', 'shop.part');
select * from ship();
select * from differing();
-- no such table on the node, another type
select dblink_exec('target', 'alter table shop.bag rename to bags');
select courier.alter_subscription_resynchronize_table('s', 'shop.bag', 'truncate');
select * from ship();
select dblink_exec('target', 'alter table shop.bags rename to bag; alter table shop.bag alter v type date using null');
select * from ship();
select * from dblink('target', 'select count(*) from shop.bag') as d (bag int);
select dblink_exec('target', 'alter table shop.bag alter v type text');
select * from ship();
select * from differing();

-- paused: changes flow, what is copied waits
select courier.pause_copy('s');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
insert into shop.part values (201, 'flows');
insert into shop.item values (7000, 'waits');
select * from ship();
select * from differing();
select table_name, state from courier.copy_status order by 1;
select courier.wait_for_subscription('s', '0');
select courier.resume_copy('s');
select * from ship();
select * from differing();

-- cancelled: nothing of the table is sent until it is asked for again
select courier.alter_subscription_resynchronize_table('s', 'shop.part');
select courier.cancel_copy('s', 'shop.part');
insert into shop.part values (202, 'not sent');
insert into shop.item values (7001, 'sent');
select * from ship();
select * from differing();
select table_name, state from courier.copy_status order by 1;
select courier.wait_for_subscription('s', '0');
select courier.alter_subscription_resynchronize_table('s', 'shop.part');
select * from ship();
select * from differing();
select dblink_exec('target', 'vacuum');
select * from dblink('target', $$select (select count(*) from courier_target.copying), (select count(*) from courier_target.copied_chunk),
    (select count(*) from courier_target.copied)$$) as d (copying int, chunks int, copied int);

-- nothing is left behind
select courier.drop_subscription('s');
select * from dblink('target', 'select count(*) from pg_namespace where nspname = ''courier_target''') as d ("left" int);
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.differing;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_copy;
