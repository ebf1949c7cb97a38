-- Nodes: what is refused and why, and what a node that cannot be reached says.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension if not exists pg_courier cascade;
select format('host=%s port=%s dbname=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_database(), current_user) as loopback \gset

-- The detail of a connection error names host and port; everything but that.
create function pg_temp.error_of(command text, secret text default null)
returns table (code text, message text, hint text, tells_secret boolean)
language plpgsql as $$
declare
    detail text;
    context text;
begin
    execute command;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint,
        detail = pg_exception_detail, context = pg_exception_context;
    tells_secret := strpos(concat_ws('|', message, hint, detail, replace(context, command, '')), secret) > 0;
    return next;
end
$$;

-- set_local_node
select courier.set_local_node('here');
select courier.set_local_node('here');
select courier.set_local_node('home');
select node_name from courier.local_node;

-- neither, both
select courier.create_node('eu');
select courier.create_node('eu', 'dbname=x', 'y');

-- a DSN that does not parse, or has what a foreign server cannot keep; no part of it is repeated
select * from pg_temp.error_of($$select courier.create_node('eu', 'host=a password=open sesame')$$, 'sesame');
select * from pg_temp.error_of($$select courier.create_node('eu', 'password=''sesame')$$, 'sesame');
select * from pg_temp.error_of($$select courier.create_node('eu', 'host=a sesame=1')$$, 'sesame');
select * from pg_temp.error_of($$select courier.create_node('eu', 'postgresql://me:sesame@[::1/x')$$, 'sesame');
select * from pg_temp.error_of($$select courier.create_node('eu', 'host=a password=sesame client_encoding=LATIN1')$$, 'sesame');

-- a server that is not there, or of another wrapper
create foreign data wrapper regress_courier_fdw;
create server regress_courier_other foreign data wrapper regress_courier_fdw;
select courier.create_node('eu', server => 'nosuch');
select courier.create_node('eu', server => 'regress_courier_other');
drop foreign data wrapper regress_courier_fdw cascade;

-- a node that answers; the same definition again does no harm, another one is refused
select courier.create_node('eu', :'loopback');
select courier.create_node('eu', :'loopback');
select courier.create_node('eu', 'dbname=elsewhere');
select courier.create_node('eu', server => 'courier_eu');
select node_name, server_version = current_setting('server_version') as version, database_name = current_database() as database,
       role_name = current_user as role, in_recovery, round_trip > '0' as round_trip,
       abs(extract(epoch from clock_offset)) < 60 as clock_offset
from courier.ping('eu');
-- what keeps a dead link from hanging, unless the DSN says otherwise
select array(select o from unnest(srvoptions) o where o !~ '^(host|port|dbname)=' order by o) as options
from pg_foreign_server where srvname = 'courier_eu';
select courier.create_node('slow', 'dbname=nowhere connect_timeout=3 tcp_user_timeout=0');
select srvoptions from pg_foreign_server where srvname = 'courier_slow';
select courier.drop_node('slow');

-- an existing server; drop_node leaves it alone
create server regress_courier_own foreign data wrapper dblink_fdw options (host '/nonexistent');
create user mapping for current_user server regress_courier_own options (password 'sesame');
select courier.create_node('own', server => 'regress_courier_own');
select courier.create_node('own', server => 'regress_courier_own');
select courier.create_node('own', 'host=/nonexistent');
select * from pg_temp.error_of($$select courier.ping('own')$$, 'sesame');
select courier.drop_node('own');
drop server regress_courier_own cascade;

-- unknown
select courier.ping('nosuch');
select courier.drop_node('nosuch');

-- not reachable; wrong password (where the server asks for none, the role is what is wrong)
select courier.create_node('dead', 'host=/nonexistent password=sesame');
select * from pg_temp.error_of($$select courier.ping('dead')$$, 'sesame');
select courier.create_node('wrong', :'loopback' || ' user=regress_courier_nobody password=sesame');
select * from pg_temp.error_of($$select courier.ping('wrong')$$, 'sesame');
select dblink_get_connections();
select courier.drop_node('wrong');
select courier.drop_node('dead');

-- in use
select courier.create_subscription('one', 'eu', copy_data => false) is not null as created;
select courier.create_subscription('two', 'eu', copy_data => false) is not null as created;
select courier.drop_node('eu');
select courier.set_local_node('elsewhere');
select courier.drop_subscription('one');
-- in one transaction: the target is seen to before the server goes
begin;
select courier.drop_subscription('two');
select courier.drop_node('eu');
commit;
select * from courier.node_status;
select count(*) from pg_foreign_server;

-- a server left over from elsewhere is not taken
create server courier_eu foreign data wrapper dblink_fdw;
select courier.create_node('eu', :'loopback');
drop server courier_eu;
drop extension pg_courier;
