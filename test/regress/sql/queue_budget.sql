-- courier.queue_max_size: with policy block a write fails, says why, and passes
-- again when space returns; with detach the slowest subscription gives way.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_database(), current_user) as loopback \gset
-- Only this session keeps house.
select pg_advisory_lock('courier.queue_current'::regclass::oid::int8::bit(32)::int, 0);
create role regress_courier_writer;
create schema shop;
grant usage on schema shop to regress_courier_writer;
create table shop.item (id int primary key, name text);
grant all on shop.item to regress_courier_writer;
select courier.create_node('eu', 'host=/nonexistent');
select courier.create_node('us', 'host=/nonexistent');
select courier.replication_set_add_table('default', 'shop.item');
select courier.create_subscription('slow', 'eu', copy_data => false) is not null as created;
select courier.create_subscription('fast', 'us', copy_data => false) is not null as created;

create function public.confirm(which text) returns void language sql as $$
    update courier.subscription_state t set position = courier.position(), durable_position = courier.position()
    from courier.subscription s where s.subscription_id = t.subscription_id and s.subscription_name ~ which
$$;
-- The server takes a setting over a moment after it was told to: new sessions are
-- asked until one has it. By then this one has been told, for its next statement.
create procedure public.configure(setting text, shown text, connection text) language plpgsql as $$
declare
    seen text;
begin
    loop
        select s into seen from public.dblink(connection, format(
            'select set_config(%L, courier.version(), false); select current_setting(%L)', 'application_name', setting)) d (s text);
        exit when seen = shown;
        perform pg_sleep(0.01);
    end loop;
end
$$;
-- how a refusal reads; it comes at commit, so from another session; times vary
create function public.refusal(connection text, command text, out message text, out detail text, out hint text)
language plpgsql as $$
begin
    perform public.dblink_exec(connection, command);
exception when others then
    get stacked diagnostics message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    detail := regexp_replace(detail, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d(:\d\d)?', 'TIME');
end
$$;

-- bad values
alter system set courier.queue_max_size = '-1';
alter system set courier.queue_full_policy = 'give up';
alter system set courier.segment_size = '1kB';

-- no limit
insert into shop.item select i, repeat(md5(i::text), 10) from generate_series(1, 3000) i;
select sum(bytes) > 1024 * 1024 as beyond from courier.queue_status;

alter system set courier.queue_max_size = '1MB';
select pg_reload_conf();
call public.configure('courier.queue_max_size', '1MB', :'loopback');
show courier.queue_max_size;

-- fails, for whoever writes, at once and at the end of a transaction; the queue
-- itself is not touched by others' work
select (public.refusal(:'loopback', 'set role regress_courier_writer; insert into shop.item values (5001, ''refused'')')).* \gx
update courier.subscription set enabled = false where subscription_name = 'slow';
select (public.refusal(:'loopback', 'insert into shop.item values (5001, ''refused'')')).* \gx
update courier.subscription set enabled = true;
select public.confirm('');
select (public.refusal(:'loopback', 'insert into shop.item values (5001, ''refused'')')).* \gx
set role regress_courier_writer;
\set VERBOSITY sqlstate
insert into shop.item values (5001, 'refused');
\set VERBOSITY default
reset role;
update courier.subscription_state set durable_position = (select start_position from courier.subscription s where s.subscription_id = subscription_state.subscription_id);
select count(*) from shop.item where id > 5000;
\set VERBOSITY sqlstate
insert into shop.item values (5001, 'refused');
begin;
insert into shop.item values (5002, 'refused');
prepare transaction 'regress_courier_budget';
rollback;
begin isolation level repeatable read;
select count(*) from shop.item;
insert into shop.item values (5003, 'refused');
commit;
select courier.enqueue('c', 'refused');
\set VERBOSITY default
create table shop.other (id int);
insert into shop.other values (1);

-- fails no more when the subscriptions have confirmed and the segment is emptied
select public.confirm('fast');
select * from courier.housekeep();
select * from courier.housekeep();
select courier.queue_bytes() > 1024 * 1024 as beyond;
select public.confirm('slow');
select * from courier.housekeep();
insert into shop.item values (5001, 'passes');
-- a transaction that passes the limit while it is queued
select * from courier.housekeep();
\set VERBOSITY sqlstate
insert into shop.item select i, repeat(md5(i::text), 10) from generate_series(10001, 20000) i;
\set VERBOSITY default
select count(*) from shop.item where id > 10000;
select courier.queue_bytes() < 2 * 1024 * 1024 as stopped_early;
select public.confirm('');
select * from courier.housekeep();
select * from courier.housekeep();
select * from courier.housekeep();
insert into shop.item values (5002, 'passes');

-- policy detach: writes go on; who is far behind gives way, the other one does not
alter system set courier.queue_full_policy = 'detach';
select pg_reload_conf();
call public.configure('courier.queue_full_policy', 'detach', :'loopback');
insert into shop.item select i, repeat(md5(i::text), 10) from generate_series(10001, 13000) i;
select * from courier.housekeep();
select public.confirm('fast');
insert into shop.item values (5003, 'passes');
-- not before it is far behind
select * from courier.housekeep();
do $$
begin
    while not exists (select from courier.subscription_state where detached_at is not null) loop
        perform public.confirm('fast');
        perform courier.housekeep();
        perform pg_sleep(0.1);
    end loop;
end
$$;
select * from courier.housekeep();
insert into shop.item values (5004, 'passes');
select s.subscription_name, t.state, t.detached_at is not null as detached, t.last_error_sqlstate,
       regexp_replace(t.last_error, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d(:\d\d)?', 'TIME') as last_error, t.last_error_hint
from courier.subscription s join courier.subscription_state t using (subscription_id) order by 1;
select subscription_name, state from courier.subscription_status order by 1;
select public.confirm('fast');
select * from courier.housekeep();
select * from courier.housekeep();
select * from courier.housekeep();
select courier.queue_bytes() < 1024 * 1024 as within;
select courier.alter_subscription_enable('slow');

alter system reset courier.queue_max_size;
alter system reset courier.queue_full_policy;
select pg_reload_conf();
call public.configure('courier.queue_max_size', '0', :'loopback');
set client_min_messages = error;
select courier.drop_subscription('slow');
select courier.drop_subscription('fast');
select courier.drop_node('eu');
select courier.drop_node('us');
set client_min_messages = warning;
drop procedure public.configure;
drop function public.confirm;
drop function public.refusal;
drop schema shop cascade;
drop extension pg_courier;
drop role regress_courier_writer;
