-- Copying once more where foreign keys of the node act, because the role may not
-- switch them off: no row of another table is lost, and what can't be done is
-- refused before anything is changed.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_copy_fk;
drop role if exists regress_courier_apply;
create role regress_courier_apply in role pg_read_all_stats; -- of the session that has become this role
create schema shop;
grant usage on schema shop to regress_courier_apply;
create table shop.head (id int primary key, code text unique, v text);
create table shop.cascaded (id int primary key, head int references shop.head on update cascade on delete cascade);
create table shop.nulled (id int primary key, head int references shop.head on update cascade on delete set null);
create table shop.parent (id int primary key, v text);
create table shop.strict (id int primary key, parent int references shop.parent);
create table shop.grandchild (id int primary key, strict int references shop.strict, v text);
create table shop.secured (id int primary key, v text);
create table shop.secured_bag (v text); -- no key keeps a row from being there twice
alter table shop.secured_bag replica identity full;
create table shop.numbered (id int primary key, n int generated always as identity, v text);
grant all on all tables in schema shop to regress_courier_apply;
grant all on all sequences in schema shop to regress_courier_apply;
\c postgres
create database regress_courier_copy_fk template :"source";
grant create on database regress_courier_copy_fk to regress_courier_apply;
\c regress_courier_copy_fk
create table shop.local (id int primary key, head int references shop.head on delete cascade); -- of the node alone
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_copy_fk user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target' || ' options=-crole=regress_courier_apply');
select dblink_connect('target', :'target');
select courier.replication_set_add_all_tables('default', '{shop}');
-- the tables that differ, with how many rows are missing there, and how many are there only
create function public.differing() returns text language plpgsql as $$
declare
    t text;
    here text[];
    there text[];
    d text[];
begin
    for t in select c.relname from courier.replication_set_table r join pg_class c on c.oid = r.relation order by 1 loop
        execute format('select array(select x::text from shop.%I x)', t) into here;
        select x.r into there from dblink('target', format('select array(select x::text from shop.%I x)', t)) x (r text[]);
        if exists (select unnest(here) except all select unnest(there)) or exists (select unnest(there) except all select unnest(here)) then
            d := d || format('%s -%s +%s', t, (select count(*) from (select unnest(here) except all select unnest(there)) m),
                             (select count(*) from (select unnest(there) except all select unnest(here)) m));
        end if;
    end loop;
    return array_to_string(d, ', ');
end
$$;
create function public.ship(out shipped text, out hint text, out differ text) language plpgsql as $$
begin
    begin
        shipped := courier.ship('s');
    exception when others then
        get stacked diagnostics hint = pg_exception_hint;
        shipped := sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID');
        hint := regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)');
    end;
    differ := public.differing();
end
$$;
create procedure public.again(policy text, variadic tables text[]) language sql as $$
    select courier.alter_subscription_resynchronize_table('s', 'shop.' || t, policy) from unnest(tables) t
$$;
insert into shop.head select i, 'code ' || i, 'v' from generate_series(1, 20) i;
insert into shop.cascaded select i, i from generate_series(1, 20) i;
insert into shop.nulled select i, i from generate_series(1, 20) i;
insert into shop.parent select i, 'v' from generate_series(1, 10) i;
insert into shop.strict select i, i from generate_series(1, 10) i;
insert into shop.grandchild select i, i from generate_series(1, 10) i;
insert into shop.numbered (id, v) select i, 'v' from generate_series(1, 5) i;
select courier.create_subscription('s', 'eu') is not null as created;
select * from ship() \gx

-- a parent alone: what would take rows of others with it is refused
call again('truncate', 'head');
select * from ship() \gx
-- merged: rows that the source does not have go with what refers to them, others stay
select dblink_exec('target', $$
    insert into shop.head values (100, 'mine', 'v');
    insert into shop.local values (1, 1), (2, 100);
    update shop.head set v = 'mine' where id = 3$$);
call again('merge', 'head');
select * from ship() \gx
select * from dblink('target', 'select id from shop.local') as d ("local" int);
call again('truncate', 'parent');
select * from ship() \gx
call again('merge', 'parent');
-- rows that are in another's way, and are not there on the source, or move on
select dblink_exec('target', $$
    update shop.head set code = 'code 0' where id = 5;
    update shop.head set code = 'code 5' where id = 4;
    insert into shop.head values (100, 'code 4', 'v')$$);
call again('merge', 'head');
select * from ship() \gx
-- two rows have swapped values: one would have to go for a moment
select dblink_exec('target', $$
    update shop.head set code = null where id = 1;
    update shop.head set code = 'code 1' where id = 2;
    update shop.head set code = 'code 2' where id = 1;
    update shop.head set code = 'code' where id = 6$$);
call again('merge', 'head');
select * from ship() \gx
select * from dblink('target', 'select id from shop.local') as d ("local" int);
-- with the tables that refer to it, of which the subscription does not have one
call again('merge', 'cascaded', 'nulled');
select * from ship() \gx
select dblink_exec('target', 'drop table shop.local');
select * from ship() \gx
call again('truncate', 'head', 'cascaded', 'nulled');
select * from ship() \gx

-- parents and children that the source has not
select dblink_exec('target', $$
    insert into shop.parent values (200, 'mine'), (201, 'mine');
    insert into shop.strict values (200, 200), (201, 3);
    insert into shop.grandchild values (200, 200), (201, 201), (202, 4);
    delete from shop.grandchild where id = 7;
    update shop.strict set parent = 200 where id = 8$$);
