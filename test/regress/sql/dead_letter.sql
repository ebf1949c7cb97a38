-- Transactions that the node refuses: set aside as dead letters, edited, retried,
-- given up, or skipped by hand. Here everything is shipped by courier.ship().
\set SHOW_CONTEXT never
set client_min_messages = warning;
drop database if exists regress_courier_letters;
create database regress_courier_letters;
create schema shop;
create table shop.a (id int primary key, v text, n int);
create table shop.b (k1 int, "k 2" text, v text, primary key (k1, "k 2"));
create table shop.log (line text);
alter table shop.log replica identity full;
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_letters');
select courier.replication_set_add_all_tables('default', '{shop}');
create function public.on_target(command text) returns text language sql as $$ select dblink_exec('courier_eu', command) $$;
create function public.target(command text) returns setof text language sql as $$ select r from dblink('courier_eu', command) d (r text) $$;
create function public.error_of(command text) returns table (code text, message text, detail text, hint text)
language plpgsql as $$
begin
    execute command;
    message := 'done';
    return next;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint, detail = pg_exception_detail;
    message := regexp_replace(message, 'transaction \d+', 'transaction N');
    detail := regexp_replace(detail, 'transaction \d+', 'transaction N');
    hint := regexp_replace(hint, '''\d+''\)', '''N'')');
    return next;
end
$$;
create view public.letter as
select dead_letter_id as id, state, schema_name || '.' || table_name as "table", operation as op, key, error_sqlstate as code,
       change_count as n, applied_changes as applied, left_out_changes as left_out
from courier.dead_letter order by dead_letter_id;

-- options may be changed later
select courier.create_subscription('s', 'eu', copy_data => false) is not null as created;
select courier.alter_subscription_options('s', '{"on_error": "dead_letter", "batch_rows": 500}');
select courier.alter_subscription_options('s', '{"batch_rows": null}');
select options from courier.subscription;
select * from error_of($$select courier.alter_subscription_options('s', '{"on_error": "ignore"}')$$);
select * from error_of($$select courier.alter_subscription_options('s', '{"nonsense": null}')$$);
select * from error_of($$select courier.alter_subscription_options('s', '7')$$);
select * from error_of($$select courier.alter_subscription_options('nosuch', '{}')$$);
select options from courier.subscription;

select courier.ship('s');
select on_target('create schema shop');
select on_target('create table shop.a (id int primary key, v text, n int constraint small check (n < 100))');
select on_target('create table shop.b (k1 int, "k 2" text, v text constraint short check (length(v) < 5), primary key (k1, "k 2"))');
select on_target('create table shop.log (line text)');

-- one of three is refused, whole: the call that stores it ends, the next one passes it
insert into shop.a values (1, 'one', 1);
begin;
insert into shop.a values (2, 'a "two" \ 	tab', 2), (3, null, 300);
select courier.enqueue('shop', 'it''s "new"');
commit;
insert into shop.a values (4, 'four', 4);
-- by a transaction that has not committed it is not passed
begin;
select courier.ship('s');
select courier.ship('s');
select * from letter;
select target('select id::text from shop.a');
rollback;
select * from letter;
alter table courier.dead_letter_entry alter dead_letter_id restart;
select courier.ship('s');
select * from letter;
select target('select id::text from shop.a');
-- passed, though the caller is rolled back
begin;
select courier.ship('s');
rollback;
select state from letter;
select courier.ship('s');
select * from letter;
select target('select id::text from shop.a order by 1');
select error, error_detail, error_hint from courier.dead_letter;
select jsonb_pretty(changes) from courier.dead_letter;
select dead_letters, state, last_error, pending_changes from courier.subscription_status;
select courier.wait_for_subscription('s', '0');

