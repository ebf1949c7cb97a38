-- Names of nodes, replication sets and subscriptions: empty, null, too long,
-- as long as can be, and in need of quotes.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;

select courier.set_local_node('');
select courier.set_local_node(null);
select courier.set_local_node(repeat('x', 64));
select courier.create_node('', 'dbname=nowhere');
select courier.create_node(null, 'dbname=nowhere');
select courier.create_node('a234567890123456789012345678901234567890123456789012345678901234', 'dbname=nowhere');
select courier.drop_node('');
select courier.ping(repeat('x', 64));
select courier.create_replication_set('');
select courier.create_replication_set(null);
select courier.create_replication_set('a234567890123456789012345678901234567890123456789012345678901234');
select courier.set_local_node('here');
select courier.create_subscription('', 'eu');
select courier.create_subscription(null, 'eu');
select courier.create_subscription('a234567890123456789012345678901234567890123456789012345678901234', 'eu');
select courier.drop_subscription(repeat('x', 64));

-- 63 bytes fit, in a name and as a text, and the server of the node gets a name too
select courier.create_node('a23456789012345678901234567890123456789012345678901234567890123', 'dbname=nowhere');
select courier.create_node('b23456789012345678901234567890123456789012345678901234567890123'::name, 'dbname=nowhere');
select node_name, server_name, octet_length(server_name) <= 63 as fits from courier.node_status order by 1;
select courier.drop_node('a23456789012345678901234567890123456789012345678901234567890123');
select courier.drop_node('b23456789012345678901234567890123456789012345678901234567890123');
select count(*) from pg_foreign_server where srvname like 'courier%';

-- quotes of both kinds, percent signs, spaces, backslashes, upper case
select courier.create_node(E'o''%s "No\\de"', 'dbname=nowhere password=''pass\'' word\\''');
select courier.create_node(E'o''%s "No\\de"', 'dbname=nowhere password=''pass\'' word\\''');
select node_name, server_name from courier.node_status;
select courier.drop_node('o''%s');
select courier.drop_node(E'o''%s "No\\de"');
create schema "Odd 'schema'";
create table "Odd 'schema'"."Odd ""table""" ("Odd 'key'" int primary key, "Odd %I" text);
select courier.create_replication_set('Odd ''set''');
select courier.replication_set_add_table('Odd ''set''', '"Odd ''schema''"."Odd ""table"""', '{"Odd ''key''", "Odd %I"}');
select courier.create_node('eu', 'dbname=nowhere host=/nonexistent');
select courier.create_subscription('Odd "sub"', 'eu', '{"Odd ''set''"}') is not null as created;
select subscription_name, schema_name, table_name, columns from courier.subscription_table;
select tgname from pg_trigger where tgrelid = '"Odd ''schema''"."Odd ""table"""'::regclass order by 1;
set client_min_messages = error;
select courier.drop_subscription('Odd "sub"');
set client_min_messages = warning;
select courier.drop_replication_set('Odd ''set''');
select courier.drop_node('eu');
drop schema "Odd 'schema'" cascade;
drop extension pg_courier;