call again('merge', 'parent', 'strict', 'grandchild');
select * from ship() \gx
select dblink_exec('target', $$
    insert into shop.parent values (200, 'mine');
    insert into shop.strict values (200, 200);
    insert into shop.grandchild values (200, 200)$$);
call again('truncate', 'parent', 'strict', 'grandchild');
select * from ship() \gx
select dblink_exec('target', $$
    insert into shop.parent values (200, 'mine');
    insert into shop.strict values (200, 200)$$);
call again('merge', 'parent');
call again('truncate', 'strict', 'grandchild');
select * from ship() \gx

-- changes of a parent and of its children while its copy waits
select courier.pause_copy('s');
select dblink_exec('target', 'update shop.head set v = ''mine'' where id = 9');
call again('merge', 'head', 'parent');
begin;
insert into shop.parent values (30, 'new');
insert into shop.strict values (30, 30);
insert into shop.head values (30, 'code 30', 'new');
insert into shop.cascaded values (30, 30);
commit;
update shop.head set id = 31 where id = 11;
update shop.head set v = 'changed', code = 'code 32' where id = 12;
update shop.head set id = 32 where id = 12;
delete from shop.head where id = 13;
select * from ship() \gx
select courier.resume_copy('s');
insert into shop.parent values (33, 'new');
insert into shop.strict values (33, 33);
select * from ship() \gx
-- while those of both wait; one can't be applied before the merge
select courier.pause_copy('s');
call again('merge', 'head', 'cascaded', 'nulled', 'parent', 'strict', 'grandchild');
select dblink_exec('target', 'insert into shop.head values (40, ''in the way'', ''mine'')');
insert into shop.head values (41, 'in the way', 'new');
insert into shop.cascaded values (41, 41);
delete from shop.strict where id = 33;
delete from shop.parent where id = 33;
select * from ship() \gx
select courier.resume_copy('s');
select * from ship() \gx

-- row-level security: rows that it hides can't be merged
select dblink_exec('target', 'alter table shop.secured enable row level security; create policy p on shop.secured using (id < 100)');
insert into shop.secured values (1, 'v');
select * from ship() \gx
call again('merge', 'secured');
select * from ship() \gx
call again('truncate', 'secured');
select * from ship() \gx
insert into shop.secured_bag values ('seen'), ('hidden');
select * from ship() \gx
select dblink_exec('target', 'alter table shop.secured_bag enable row level security; create policy p on shop.secured_bag using (v = ''seen'') with check (true)');
call again('truncate', 'secured');
call again('merge', 'secured_bag');
select * from ship() \gx
call again('truncate', 'secured_bag');
select * from ship() \gx

-- an identity column that no update can set
select dblink_exec('target', 'delete from shop.numbered where id = 2; insert into shop.numbered overriding system value values (2, 77, ''v'')');
call again('merge', 'numbered');
select * from ship() \gx

-- in a circle, which is deferrable but not deferred
select courier.drop_subscription('s');
create table shop.hen (id int primary key, egg int not null, hen int references shop.hen deferrable);
create table shop.egg (id int primary key, hen int not null references shop.hen deferrable);
alter table shop.hen add foreign key (egg) references shop.egg deferrable;
select dblink_exec('target', $$
    create table shop.hen (id int primary key, egg int not null, hen int references shop.hen deferrable);
    create table shop.egg (id int primary key, hen int not null references shop.hen deferrable);
    alter table shop.hen add foreign key (egg) references shop.egg deferrable;
    grant all on shop.hen, shop.egg to regress_courier_apply;
    begin;
    set constraints all deferred;
    insert into shop.hen values (100, 100);
    insert into shop.egg values (100, 100);
    commit$$);
select courier.replication_set_add_table('default', 'shop.hen'), courier.replication_set_add_table('default', 'shop.egg');
begin;
set constraints all deferred;
insert into shop.hen select i, i, 4 - i from generate_series(1, 3) i;
insert into shop.egg select i, i from generate_series(1, 3) i;
commit;
select courier.create_subscription('s', 'eu', on_existing => 'merge') is not null as created;
call again('truncate', 'secured', 'secured_bag');
select * from ship() \gx
call again('truncate', 'hen', 'egg');
select * from ship() \gx
-- one that is not: refused, and what is there stays
select dblink_exec('target', 'alter table shop.egg alter constraint egg_hen_fkey not deferrable');
call again('truncate', 'hen', 'egg');
select * from ship() \gx

-- rows that refer to their own table, in whatever partition
select courier.drop_subscription('s');
select courier.replication_set_remove_table('default', relation) from courier.replication_set_table where set_name = 'default';
create table shop.tree (id int primary key, up int not null references shop.tree) partition by hash (id);
create table shop.tree_0 partition of shop.tree for values with (modulus 2, remainder 0);
create table shop.tree_1 partition of shop.tree for values with (modulus 2, remainder 1);
select dblink_exec('target', $$
    create table shop.tree (id int primary key, up int not null references shop.tree) partition by hash (id);
    create table shop.tree_0 partition of shop.tree for values with (modulus 2, remainder 0);
    create table shop.tree_1 partition of shop.tree for values with (modulus 2, remainder 1);
    grant all on shop.tree to regress_courier_apply$$);
insert into shop.tree select i, 21 - i from generate_series(1, 20) i;
select courier.replication_set_add_table('default', 'shop.tree');
select courier.create_subscription('s', 'eu') is not null as created;
select courier.ship('s');
select * from dblink('target', 'select count(*), sum(id * up), count(distinct tableoid) from shop.tree') as d (rows int, sum int, partitions int);

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.differing;
drop procedure public.again;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_copy_fk;
drop role regress_courier_apply;
