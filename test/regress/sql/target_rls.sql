-- Row-level security and privileges of the target, applied to a role that is
-- subject to them: policies are respected, nothing is left out unseen, and an
-- error says which grant or policy is missing.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_target_rls;
drop role if exists regress_courier_apply;
create role regress_courier_apply in role pg_read_all_stats; -- of the session that has become this role
create schema shop;
create table shop.item (id int primary key, tenant text, v text, n int generated always as (id * 2) stored);
create table shop.bag (tenant text, v text);
alter table shop.bag replica identity full;
create table shop.owned (id int primary key, tenant text, v text);
create table shop.late (id int primary key, tenant text, v text);
\c postgres
create database regress_courier_target_rls template :"source";
grant create on database regress_courier_target_rls to regress_courier_apply;
\c regress_courier_target_rls
alter table shop.item enable row level security;
alter table shop.bag enable row level security;
alter table shop.owned owner to regress_courier_apply;
alter table shop.owned enable row level security;
alter table shop.owned force row level security;
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_target_rls user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target' || ' options=-crole=regress_courier_apply');
select dblink_connect('target', :'target');
-- ships, and says what the target's owner sees or why it stopped
create function public.ship(out shipped text, out hint text) language plpgsql as $$
begin
    shipped := courier.ship('s');
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    shipped := sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID');
    hint := regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)');
end
$$;
create function public.differ() returns table (name text, here text[], there text[]) language plpgsql as $$
declare
    rows_of text;
begin
    foreach name in array '{item,bag,owned,late}'::text[] loop
        rows_of := format('select array(select t::text from shop.%I t order by t::text collate "C")', name);
        execute rows_of into here;
        select d.r into there from dblink('target', rows_of) d (r text[]);
        if here is distinct from there then
            return next;
        end if;
    end loop;
end
$$;
select courier.replication_set_add_table('default', 'shop.' || t) from unnest('{item,bag,owned,late}'::text[]) t;
insert into shop.item values (1, 'a', 'by copy');

-- one after the other: what the role may not yet do
select courier.create_subscription('s', 'eu') is not null as created;
select * from ship();
select dblink_exec('target', 'grant usage on schema shop to regress_courier_apply');
select * from ship();
select dblink_exec('target', 'grant select, insert on all tables in schema shop to regress_courier_apply');
select * from ship();
select dblink_exec('target', 'create policy writes on shop.item for insert to regress_courier_apply with check (tenant <> ''hidden'')');
select * from ship();
select * from differ();
insert into shop.item values (2, 'b', 'policy admits it');
select * from ship();
-- its policy lets it write and not see: what it does not see it cannot update
update shop.item set v = 'changed' where id = 2;
select * from ship();
select dblink_exec('target', 'grant update (v), delete on shop.item to regress_courier_apply');
select * from ship();
select dblink_exec('target', 'grant update on shop.item to regress_courier_apply');
select * from ship();
select dblink_exec('target', 'create policy "sees ''some''" on shop.item for select to public using (tenant <> ''hidden'')');
select * from ship();
select dblink_exec('target', 'create policy changes on shop.item for update using (tenant <> ''hidden'') with check (tenant <> ''hidden'')');
select * from ship();
delete from shop.item where id = 1;
select * from ship();
select dblink_exec('target', 'create policy removes on shop.item for delete using (tenant <> ''hidden'')');
select * from ship();
select * from differ();
-- rows that the policies refuse or hide: a stop, never a row left out
insert into shop.item values (10, 'hidden', 'refused');
select * from ship();
select dblink_exec('target', 'alter policy writes on shop.item with check (true)');
select * from ship();
select * from differ();
update shop.item set v = 'not seen' where id = 10;
select * from ship();
select dblink_exec('target', 'alter policy "sees ''some''" on shop.item using (true); alter policy changes on shop.item using (true) with check (true)');
select * from ship();
delete from shop.item where id = 10;
insert into shop.item values (11, 'a', 'behind it'), (12, 'a', 'behind it');
select * from ship();
select dblink_exec('target', 'create policy strict on shop.item as restrictive for insert with check (id <> 13)');
select dblink_exec('target', 'alter policy removes on shop.item using (true)');
select * from ship();
select * from differ();
insert into shop.item values (13, 'a', 'refused by one that restricts');
select * from ship();
select dblink_exec('target', 'drop policy strict on shop.item');
-- many rows of which one is hidden
select dblink_exec('target', 'alter policy changes on shop.item using (id <> 12)');
update shop.item set v = 'changed';
select * from ship();
select dblink_exec('target', 'drop policy changes on shop.item; create policy changes on shop.item for update using (true)');
select * from ship();
select * from differ();

-- no key: found by the whole row, hidden or not
insert into shop.bag values ('a', 'x'), ('a', 'x'), ('hidden', 'x');
select * from ship();
select dblink_exec('target', 'grant update, delete on shop.bag to regress_courier_apply; create policy p on shop.bag using (tenant <> ''hidden'')');
select * from ship();
select dblink_exec('target', 'alter policy p on shop.bag with check (true)');
select * from ship();
delete from shop.bag where ctid = '(0,1)';
update shop.bag set v = 'y' where tenant = 'a';
select * from ship();
delete from shop.bag where tenant = 'hidden';
select * from ship();
select dblink_exec('target', 'alter policy p on shop.bag using (true)');
select * from ship();
select * from differ();

-- FORCE: the owner is subject to it as well
insert into shop.owned values (1, 'a', 'refused');
select * from ship();
select dblink_exec('target', 'create policy p on shop.owned using (true)');
update shop.owned set v = 'admitted' where id = 1;
delete from shop.owned where id = 1;
insert into shop.owned values (2, 'a', 'stays');
select * from ship();
select * from differ();
-- security that comes while shipping goes on; a policy that names the role
insert into shop.late values (1, 'a', 'before'), (2, 'b', 'before');
select dblink_exec('target', 'grant update, delete on shop.late to regress_courier_apply');
select * from ship();
select dblink_exec('target', 'alter table shop.late enable row level security; create policy mine on shop.late to regress_courier_apply using (tenant = ''a'')');
update shop.late set v = 'after';
select * from ship();
select dblink_exec('target', 'alter policy mine on shop.late using (true)');
delete from shop.late where id = 1;
select * from ship();
select * from differ();
-- TRUNCATE is a privilege and no matter of policies
truncate shop.late, shop.owned;
select * from ship();
select dblink_exec('target', 'grant truncate on shop.late to regress_courier_apply');
select * from ship();
select * from differ();
-- BYPASSRLS ends it all
select dblink_exec('target', 'drop policy mine on shop.late');
insert into shop.late values (5, 'a', 'v');
select * from ship();
alter role regress_courier_apply bypassrls;
select * from ship();
delete from shop.item;
select * from ship();
select * from differ();

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.differ;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_target_rls;
drop role regress_courier_apply;
