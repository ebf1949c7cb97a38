-- Subscriptions: what is refused, what is written down, waiting, dropping.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_database(), current_user) as loopback \gset
create schema shop;
create table shop.item (id int primary key, name text);
select courier.replication_set_add_table('default', 'shop.item');
select courier.create_node('eu', :'loopback');
select courier.create_node('dead', 'host=/nonexistent');

-- refused
select courier.create_subscription('s', 'nosuch');
select courier.create_subscription('s', 'eu', '{default,nosuch}');
select courier.create_subscription('s', 'eu', '{}');
select courier.create_subscription('s', 'eu', null);
select courier.create_subscription('s', 'eu', copy_data => null);
select courier.create_subscription('s', 'eu', capture => 'wal');
select courier.create_subscription('s', 'eu', capture => 'pigeon');
select courier.create_subscription('s', 'eu', capture => null);
select courier.create_subscription('s', 'eu', options => null);
select courier.create_subscription('s', 'eu', options => '[]');
select courier.create_subscription('s', 'eu', options => '{"on_conflct": "error"}');
select courier.create_subscription('s', 'eu', options => '{"on_conflict": "ignore"}');
select courier.create_subscription('s', 'eu', options => '{"on_conflict": 1}');
select courier.create_subscription('s', 'eu', options => '{"on_error": "ignore"}');
select courier.create_subscription('s', 'eu', options => '{"driver": null}');
select courier.create_subscription('s', 'eu', options => '{"batch_rows": 0}');
select courier.create_subscription('s', 'eu', options => '{"batch_bytes": "many"}');
begin isolation level repeatable read;
select courier.create_subscription('s', 'eu');
rollback;
select courier.wait_for_subscription('nosuch');
select courier.alter_subscription_enable('nosuch');
select courier.alter_subscription_disable('nosuch');
select courier.drop_subscription('nosuch');
select count(*) from courier.subscription;

-- created; the same again does no harm
select courier.create_subscription('s', 'eu', copy_data => false,
    options => '{"on_conflict": "keep_local", "on_error": "stop", "driver": "none", "batch_rows": 10, "batch_bytes": 1000000}') as id \gset
select courier.create_subscription('s', 'eu', copy_data => false,
    options => '{"on_conflict": "keep_local", "on_error": "stop", "driver": "none", "batch_rows": 10, "batch_bytes": 1000000}') = :id as same;
select courier.create_subscription('s', 'eu', copy_data => false);
select subscription_name, node_name, state, lag_bytes, lag_time, pending_changes, last_error, shipper, shipped, replication_sets, capture
from courier.subscription_status;
select s.start_position::text = t.position as from_start, pg_snapshot_xmax(r.added) <= pg_snapshot_xmax(s.start_position) as added_before
from courier.subscription s join courier.subscription_state t using (subscription_id), courier.replication_set_table r;

-- a change counts until the position has passed it
select courier.wait_for_subscription('s', '0');
insert into shop.item values (1, 'one');
select state, lag_bytes > 0 as lag_bytes, lag_time < '1 hour' as lag_time, pending_changes from courier.subscription_status;
select segment, chunks, changes, bytes > 0 as bytes, oldest_change = newest_change as one from courier.queue_status where chunks > 0;
select courier.wait_for_subscription('s', '10 ms');
update courier.subscription_state set position = courier.position()::text;
select courier.wait_for_subscription('s', '10 ms');
select lag_bytes, lag_time, pending_changes from courier.subscription_status;

-- a position inside an interval: up to (K,XID) of (P,S]
select courier.position() as p \gset
insert into shop.item values (2, 'two');
insert into shop.item values (3, 'three');
select courier.position() as s \gset
select k || '|' || xid as first from courier.queue_chunk where not pg_visible_in_snapshot(xid, :'p') order by k, xid limit 1 \gset
select k || '|' || xid as last from courier.queue_chunk where not pg_visible_in_snapshot(xid, :'p') order by k desc, xid desc limit 1 \gset
update courier.subscription_state set position = :'p' || '|' || :'s' || '|' || :'first';
select pending_changes from courier.subscription_status;
select courier.wait_for_subscription('s', '0');
update courier.subscription_state set position = :'p' || '|' || :'s' || '|' || :'last';
select pending_changes from courier.subscription_status;
select courier.wait_for_subscription('s', '0');
insert into shop.item values (4, 'four');
select pending_changes from courier.subscription_status;
select courier.wait_for_subscription('s', '0');

