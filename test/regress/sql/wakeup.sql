-- Waiting for changes. Preloaded or not, the answers are the same.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
create role regress_courier_nobody;

-- the first call counts from its own beginning
select courier.enqueue('early', 'bird');
select courier.wait_for_changes('0');
select courier.wait_for_changes('10 ms');

-- later ones from the end of the one before
select courier.enqueue('orders', 'one');
select courier.wait_for_changes('1 min');
select courier.wait_for_changes('0');
select courier.enqueue('orders', 'two');
select courier.enqueue('orders', 'three');
select courier.wait_for_changes('1 min');
select courier.wait_for_changes('0');

-- not by what is rolled back, or is no change
begin;
select courier.enqueue('orders', 'four');
rollback;
create table plain (id int);
insert into plain values (1);
drop table plain;
select courier.wait_for_changes('0');

-- odd arguments
select courier.wait_for_changes(null);
select courier.wait_for_changes('-1 day');

-- what ends it
set statement_timeout = '20 ms';
select courier.wait_for_changes('1 h');
reset statement_timeout;

-- where it can't be
begin isolation level repeatable read;
select courier.wait_for_changes('0');
rollback;
set role regress_courier_nobody;
\set VERBOSITY terse
select courier.wait_for_changes('0');
select courier.waiters();
reset role;

drop extension pg_courier;
drop role regress_courier_nobody;
