-- What workers ask: which subscriptions are for them, who has the lease of one
-- and who wishes for it. Nothing is shipped here.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_database(), current_user) as loopback \gset
select dblink_connect('other', :'loopback');
create function pg_temp.elsewhere(command text) returns text language sql as $$
    select string_agg(r, ',') from dblink('other', command) d (r text) $$;

select courier.create_node('eu', 'host=/nonexistent');
select courier.create_subscription(name, 'eu', copy_data => false,
           options => case when driver is null then '{}' else jsonb_build_object('driver', driver) end) is not null as created
from (values ('standard', null), ('auto', 'auto'), ('worker', 'worker'), ('sidecar', 'sidecar'), ('none', 'none')) d (name, driver);
select courier.create_subscription('disabled', 'eu', enabled => false) is not null as created;
select courier.create_subscription('x', 'eu', options => '{"driver": "pigeon"}');
create view plan as select subscription_name, wished, free, generation = (select generation from courier.configuration) as fresh
    from courier.worker_plan('{}');
select * from plan;

-- one that runs is not looked at
select subscription_name, wished, free
from courier.worker_plan(array(select subscription_id from courier.subscription where subscription_name = 'auto'));

-- a lease of another session, and what this one may do about it
select subscription_id as id from courier.subscription where subscription_name = 'worker' \gset
select pg_temp.elsewhere(format('select courier.take_lease(%s, ''1 h'')', :id));
select * from plan;
select courier.take_lease(:id, '1 h');

-- a wish, also beside the lease
select courier.wish_lease(:id);
select pg_temp.elsewhere('select wished::text || free from plan where subscription_name = ''worker''');
select courier.withdraw_wish(:id);
select pg_temp.elsewhere(format('select courier.give_lease(%s)', :id));
select pg_temp.elsewhere(format('select courier.wish_lease(%s)', :id));
select * from plan;
-- of a live session it is respected
select * from plan where subscription_name = 'worker';
select pg_temp.elsewhere(format('select courier.withdraw_wish(%s)', :id));
select * from plan where subscription_name = 'worker';
select courier.take_lease(:id, '1 h'), courier.give_lease(:id);
set client_min_messages = error;
select courier.give_lease(:id), courier.withdraw_wish(:id);
set client_min_messages = warning;

-- no lock is left of looking
select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid();

-- errors from outside of the engine
select courier.report_worker(:id, 'no worker is left', '53400', 'Increase max_worker_processes.', 2000);
select state, shipper, last_error, last_error_sqlstate, last_error_hint, next_retry_at > now() as later
from courier.subscription_status where subscription_name = 'worker';
update courier.subscription_state set state = 'stopped' where subscription_id = :id;
select courier.report_worker(:id, 'another', '53400', null, 100);
select state, last_error, last_error_hint from courier.subscription_status where subscription_name = 'worker';

-- for the administrator
create role regress_courier_nobody;
set role regress_courier_nobody;
select courier.worker_plan('{}');
select courier.wish_lease(:id);
select courier.announce_extension();
reset role;
drop role regress_courier_nobody;
select courier.announce_extension();

select dblink_disconnect('other');
set client_min_messages = error;
select count(courier.drop_subscription(subscription_name)) from courier.subscription_status;
set client_min_messages = warning;
drop view plan;
select courier.drop_node('eu');