-- retried in vain, edited in vain, edited, applied
select courier.retry_dead_letter(1);
select courier.retry_dead_letter(1);
select * from error_of('select courier.retry_dead_letter(1, ''[{"op": "event", "channel": "a", "payload": "b"}]'')');
select * from error_of('select courier.discard_dead_letter(1)');
select courier.ship('s');
select * from letter;
select courier.retry_dead_letter(1, jsonb_set(changes, '{1,new,n}', '400')) from courier.dead_letter;
select courier.ship('s');
select state, error, edited -> 1 as edited from courier.dead_letter;
select courier.retry_dead_letter(1, jsonb_set(changes, '{1,new,n}', '30')) from courier.dead_letter;
begin;
select courier.ship('s');
select state from letter;
rollback;
select state from letter;
select courier.ship('s');
select * from letter;
select target('select format(''%s'', a) from shop.a order by id');
select target('select channel || '': '' || payload from courier_target.event');
select * from error_of('select courier.retry_dead_letter(1)');
select * from error_of('select courier.discard_dead_letter(1)');

-- what an edit may not be
update shop.a set n = 1000 where id = 4;
select courier.ship('s');
select courier.ship('s');
select dead_letter_id as id, changes from courier.dead_letter where state = 'open' \gset
select :'changes';
select t.n, e.message, e.hint
from (values
    (1, null), (2, '{}'), (3, '[]'), (4, '[1]'), (5, '[{"op": "jump"}]'), (6, '[{"schema": "shop"}]'),
    (7, '[{"op": "insert", "schema": "shop", "table": "nosuch", "new": {"id": "1"}}]'),
    (8, '[{"op": "insert", "table": "a", "new": {"id": "1"}}]'),
    (9, '[{"op": "event", "channel": "x", "payload": "y"}, {"op": "insert", "schema": "shop", "table": "a", "new": {"idd": "1"}}]'),
    (10, '[{"op": "insert", "schema": "shop", "table": "a", "new": {"id": {"a": 1}}}]'),
    (11, '[{"op": "insert", "schema": "shop", "table": "a", "new": {}}]'),
    (12, '[{"op": "insert", "schema": "shop", "table": "a", "key": {"id": "1"}, "new": {"id": "1"}}]'),
    (13, '[{"op": "update", "schema": "shop", "table": "a", "new": {"v": "1"}}]'),
    (14, '[{"op": "update", "schema": "shop", "table": "a", "key": {"v": "1"}, "new": {"v": "1"}}]'),
    (15, '[{"op": "update", "schema": "shop", "table": "b", "key": {"k1": "1"}, "new": {"v": "1"}}]'),
    (16, '[{"op": "delete", "schema": "shop", "table": "a", "key": []}]'),
    (17, '[{"op": "delete", "schema": "shop", "table": "log", "key": {"line": "x"}}]'),
    (18, '[{"op": "truncate", "schema": "shop", "table": "a", "restart": "yes"}]'),
    (19, '[{"op": "event", "channel": "x"}]'),
    (20, '[{"op": "event", "channel": "x", "payload": null}]')) t (n, changes)
cross join lateral error_of(format('select courier.retry_dead_letter(%s, %L)', :id, t.changes)) e order by t.n;
select * from error_of('select courier.retry_dead_letter(99)');
select * from error_of('select courier.discard_dead_letter(null)');
select courier.discard_dead_letter(:id);
select courier.discard_dead_letter(:id);
select * from error_of(format('select courier.retry_dead_letter(%s)', :id));
select * from letter;

-- each kind of change comes back as it was: key changes, nulls, whole rows, truncate
insert into shop.b values (1, 'x', 'old'), (2, 'y', 'old'), (3, 'z', null);
insert into shop.log values ('first'), ('second'), (null);
select courier.ship('s');
begin;
update shop.b set "k 2" = 'it''s, "moved"', v = null where k1 = 1;
update shop.b set v = 'new' where k1 = 2;
delete from shop.b where k1 = 3;
delete from shop.log where line = 'first';
update shop.log set line = 'changed' where line = 'second';
truncate shop.a;
insert into shop.b values (4, '', 'much too long');
select courier.enqueue_upsert('shop.b', b) from shop.b where k1 = 2;
commit;
select courier.ship('s');
select courier.ship('s');
select * from letter where state = 'open';
select jsonb_pretty(changes) from courier.dead_letter where state = 'open';
select on_target('alter table shop.b drop constraint short');
select on_target('alter table shop.a drop constraint small');
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter where state = 'open';
select courier.ship('s');
select * from letter where id = 9;
select target('select format(''%s'', b) from shop.b union all select format(''%s'', l) from shop.log l union all select count(*)::text from shop.a order by 1');

