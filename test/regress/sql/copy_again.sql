-- Copies that are given up and begun anew: after a dead letter, after courier.ship()
-- was rolled back, after a table has left its set and come back; and what such a
-- copy finds on the node.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_copy_again;
create schema kit;
create extension citext schema kit;
create extension ltree schema kit;
create schema shop;
create table shop.item (id int primary key, filler text);
create table shop.small (id int primary key, v int);
create table shop.parent (id int primary key, v text);
create table shop.child (primary key (id)) inherits (shop.parent);
create table shop.path (name kit.citext, path kit.ltree, v text, primary key (name, path));
create table shop.amount (n numeric primary key, v text);
\c postgres
create database regress_courier_copy_again template :"source";
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_copy_again user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target');
select dblink_connect('target', :'target');
create function public.ship(out shipped text, out hint text) language plpgsql as $$
begin
    shipped := courier.ship('s');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    shipped := sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction N');
end
$$;
create function public.differing() returns table (table_name text, here bigint, there bigint, differ bigint) language plpgsql as $$
declare
    content text;
begin
    foreach table_name in array '{item,small,parent,child,path,amount}'::text[] loop
        content := format('select t::text from only shop.%I t', table_name);
        return query execute format(
            'with a as (%1$s), b as (select * from dblink(''target'', %1$L) as d (t text))
             select %2$L, (select count(*) from a), (select count(*) from b),
                    (select count(*) from ((table a except all table b) union all (table b except all table a)) x)', content, table_name);
    end loop;
end
$$;
create view public.copy_state as select table_name, state from courier.copy_status where state <> 'copied' order by 1;
insert into shop.item select i, repeat('f', 200) from generate_series(1, 6000) i;
insert into shop.small select i, i from generate_series(1, 20) i;
insert into shop.parent select i, 'parent ' || i from generate_series(1, 10) i;
insert into shop.child select i, 'child ' || i from generate_series(5, 15) i;
insert into shop.path values ('One', 'Top.a', 'v'), ('Two', 'Top', 'v'), ('Three', '', 'v'), ('Four', 'Top.b', 'v');
insert into shop.amount values (1.0, 'v'), (2, 'v');
select courier.replication_set_add_all_tables('default', '{shop}');

-- A copy that stops half way; it is paused, and a transaction set aside. What has
-- arrived is known to be of that copy, and so it is merged.
select dblink_exec('target', 'alter table shop.item add constraint half check (id < 4000)');
select dblink_exec('target', 'alter table shop.small add constraint low check (v < 100)');
select courier.create_subscription('s', 'eu', options => '{"copy_workers": 1, "on_error": "dead_letter"}') is not null as created;
select * from ship();
select * from dblink('target', 'select count(*) > 0 from courier_target.copied_chunk') as d ("some copied" bool);
select dblink_exec('target', 'alter table shop.item drop constraint half');
select courier.pause_copy('s');
select * from ship();
select * from copy_state;
select * from dblink('target', 'select count(*) between 1 and 5999 from shop.item') as d (half bool);
insert into shop.small values (21, 210);
select * from ship();
select * from ship();
select state, error_sqlstate from courier.dead_letter;
select dblink_exec('target', 'alter table shop.small drop constraint low');
select courier.resume_copy('s');
select * from ship();
select * from copy_state;
select * from differing();

-- An inheritance parent is merged without its children, which may have its keys.
update only shop.parent set v = 'changed ' || id where id in (6, 7);
select dblink_exec('target', $$update only shop.parent set v = 'mine' where id in (8, 9);
    insert into shop.parent values (12, 'child 12')$$);
select courier.alter_subscription_resynchronize_table('s', 'shop.parent');
select * from ship();
select * from differing() where differ > 0;

-- Keys whose equality is an extension's. What equals a key without being the same
-- is another row.
select dblink_exec('target', $$update shop.path set name = 'one', v = 'mine' where name = 'One';
    update shop.path set name = 'TWO' where name = 'Two';
    update shop.path set v = 'mine' where name = 'Three';
    insert into shop.path values ('Five', 'Top', 'mine');
    update shop.amount set n = 1.00 where n = 1$$);
select courier.alter_subscription_resynchronize_table('s', t) from unnest('{shop.path,shop.amount}'::text[]) t;
select * from ship();
select * from differing() where differ > 0;
-- an update that leaves a value out of line as it was, of a table half of which is there
alter table shop.path alter v set storage external;
insert into shop.path select 'Row ' || i, ('Top.r' || i)::kit.ltree, repeat('v', 3000) from generate_series(1, 600) i;
select * from ship();
select dblink_exec('target', 'alter table shop.path add constraint half check (path::text <> ''Top.r500'') not valid');
select courier.alter_subscription_resynchronize_table('s', 'shop.path', 'truncate');
select * from ship();
select dblink_exec('target', 'alter table shop.path drop constraint half');
update shop.path set name = upper(name::text)::kit.citext where path::text in ('Top.r1', 'Top.r550');
select * from ship();
select * from differing() where differ > 0;

-- What courier.ship() has copied is there, also if its transaction is rolled back.
select courier.alter_subscription_resynchronize_table('s', 'shop.small');
begin;
select * from ship();
rollback;
select * from copy_state;
select courier.wait_for_subscription('s', '0');
select * from ship();
select * from copy_state;
select courier.wait_for_subscription('s', '0');

-- A copy contains what is committed, and nothing that its own transaction has done.
create table shop.bag (v text);
select dblink_exec('target', 'create table shop.bag (v text)');
insert into shop.bag values ('one');
alter table shop.bag replica identity full;
select courier.replication_set_add_table('default', 'shop.bag');
begin;
insert into shop.bag values ('two');
select * from ship();
rollback;
begin;
insert into shop.bag values ('two');
select * from ship();
commit;
select * from dblink('target', 'select v from shop.bag') as d (v text);
do $$
begin
    insert into shop.bag values ('three');
    commit;
    perform courier.ship('s');
    commit;
end
$$;
select * from dblink('target', 'select v from shop.bag order by 1') as d (v text);
-- where none is due it ships what is committed
begin;
insert into shop.bag values ('four');
select * from ship();
commit;
select * from ship();
select * from dblink('target', 'select v from shop.bag order by 1') as d (v text);

-- A table that leaves its set and comes back is copied as if it had never been there:
-- neither a copy that was cancelled nor how one was asked for holds for it.
select courier.alter_subscription_resynchronize_table('s', 'shop.small', 'truncate');
select courier.cancel_copy('s', 'shop.small');
select * from ship();
select courier.replication_set_remove_table('default', 'shop.small');
select * from ship();
select courier.replication_set_add_table('default', 'shop.small');
select on_existing, cancelled from courier.subscription_table_copy where relation = 'shop.small'::regclass;
select courier.wait_for_subscription('s', '0');
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.small', 'merge');
select * from ship();
select * from differing() where differ > 0;
select * from copy_state;

-- A dead letter waits for a copy of its own tables only. Of a table whose copy was
-- cancelled nothing is sent.
select dblink_exec('target', 'alter table shop.amount add constraint low check (n < 100)');
insert into shop.amount values (500, 'set aside');
select * from ship();
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.small');
select courier.cancel_copy('s', 'shop.small');
select dblink_exec('target', 'alter table shop.amount drop constraint low');
select courier.retry_dead_letter(max(dead_letter_id)) from courier.dead_letter;
select * from ship();
select state, applied_changes from courier.dead_letter order by dead_letter_id desc limit 1;
select * from differing() where differ > 0;
-- waits while it is paused, is refused when it is cancelled, and has been overtaken
-- when it is done
select dblink_exec('target', 'alter table shop.amount add constraint low check (n < 100) not valid');
insert into shop.amount values (600, 'set aside');
select * from ship();
select * from ship();
select courier.alter_subscription_resynchronize_table('s', 'shop.amount');
select courier.pause_copy('s');
select dblink_exec('target', 'alter table shop.amount drop constraint low');
select courier.retry_dead_letter(max(dead_letter_id)) from courier.dead_letter;
select * from ship();
select state from courier.dead_letter order by dead_letter_id desc limit 1;
select courier.cancel_copy('s', 'shop.amount');
select * from ship();
select state, error, error_hint from courier.dead_letter order by dead_letter_id desc limit 1;
select courier.resume_copy('s');
select courier.alter_subscription_resynchronize_table('s', 'shop.amount');
select courier.retry_dead_letter(max(dead_letter_id)) from courier.dead_letter;
select * from ship();
select state, left_out_changes from courier.dead_letter order by dead_letter_id desc limit 1;
select courier.alter_subscription_resynchronize_table('s', 'shop.small');
select * from ship();

-- The key is dropped, or updates are not sent any more, half way: the table is
-- copied once more, as one without a key.
select dblink_exec('target', 'alter table shop.item add constraint half check (id <> 4000) not valid');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
select * from ship();
alter table shop.item drop constraint item_pkey;
select dblink_exec('target', 'alter table shop.item drop constraint half');
insert into shop.item values (7000, 'new');
select * from ship();
select * from differing() where differ > 0;
alter table shop.item add primary key (id);
select dblink_exec('target', 'alter table shop.item add constraint half check (id <> 4000) not valid');
select courier.alter_subscription_resynchronize_table('s', 'shop.item', 'truncate');
select * from ship();
select dblink_exec('target', 'alter table shop.item drop constraint half');
-- rows move from pages that are yet to be copied to some that are done
delete from shop.item where id <= 600;
vacuum shop.item;
select courier.alter_replication_set('default', replicate_update => false);
update shop.item set filler = upper(filler) where id between 4500 and 5000;
select * from ship();
select * from differing() where differ > 0;

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop view public.copy_state;
drop function public.ship, public.differing;
drop extension pg_courier;
drop schema shop, kit cascade;
drop database regress_courier_copy_again;
