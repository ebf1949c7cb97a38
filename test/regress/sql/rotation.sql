-- Rotation of the queue: when writers move on, when a segment is emptied, who
-- keeps it and how that is said. Confirming is done by hand here; a segment passes
-- its age when since is set back.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_database(), current_user) as loopback \gset
-- Only this session keeps house.
select pg_advisory_lock('courier.queue_current'::regclass::oid::int8::bit(32)::int, 0);
create role regress_courier_nobody;
create schema shop;
create table shop.item (id int primary key, name text);
select courier.create_node('eu', 'host=/nonexistent');
select courier.replication_set_add_table('default', 'shop.item');
select courier.create_subscription('s', 'eu', copy_data => false) as id \gset

create function pg_temp.age() returns void language sql as
    $$ update courier.queue_current set since = now() - interval '1 day' $$;
create function pg_temp.confirm() returns void language sql as
    $$ update courier.subscription_state set position = courier.position(), durable_position = courier.position() $$;
-- what a segment holds; times and process numbers vary
create view pg_temp.segments as
select segment, current, chunks, changes, exact, bytes > 0 as bytes, oldest_change <= newest_change as times,
       regexp_replace(regexp_replace(held_by, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d(:\d\d)?', 'TIME', 'g'), 'process \d+( \([^)]*\))?', 'process N', 'g') as held_by
from courier.queue_status order by 1;

-- settings
show courier.segment_size;
show courier.segment_age;
set courier.segment_size = '1MB';
select name, unit, context, boot_val from pg_settings where name like 'courier.%' order by 1;

-- not for everyone
set role regress_courier_nobody;
select * from courier.housekeep();
select courier.truncate_segment(0);
select segment, current, held_by from courier.queue_status;
reset role;

-- not in a transaction that goes on
select pg_temp.age();
insert into shop.item values (1, 'one');
begin;
select * from courier.housekeep();
commit;
begin isolation level serializable;
select * from courier.housekeep();
commit;
select segment, since < now() - interval '1 hour' as old from courier.queue_current;

-- writers move on, at once in every session; what is not confirmed stays
select dblink_connect('other', :'loopback') = 'OK' as connected;
select dblink_exec('other', 'insert into shop.item values (2, ''two'')');
select * from courier.housekeep();
select * from courier.housekeep();
insert into shop.item values (3, 'three');
select dblink_exec('other', 'insert into shop.item values (4, ''four'')');
select * from pg_temp.segments;
update courier.subscription set enabled = false;
select * from pg_temp.segments where segment = 'queue_0';
update courier.subscription set enabled = true;

-- no empty segment, no rotation beyond the third
select pg_temp.age();
select * from courier.housekeep();
insert into shop.item values (5, 'five');
select pg_temp.age();
select * from courier.housekeep();
select segment, current, chunks from pg_temp.segments;

-- somebody reads it, in a transaction that may be long
select pg_temp.confirm();
select dblink_exec('other', 'begin');
select * from dblink('other', 'select count(*) from courier.queue_0') d (n int);
select * from courier.housekeep();
select segment, chunks, held_by from pg_temp.segments where segment = 'queue_0';
-- said after a while, since most read in passing
do $$
begin
    while not exists (select from courier.segment_obstacles(0)) loop
        perform pg_sleep(0.1);
    end loop;
end
$$;
select segment, chunks, held_by from pg_temp.segments where segment = 'queue_0';
select dblink_exec('other', 'commit');
select * from courier.housekeep();
insert into shop.item values (6, 'six');
select * from pg_temp.segments;
select rotations, truncations, truncated_xid is not null as removed from courier.queue_current;

-- an empty segment is not left, whatever its age
select pg_temp.confirm();
select pg_temp.age();
select * from courier.housekeep();
select pg_temp.age();
select * from courier.housekeep();
select pg_temp.age();
select * from courier.housekeep();
select segment, chunks from pg_temp.segments;

-- a prepared transaction has written into it, and took its place in the order of
-- shipping before all that is confirmed later
insert into shop.item values (10, 'ten');
begin;
insert into shop.item values (11, 'eleven');
prepare transaction 'regress_courier_rotation';
insert into shop.item values (12, 'twelve');
select pg_temp.confirm();
select pg_temp.age();
select * from courier.housekeep();
select * from courier.housekeep();
select segment, chunks, changes, held_by from pg_temp.segments where chunks > 0;
commit prepared 'regress_courier_rotation';
select * from courier.housekeep();
select segment, chunks, changes, held_by from pg_temp.segments where chunks > 0;
select pg_temp.confirm();
select * from courier.housekeep();
select segment, chunks, changes, held_by from pg_temp.segments where chunks > 0;

-- nor does a rolled back one keep it
begin;
insert into shop.item values (13, 'thirteen');
prepare transaction 'regress_courier_rotation';
select pg_temp.age();
select * from courier.housekeep();
select * from courier.housekeep();
rollback prepared 'regress_courier_rotation';
select * from courier.housekeep();

-- confirmed as far as a place within an interval
select segment from courier.queue_current;
select courier.position() as p \gset
insert into shop.item values (20, 'twenty');
insert into shop.item values (21, 'twenty-one');
select courier.position() as s \gset
insert into shop.item values (22, 'twenty-two');
create function pg_temp.confirm_to(p text, s text, skip int) returns void language sql as $$
    update courier.subscription_state set durable_position = (
        select p || '|' || s || '|' || k || '|' || xid from courier.queue_chunk
        where not pg_visible_in_snapshot(xid, p::pg_snapshot) order by k, xid offset skip limit 1)
$$;
select pg_temp.age();
select * from courier.housekeep();
select pg_temp.confirm_to(:'p', :'s', 0);
select * from courier.housekeep();
-- up to the end of the interval; another transaction lies behind it
select pg_temp.confirm_to(:'p', :'s', 1);
select * from courier.housekeep();
select courier.position() as s \gset
select pg_temp.confirm_to(:'p', :'s', 1);
select * from courier.housekeep();
select pg_temp.confirm_to(:'p', :'s', 2);
select * from courier.housekeep();
select segment, chunks from pg_temp.segments where chunks > 0;

-- a change of the configuration that is under way may be a subscription that starts
-- in the segment
select dblink_exec('other', 'begin');
select * from dblink('other', $$select courier.create_subscription('late', 'eu', copy_data => false) > 0$$) d (created bool);
insert into shop.item values (30, 'thirty');
select pg_temp.confirm();
select pg_temp.age();
select * from courier.housekeep();
select * from courier.housekeep();
select dblink_exec('other', 'commit');
select * from courier.housekeep();
select segment, chunks, held_by from pg_temp.segments where chunks > 0;
set client_min_messages = error;
select courier.drop_subscription('late');
set client_min_messages = warning;
select * from courier.housekeep();

-- one that needs a resync keeps nothing, and is not to go on where it was
insert into shop.item values (40, 'forty');
update courier.subscription_state set state = 'needs_resync';
select courier.still_holds(:id), courier.still_holds(-1);
select state, detached_at is not null as detached from courier.subscription_state;
select pg_temp.age();
select * from courier.housekeep();
select * from courier.housekeep();
select state, detached_at is not null as detached from courier.subscription_state;
select courier.hold_queue(:id, courier.position()::text);
select state, detached_at is not null as detached from courier.subscription_state;
select courier.alter_subscription_enable('s');
-- but one that has lost nothing may
update courier.subscription_state set detached_at = null;
select courier.hold_queue(:id, courier.position()::text);
select state, courier.still_holds(:id) from courier.subscription_state;
begin isolation level repeatable read;
select courier.hold_queue(:id, null);
rollback;

-- what can't be asked
select courier.unapplied_since(3, '1:1:', null);
select courier.unapplied_since(-1, '1:1:', null);
select courier.unapplied_since(0, null, null);
select courier.unapplied_since(0, '', null);
select courier.unapplied_since(0, '1:1:|1:1:', null);
select courier.unapplied_since(0, '1:1:|1:1:|0/1|1|1', null);
\set VERBOSITY terse
update courier.queue_current set segment = 3;
\set VERBOSITY default

-- small tables: the dead rows of 4000 updates, which a snapshot keeps from vacuum
create procedure pg_temp.advance(n int) language plpgsql as $$
begin
    for i in 1..n loop
        update courier.subscription_state set last_error = i;
        if i % 20 = 0 then
            commit;
        end if;
    end loop;
end
$$;
select dblink_exec('other', 'begin isolation level repeatable read');
select * from dblink('other', 'select 1') d (n int);
call pg_temp.advance(4000);
vacuum courier.subscription_state;
select pg_relation_size('courier.subscription_state') > 128 * 1024 as large;
table courier.subscription_state \gset before_
select * from courier.housekeep();
select pg_relation_size('courier.subscription_state') as bytes, pg_relation_size('courier.subscription_state_pkey') as index_bytes;
table courier.subscription_state \gset after_
select :'before_subscription_id' = :'after_subscription_id' and :'before_durable_position' = :'after_durable_position'
   and :'before_updated_at' = :'after_updated_at' and :'after_last_error' = '4000' as same;
select * from courier.housekeep();
-- not while somebody uses it
call pg_temp.advance(4000);
select dblink_exec('other', 'commit');
select dblink_exec('other', 'begin');
select dblink_exec('other', 'update courier.subscription_state set last_error = null');
select * from courier.housekeep();
select dblink_exec('other', 'rollback');
select * from courier.housekeep();

select dblink_disconnect('other');
set client_min_messages = error;
select courier.drop_subscription('s');
select courier.drop_node('eu');
set client_min_messages = warning;
drop view pg_temp.segments;
drop schema shop cascade;
drop extension pg_courier;
drop role regress_courier_nobody;
