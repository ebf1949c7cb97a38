\set ECHO none
-- Database :target is node eu from here on, for the extension that is made here;
-- dblink connection "target" leads there, too.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select courier.create_node('eu', format('host=%s port=%s dbname=%s user=%s',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), :'target', current_user)) as node \gset
select dblink_connect('target', 'courier_eu') as link \gset
\set ECHO all
