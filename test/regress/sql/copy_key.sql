-- The key of a table becomes another column while some of its rows are on the node, and
-- rows have moved to pages that are copied, with a value that no change carries.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_copy_key;
create schema shop;
create function public.make(name text) returns void language plpgsql as $$
begin
    execute format('create table shop.%I (id int primary key, n int not null, filler text, body text)', name);
    execute format('alter table shop.%I alter body set storage external', name);
end
$$;
select make(t) from unnest('{bare,indexed,both}'::text[]) t;
\c postgres
create database regress_courier_copy_key template :"source";
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_copy_key user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as target \gset
select courier.create_node('eu', :'target');
select dblink_connect('target', :'target');
create function public.ship(out shipped text) language plpgsql as $$
begin
    shipped := courier.ship('s');
exception when others then
    shipped := sqlstate || ' ' || sqlerrm;
end
$$;
create function public.differing(name text, out here bigint, out there bigint, out differ bigint) language plpgsql as $$
declare
    content text := format('select t::text from shop.%I t', name);
begin
    execute format(
        'with a as (%1$s), b as (select * from dblink(''target'', %1$L) as d (t text))
         select (select count(*) from a), (select count(*) from b),
                (select count(*) from ((table a except all table b) union all (table b except all table a)) x)', content)
    into here, there, differ;
end
$$;
-- Rows of which the last come to a page that is copied before the copy stops.
create function public.half(name text) returns void language plpgsql as $$
begin
    execute format($f$insert into shop.%I select i, 1200 - i, repeat('f', 600), repeat(md5(i::text), 70)
                   from generate_series(-200, 1200) i$f$, name);
    execute format('delete from shop.%I where id < 1', name);
    perform dblink_exec('target', format('alter table shop.%I add constraint half check (id <> 700)', name));
end
$$;
-- Waits until nobody has a snapshot from before, which would keep VACUUM from removing
-- what has been deleted: a worker that starts, autovacuum.
create function public.unseen() returns void language plpgsql as $$
declare
    horizon xid := pg_current_xact_id()::xid;
begin
    while exists (select from pg_stat_activity where pid <> pg_backend_pid() and coalesce(datname = current_database(), true)
                      and age(backend_xmin) > age(horizon)) loop
        perform pg_sleep(0.01);
        perform pg_stat_clear_snapshot();
    end loop;
end
$$;
create function public.move(name text, out moved bool) language plpgsql as $$
begin
    execute format('update shop.%I set filler = filler || ''x'' where id > 1100', name);
    execute format('select count(*) > 50 from shop.%I where id > 1100 and ctid < ''(10,0)''', name) into moved;
end
$$;
create function public.go_on(name text) returns void language plpgsql as $$
begin
    execute format('update shop.%I set filler = ''short'' where n %% 10 = 0', name);
    execute format('delete from shop.%I where n %% 10 = 1', name);
    execute format('update shop.%I set id = id + 10000 where n %% 10 = 2', name);
    perform dblink_exec('target', format('alter table shop.%I drop constraint half', name));
end
$$;
select courier.create_replication_set('auto', ddl => 'auto');
select courier.create_subscription('s', 'eu', '{default,auto}', options => '{"copy_workers": 1}') is not null as created;

-- the node has no index on that column: all in one transaction
select half('bare');
select unseen();
vacuum shop.bare;
select courier.replication_set_add_table('default', 'shop.bare');
select * from ship();
select * from dblink('target', 'select count(*) between 100 and 1100 from shop.bare') as d (half bool);
select move('bare');
alter table shop.bare drop constraint bare_pkey, add primary key (n);
select go_on('bare');
select * from ship();
select * from differing('bare');

-- it has one: in chunks on, but for rows that are known by the key of before
select half('indexed');
select unseen();
vacuum shop.indexed;
select dblink_exec('target', 'create unique index on shop.indexed (n)');
select courier.replication_set_add_table('default', 'shop.indexed');
select * from ship();
select * from dblink('target', 'select count(*) between 100 and 1100 from shop.indexed') as d (half bool);
select move('indexed');
alter table shop.indexed drop constraint indexed_pkey, add primary key (n);
select go_on('indexed');
select * from ship();
select * from differing('indexed');

-- it gets the key in order with the changes
select half('both');
select unseen();
vacuum shop.both;
select courier.replication_set_add_table('auto', 'shop.both');
select * from ship();
select * from dblink('target', 'select count(*) between 100 and 1100 from shop.both') as d (half bool);
select move('both');
alter table shop.both drop constraint both_pkey, add primary key (n);
select go_on('both');
select * from ship();
select * from differing('both');
select * from dblink('target', $$select pg_get_constraintdef(oid) from pg_constraint where conname = 'both_pkey'$$) as d (key text);
select distinct state from courier.copy_status;
select * from dblink('target', 'select count(*) from courier_target.missed_row') as d (missed int);

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop function public.ship, public.differing, public.half, public.move, public.unseen, public.go_on, public.make;
drop extension pg_courier;
drop schema shop cascade;
drop database regress_courier_copy_key;