-- later transactions are applied; what they changed stays
select on_target('alter table shop.a add constraint low check (v <> ''bad'')');
insert into shop.a values (1, 'bad', 1), (2, 'good', 2), (3, 'good', 3), (4, 'good', 4);
select courier.ship('s');
select courier.ship('s');
update shop.a set v = 'later', n = 11 where id = 1;
insert into shop.b values (10, 'untouched', 'new');
update shop.a set id = 33 where id = 3;
select courier.ship('s');
select target('select format(''%s'', a) from shop.a order by id');
select o - 'xid' as overtaken from courier.dead_letter, jsonb_array_elements(overtaken) o where dead_letter_id = 7;
select on_target('alter table shop.a drop constraint low');
select courier.retry_dead_letter(7);
select courier.ship('s');
select * from letter where id = 7;
select target('select format(''%s'', a) from shop.a order by id');
select (select array_agg(a order by id) from shop.a)::text = (select array_agg(r)::text from target('select format(''%s'', a) from shop.a order by id') r) as equal;

-- a row that has moved, and was changed at its new place: the old one goes
select on_target('alter table shop.a add constraint low check (n < 100)');
update shop.a set id = 44, n = 144 where id = 4;
select courier.ship('s');
select courier.ship('s');
update shop.a set n = 44 where id = 44;
select courier.ship('s');
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter where state = 'open';
select courier.ship('s');
select (select array_agg(a order by id) from shop.a)::text = (select array_agg(r)::text from target('select format(''%s'', a) from shop.a order by id') r) as equal;
select on_target('alter table shop.a drop constraint low');
select courier.purge_dead_letters('0') as purged;
alter table courier.dead_letter_entry alter dead_letter_id restart 9;

-- an edit applies to the rows as given, overtaken or not; two letters on one row go in order
select on_target('alter table shop.a add constraint low check (n < 100)');
update shop.a set n = 101 where id = 2;
select courier.ship('s');
select courier.ship('s');
update shop.a set n = 102 where id = 2;
select courier.ship('s');
select courier.ship('s');
update shop.a set v = 'after', n = 22 where id = 2;
select courier.ship('s');
select id, state from letter where id > 7;
select * from error_of('select courier.retry_dead_letter(11)');
select courier.retry_dead_letter(9, '[{"op": "update", "schema": "shop", "table": "a", "key": {"id": "2"}, "new": {"n": "51"}}]');
select courier.ship('s');
select target('select format(''%s'', a) from shop.a where id = 2');
select courier.retry_dead_letter(11);
select courier.ship('s');
select target('select format(''%s'', a) from shop.a where id = 2');
select * from letter where id > 7;

-- a truncate overtakes all rows; a refused truncate would take later ones with it
update shop.a set n = 103 where id = 2;
select courier.ship('s');
select courier.ship('s');
begin;
truncate shop.a;
insert into shop.b values (20, 'b', 'b');
insert into shop.a values (50, 'x', 500);
commit;
select courier.ship('s');
select courier.ship('s');
insert into shop.a values (60, 'later', 6);
select courier.ship('s');
select id, state from letter where id > 11;
select courier.retry_dead_letter(13, '[{"op": "delete", "schema": "shop", "table": "a", "key": {"id": "2"}}]');
select courier.retry_dead_letter(15, jsonb_set(changes, '{2,new,n}', '"5"') - 0) from courier.dead_letter where dead_letter_id = 15;
select courier.ship('s');
select target('select format(''%s'', a) from shop.a order by id');
select * from letter where id > 11;