-- what the caller has not committed is not waited for
update courier.subscription_state set position = courier.position()::text;
begin;
insert into shop.item values (5, 'five');
select courier.wait_for_subscription('s', '0');
rollback;
begin isolation level repeatable read;
select courier.wait_for_subscription('s', '0');
rollback;

-- stopped and disabled ones say so at once, unless all is there
insert into shop.item values (6, 'six');
update courier.subscription_state set state = 'stopped', last_error = 'null value in column "name"',
    last_error_sqlstate = '23502', last_error_hint = 'Allow nulls there.';
select courier.wait_for_subscription('s', '1 hour');
select state, last_error, last_error_sqlstate, last_error_hint from courier.subscription_status;
select subscriptions, shipping, retrying, stopped from courier.node_status where node_name = 'eu';
select courier.alter_subscription_enable('s');
select state, last_error, next_retry_at <= clock_timestamp() as due from courier.subscription_status;
select courier.alter_subscription_disable('s');
select courier.alter_subscription_disable('s');
select state from courier.subscription_status;
select courier.wait_for_subscription('s', '1 hour');
select courier.alter_subscription_enable('s');
select state from courier.subscription_status;
update courier.subscription_state set state = 'needs_resync';
select courier.wait_for_subscription('s', '1 hour');
select courier.alter_subscription_enable('s');

-- while existing rows are copied, nothing is known to be there
select courier.create_subscription('copying', 'eu') is not null as created;
select state from courier.subscription_status where subscription_name = 'copying';
select courier.wait_for_subscription('copying', '0');
select courier.drop_subscription('copying');

-- dropping: what the target holds goes at commit, not before, and the schema with the last one
create schema courier_target;
create table courier_target.progress (subscription uuid);
create table courier_target.event (subscription uuid);
insert into courier_target.progress select progress_key from courier.subscription;
insert into courier_target.event select subscription from courier_target.progress;
insert into courier_target.progress values ('00000000-0000-0000-0000-000000000000');
insert into courier_target.event values ('00000000-0000-0000-0000-000000000000');
begin;
select courier.drop_subscription('s');
rollback;
select count(*) from courier_target.progress;
select courier.drop_subscription('s');
select * from courier_target.progress natural join courier_target.event;
select * from courier.subscription_status;
select tgname from pg_trigger where tgrelid = 'shop.item'::regclass;
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
truncate courier_target.progress;
select courier.drop_subscription('s');
select to_regnamespace('courier_target');

-- a node that cannot be reached does not stand in the way (the warning names what to run there)
select courier.create_subscription('s', 'dead', enabled => false) is not null as created;
select state from courier.subscription_status;
set client_min_messages = error;
select courier.drop_subscription('s');
set client_min_messages = warning;
select * from courier.subscription_status;

-- rows that come out of a dump are another subscription, which does not start by itself
insert into courier.subscription (subscription_id, subscription_name, progress_key, node_name, replication_sets, copy_data,
                                  capture, enabled, start_position)
values (99, 'restored', '00000000-0000-0000-0000-000000000000', 'eu', '{default}', false, 'trigger', true, '1:1:');
select progress_key <> '00000000-0000-0000-0000-000000000000' as other_key, enabled, start_position from courier.subscription;
select state, pending_changes from courier.subscription_status;
select courier.alter_subscription_enable('restored');
select courier.drop_subscription('restored');

select courier.drop_node('eu');
select courier.drop_node('dead');
drop schema shop cascade;
drop extension pg_courier;
