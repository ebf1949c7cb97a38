-- Who may do what: superusers and members of the role that owns the extension
-- administer; everyone may look at status; passwords are for nobody.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
create role regress_courier_nobody;
create role regress_courier_monitor in role pg_monitor;
create role regress_courier_admin;
select pg_get_userbyid(extowner) as owner from pg_extension where extname = 'pg_courier' \gset
grant :"owner" to regress_courier_admin;
create schema shop;
grant usage, create on schema shop to regress_courier_nobody;
create table shop.item (id int primary key);
grant all on shop.item to regress_courier_nobody;
select courier.set_local_node('here');
select courier.create_node('eu', 'host=/nonexistent user=somebody password=sesame');
select courier.replication_set_add_table('default', 'shop.item');
select courier.create_subscription('s', 'eu') is not null as created;
update courier.subscription_state set state = 'stopped', last_error = 'key (id)=(1)', last_error_sqlstate = '23505',
    last_error_hint = 'Look at id 1.';

-- the name of the owner varies
create function pg_temp.error_of(command text) returns table (code text, message text, hint text)
language plpgsql as $$
begin
    execute command;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    hint := regexp_replace(hint, 'role .*, which', 'role OWNER, which');
    return next;
end
$$;

set role regress_courier_nobody;
select * from pg_temp.error_of($$select courier.set_local_node('x')$$);
select c.command, e.code, e.message
from (values ($$select courier.create_node('x', 'dbname=x')$$),
             ($$select courier.drop_node('eu')$$),
             ($$select courier.ping('eu')$$),
             ($$select courier.create_replication_set('x')$$),
             ($$select courier.drop_replication_set('x')$$),
             ($$select courier.replication_set_add_table('default', 'shop.item')$$),
             ($$select courier.replication_set_add_table('default', 'shop.item'::regclass)$$),
             ($$select courier.replication_set_add_all_tables('default', '{shop}')$$),
             ($$select courier.replication_set_remove_table('default', 'shop.item')$$),
             ($$select courier.create_subscription('x', 'eu')$$),
             ($$select courier.alter_subscription_enable('s')$$),
             ($$select courier.alter_subscription_disable('s')$$),
             ($$select courier.wait_for_subscription('s')$$),
             ($$select courier.reset_statistics()$$),
             ($$select courier.drop_subscription('s')$$)) c (command)
cross join lateral pg_temp.error_of(c.command) e;
reset role;

-- what PUBLIC can read
select c.relname from pg_class c
where c.relnamespace = 'courier'::regnamespace and c.relkind in ('r', 'v', 'S')
  and has_table_privilege('regress_courier_nobody', c.oid, 'select, insert, update, delete, truncate')
order by 1;
-- what PUBLIC can call does no more than ask; the rest checks first
select p.oid::regprocedure from pg_proc p
where p.pronamespace = 'courier'::regnamespace and p.prosecdef
  and has_function_privilege('regress_courier_nobody', p.oid, 'execute')
order by p.proname collate "C";

set role regress_courier_nobody;
select subscription_name, node_name, state, last_error, last_error_sqlstate, last_error_hint from courier.subscription_status;
select * from courier.node_status;
select subscription_name, shipped from courier.stat_subscription where false;
select sum(chunks) from courier.queue_status;
select * from courier.dead_letter;
select * from courier.subscription;
select srvname, umoptions from pg_user_mappings;
-- and yet its own writes are captured, and its own tables may go
insert into shop.item values (1);
create table shop.mine (id int primary key);
reset role;
select courier.replication_set_add_table('default', 'shop.mine');
set role regress_courier_nobody;
drop table shop.mine;
create table shop.theirs (id int primary key);
reset role;
select relation from courier.replication_set_table;
select pending_changes from courier.subscription_status;

set role regress_courier_monitor;
select state, last_error, last_error_hint from courier.subscription_status;
select * from courier.dead_letter;
select * from pg_temp.error_of($$select courier.drop_node('eu')$$);
reset role;

-- a member of the owner's role administers; what one makes, another can drop
set role regress_courier_admin;
select courier.create_node('us', 'host=/nonexistent password=sesame');
select courier.create_node('us', 'host=/nonexistent password=sesame');
select last_error from courier.subscription_status;
select courier.create_replication_set('mine');
-- but has no say over tables of others
select * from pg_temp.error_of($$select courier.replication_set_add_table('default', 'shop.theirs')$$);
select courier.alter_subscription_disable('s');
reset role;
select courier.drop_node('us');
select courier.create_node('us', 'host=/nonexistent password=sesame');
set role regress_courier_admin;
select courier.drop_node('us');
set client_min_messages = error;
select courier.drop_subscription('s');
set client_min_messages = warning;
select courier.drop_node('eu');
reset role;

drop schema shop cascade;
drop extension pg_courier;
drop role regress_courier_nobody, regress_courier_monitor, regress_courier_admin;