-- a crash between the steps, as it looks afterwards
update shop.a set n = 104 where id = 60;
select courier.ship('s');
select courier.ship('s');
-- passed on the node, not marked here
update courier.dead_letter_entry set state = 'pending' where dead_letter_id = 17;
select courier.ship('s');
select id, state from letter where id = 17;
-- applied there, not marked here: not applied twice
select on_target('alter table shop.a drop constraint low');
select courier.retry_dead_letter(17);
select courier.ship('s');
update courier.dead_letter_entry set state = 'retrying', applied_changes = null where dead_letter_id = 17;
update shop.a set n = 7 where id = 60;
update courier.configuration set generation = generation + 1;
select courier.ship('s');
select * from letter where id = 17;
select target('select n::text from shop.a where id = 60');
-- stored here, not passed there, and accepted by now: no letter is left
select on_target('alter table shop.a add constraint low check (n < 100)');
update shop.a set n = 105 where id = 60;
select courier.ship('s');
select id, state from letter where id > 17;
select on_target('alter table shop.a drop constraint low');
select courier.ship('s');
select courier.ship('s');
select id, state from letter where id > 17;
select target('select n::text from shop.a where id = 60');
-- a node restored to a state before a retry, and one before the letter
select on_target('alter table shop.a add constraint low check (n < 100) not valid');
select target('select position from courier_target.progress') as position \gset
update shop.a set n = 106 where id = 60;
select courier.ship('s');
select courier.ship('s');
select courier.retry_dead_letter(dead_letter_id, jsonb_set(changes, '{0,new,n}', '99')) from courier.dead_letter where state = 'open';
select courier.ship('s');
select state from letter where id > 19;
select on_target('update courier_target.letter set applied = null, applied_at = null where applied_at = (select max(applied_at) from courier_target.letter)');
select courier.ship('s');
select state, error, error_hint from courier.dead_letter where dead_letter_id > 19;
select on_target('delete from courier_target.letter where applied is null');
select on_target(format('update courier_target.progress set position = %L', :'position'));
select courier.ship('s');
select state from letter where id > 19;
select on_target('alter table shop.a drop constraint low');
select courier.ship('s');
select courier.ship('s');
select state from letter where id > 19;
select target('select n::text from shop.a where id = 60');

-- never set aside: what is wrong with the table, or what passes by itself
select on_target('alter table shop.a drop column n');
update shop.a set n = 8 where id = 60;
select code, message from error_of($$select courier.ship('s')$$);
select on_target('alter table shop.a add n int');
select on_target($$create function shop.full() returns trigger language plpgsql as 'begin raise exception using errcode = ''53100'', message = ''no space''; end'$$);
select on_target('create trigger full_disk before update on shop.a for each row execute function shop.full()');
select on_target('alter table shop.a enable always trigger full_disk');
select code, message from error_of($$select courier.ship('s')$$);
select count(*) from letter where state not in ('applied', 'discarded');
select on_target('drop trigger full_disk on shop.a');
select courier.ship('s');

-- too large to keep
select on_target('alter table shop.a add constraint low check (n < 100)');
insert into shop.a select g, 'many', case g when 20001 then 200 else 2 end from generate_series(10000, 20001) g;
select * from error_of($$select courier.ship('s')$$);
-- skipped then: without its changes
select xid from courier.queue_chunk order by k desc limit 1 \gset
select * from error_of($$select courier.skip_transaction('s', '1')$$);
select * from error_of($$select courier.skip_transaction('s', null)$$);
select * from error_of($$select courier.skip_transaction('nosuch', '1')$$);
select courier.skip_transaction('s', :'xid') = courier.skip_transaction('s', :'xid') as same;
select courier.ship('s');
select state, "table", op, key, n, code from letter where state = 'skipped';
select target('select count(*)::text from shop.a where id >= 10000');
select e.message, e.hint from courier.dead_letter cross join lateral error_of(format('select courier.retry_dead_letter(%s)', dead_letter_id)) e
where state = 'skipped';
select courier.discard_dead_letter(dead_letter_id) from courier.dead_letter where state = 'skipped';

-- policy stop: the state row says it all; skipped unseen when the state says so
select courier.alter_subscription_options('s', '{"on_error": "stop"}');
delete from shop.a where id >= 10000;
update shop.a set n = 107 where id = 60;
update shop.a set v = 'behind' where id = 60;
select * from error_of($$select courier.ship('s')$$);
select k, xid from courier.queue_chunk order by k desc offset 1 limit 1 \gset
update courier.subscription_state set state = 'stopped', last_error = 'refused', last_error_sqlstate = '23514',
    last_error_xid = :'xid', last_error_k = :'k', last_error_schema = 'shop', last_error_table = 'a',
    last_error_operation = 'update', last_error_key = 'id=60', shipper = 'sidecar';
