-- Health of nodes: what the prober uses, and what the view shows of what it
-- wrote down.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
create role regress_courier_nobody;
select courier.create_node('eu', 'host=/nonexistent password=sesame');
select courier.create_node('us', 'host=/nonexistent');

-- trials: one answer a server, in order, without the password
select i, left(t, 6) as state, t like '%sesame%' as secret
from unnest(courier.try_connect('{courier_eu,nowhere,courier_us}', 1000)) with ordinality u (t, i) order by i;
select courier.try_connect('{nowhere}', 1000), courier.try_connect('{}', 1000);
create server regress_unmapped foreign data wrapper dblink_fdw options (host '/nonexistent');
select left(t, 6) from unnest(courier.try_connect('{regress_unmapped}', 1000)) t;
drop server regress_unmapped;

-- several connections are waited for side by side
select format('dbname=%L host=%L port=%s', current_database(), current_setting('unix_socket_directories'), current_setting('port')) as here \gset
select dblink_connect('a', :'here'), dblink_connect('b', :'here');
select dblink_send_query('a', 'select 1::text'), dblink_send_query('b', 'select pg_sleep(60)::text');
select i, t is not null as ready
from unnest(courier.remote_ready('public', '{a,b}', 500)) with ordinality u (t, i) order by i;
select counts from courier.remote_wait('a', 60000);
select dblink_cancel_query('b');
select t is not null as ready from unnest(courier.remote_ready('public', '{b}', 60000)) t;
select sqlstate from courier.remote_wait('b', 60000);
select courier.remote_ready('public', '{}', 1000);
select courier.remote_ready('public', '{nosuch}', 1000);
-- waiting can be cancelled
select dblink_send_query('a', 'select pg_sleep(60)::text');
set statement_timeout = '100ms';
select courier.remote_ready('public', '{a}', 60000);
reset statement_timeout;
-- no session is left sleeping in this database
select dblink_cancel_query('a');
select t is not null as ready from unnest(courier.remote_ready('public', '{a}', 60000)) t;
select dblink_disconnect('a'), dblink_disconnect('b');

-- states are for everybody, reasons are not; an old state is not today's
insert into courier.node_state (node_name, state, since, reason, sqlstate, latency, connections_left, updated_at) values
    ('eu', 'down', '2025-01-01', 'connection to host "secret" failed', '08001', null, null, clock_timestamp()),
    ('us', 'up', '2025-01-01', null, null, '1 ms', 90, clock_timestamp() - interval '3 min');
select node_name, state, since is not null as since, reason, sqlstate, latency, connections_left from courier.node_status order by 1;
set role regress_courier_nobody;
select node_name, state, since is not null as since, reason, sqlstate, latency, connections_left from courier.node_status order by 1;
select * from courier.node_state;
select courier.try_connect('{courier_eu}', 1000);
select courier.remote_ready('public', '{a}', 1000);
reset role;
\set VERBOSITY terse
insert into courier.node_state (node_name, state, since) values ('x', 'tired', now());

drop extension pg_courier;
drop role regress_courier_nobody;