select last_error_xid = :'xid' as xid, last_error_table, last_error_operation, last_error_key from courier.subscription_status;
select * from error_of($$select courier.skip_transaction('s', '1')$$);
-- not before it has committed
begin;
select courier.skip_transaction('s', :'xid') is not null as skipped;
select code, message from error_of($$select courier.ship('s')$$);
rollback;
select courier.skip_transaction('s', :'xid') is not null as skipped;
select on_target('alter table shop.a drop constraint low');
select courier.ship('s');
select state, "table", op, key, n, code from letter where state = 'skipped';
select target('select format(''%s'', a) from shop.a where id = 60');
select state, last_error, last_error_table, last_error_operation, last_error_key, dead_letters from courier.subscription_status;
-- retried later: the later value stays
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter where state = 'skipped';
select courier.ship('s');
select state, applied, left_out from letter order by id desc limit 1;
select target('select format(''%s'', a) from shop.a where id = 60');

-- for administrators; pg_monitor may read
create role regress_courier_stranger;
create role regress_courier_reader in role pg_monitor;
set role regress_courier_stranger;
select c.command, e.code, e.message
from (values ('select courier.retry_dead_letter(1)'), ('select courier.retry_dead_letter(1, ''[]'')'),
             ('select courier.discard_dead_letter(1)'), ('select courier.purge_dead_letters()'),
             ('select courier.skip_transaction(''s'', ''1'')'), ('select courier.alter_subscription_options(''s'', ''{}'')'),
             ('select changes from courier.dead_letter'), ('select changes from courier.dead_letter_entry')) c (command)
cross join lateral error_of(c.command) e;
set role regress_courier_reader;
select count(*) > 0 as sees from courier.dead_letter;
reset role;

-- a letter that the source has lost is made anew; not one that was purged
select on_target('alter table shop.a add constraint low check (n < 100)');
select courier.alter_subscription_options('s', '{"on_error": "dead_letter"}');
update shop.a set n = 109 where id = 60;
select courier.ship('s');
select courier.ship('s');
delete from courier.dead_letter_entry where state = 'open';
select courier.ship('s');
select state, n, code from letter where state = 'open';
select error, jsonb_array_length(changes) from courier.dead_letter where state = 'open';
select courier.discard_dead_letter(dead_letter_id) from courier.dead_letter where state = 'open';
select courier.purge_dead_letters('0') > 0 as purged;
select state from letter;
select courier.ship('s');
select courier.purge_dead_letters('0');
select courier.ship('s');
select state from letter;

-- a copy overtakes the letters of its table
select courier.drop_subscription('s');
select on_target('truncate shop.a, shop.b, shop.log');
select on_target('alter table shop.a drop constraint low');
select courier.create_subscription('s', 'eu', options => '{"on_error": "dead_letter"}') is not null as created;
select courier.ship('s') > 0 as copied;
select on_target('alter table shop.a add constraint low check (n < 1000)');
begin;
update shop.a set n = 2001 where id = 60;
update shop.b set v = 'sent' where k1 = 2;
commit;
select courier.ship('s');
select courier.ship('s');
update shop.a set n = 61 where id = 60;
select courier.replication_set_remove_table('default', 'shop.a');
select courier.ship('s') >= 0 as shipped;
select on_target('truncate shop.a');
select courier.replication_set_add_table('default', 'shop.a');
select courier.retry_dead_letter(dead_letter_id) from courier.dead_letter;
select courier.ship('s') > 0 as copied;
select state, applied, left_out from letter;
select target('select format(''%s'', a) from shop.a where id = 60 union all select v from shop.b where k1 = 2');

-- the end
select courier.purge_dead_letters() as "not old enough";
select courier.purge_dead_letters('0');
select count(*) from letter;
update shop.a set n = 2008 where id = 60;
select courier.ship('s');
select courier.ship('s');
set client_min_messages = notice;
select courier.drop_subscription('s');
set client_min_messages = warning;
select target('select count(*)::text from pg_namespace where nspname = ''courier_target''');
select courier.drop_node('eu');
drop view public.letter;
drop extension pg_courier;
drop schema shop cascade;
drop function public.on_target, public.target, public.error_of;
drop database regress_courier_letters;
drop role regress_courier_stranger, regress_courier_reader;
