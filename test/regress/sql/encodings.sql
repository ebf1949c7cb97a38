-- Databases of different encodings: the same characters arrive, or the
-- subscription stops and says which row the other side cannot hold.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as here \gset
drop database if exists regress_courier_utf8;
drop database if exists regress_courier_latin1;
drop database if exists regress_courier_ascii;
create database regress_courier_utf8 template template0 encoding 'utf8' lc_collate 'C' lc_ctype 'C';
create database regress_courier_latin1 template template0 encoding 'latin1' lc_collate 'C' lc_ctype 'C';
create database regress_courier_ascii template template0 encoding 'sql_ascii' lc_collate 'C' lc_ctype 'C';
alter database regress_courier_utf8 set courier.workers = off; -- the test ships by itself
alter database regress_courier_latin1 set courier.workers = off;
alter database regress_courier_ascii set courier.workers = off;
set client_encoding = utf8;
\set make 'create table item (id int primary key, v text, "é" text, d text[]); create extension pg_courier cascade;'
\c regress_courier_latin1
set client_min_messages = warning;
set client_encoding = utf8;
:make
\c regress_courier_ascii
set client_min_messages = warning;
set client_encoding = sql_ascii;
:make
\c regress_courier_utf8
set client_min_messages = warning;
set client_encoding = utf8;
:make
-- every database sends to the two others; what comes is not sent on
select format('host=%s port=%s user=%s dbname=regress_courier_',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as server \gset
create function public.error_of(name text) returns text language plpgsql as $$
declare
    hint text;
begin
    return courier.ship(name);
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID') || '; ' || regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)');
end
$$;
select courier.create_node('latin1', :'server' || 'latin1'), courier.create_node('ascii', :'server' || 'ascii');
select courier.replication_set_add_table('default', 'item');
insert into item values (1, 'copied: äß', 'é', '{ü,"ÿ ''\""}');
select courier.create_subscription(n, n) > 0 from unnest('{latin1,ascii}'::text[]) n;
select courier.ship('latin1'), courier.ship('ascii');
insert into item values (2, 'one: äöü', 'é', null);
select courier.ship('latin1'), courier.ship('ascii');
insert into item select i, 'many: ñ' || i, 'é', '{ç}' from generate_series(3, 5) i;
update item set v = v || 'å' where id < 3;
delete from item where id = 4;
select courier.enqueue('kanäle', 'ladung: æ');
select courier.ship('latin1'), courier.ship('ascii');
select d.* from dblink('courier_latin1', 'select id, v, "é", d, octet_length(v) from item order by id') d (id int, v text, e text, d text[], bytes int);
select d.* from dblink('courier_ascii', 'select id, octet_length(v), md5(v), md5("é") from item order by id') d (id int, bytes int, v text, e text)
except select id, octet_length(v), md5(v), md5("é") from item;
select d.* from dblink('courier_latin1', 'select channel, payload from courier_target.event') d (channel text, payload text);
-- what LATIN1 does not have
insert into item values (6, 'costs 5 €', 'é', null);
insert into item values (7, 'behind it', 'é', null);
select error_of('latin1');
select error_of('ascii');
select d.* from dblink('courier_latin1', 'select max(id) from item') d (id int);
select courier.alter_subscription_options('latin1', '{"on_error": "dead_letter"}');
select error_of('latin1');
select error_of('latin1');
select d.* from dblink('courier_latin1', 'select max(id) from item') d (id int);
select subscription_name, state, key, error_sqlstate, change_count from courier.dead_letter;
select courier.drop_subscription(n), courier.drop_node(n) from unnest('{latin1,ascii}'::text[]) n;
drop extension pg_courier;

-- from LATIN1
\c regress_courier_latin1
set client_min_messages = warning;
set client_encoding = utf8;
truncate item;
select format('host=%s port=%s user=%s dbname=regress_courier_',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as server \gset
select courier.create_node('utf8', :'server' || 'utf8');
select courier.replication_set_add_table('default', 'item');
insert into item values (1, 'copied: äß', 'é', '{ü,"ÿ"}');
select dblink_exec(:'server' || 'utf8', 'truncate item');
select courier.create_subscription('utf8', 'utf8') is not null as created;
select courier.ship('utf8');
insert into item select i, 'many: ñ' || i, 'é', '{ç}' from generate_series(2, 5) i;
update item set v = v || 'å' where id < 3;
select courier.enqueue('kanäle', 'ladung: æ');
select courier.ship('utf8');
select d.* from dblink('courier_utf8', 'select id, v, "é", d, octet_length(v) from item order by id') d (id int, v text, e text, d text[], bytes int);
select d.* from dblink('courier_utf8', 'select channel, payload, octet_length(payload) from courier_target.event') d (channel text, payload text, bytes int);
select courier.drop_subscription('utf8'), courier.drop_node('utf8');

-- from SQL_ASCII, where a text may be anything
\c regress_courier_ascii
set client_min_messages = warning;
set client_encoding = sql_ascii;
truncate item;
select format('host=%s port=%s user=%s dbname=regress_courier_',
    coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
    current_setting('port'), current_user) as server \gset
create function public.error_of(name text) returns text language plpgsql as $$
declare
    hint text;
begin
    return courier.ship(name);
exception when others then
    get stacked diagnostics hint = pg_exception_hint;
    return sqlstate || ' ' || regexp_replace(sqlerrm, 'transaction \d+', 'transaction XID') || '; ' || regexp_replace(hint, 'skip_transaction\(.*', 'skip_transaction(...)');
end
$$;
select dblink_exec(:'server' || 'utf8', 'truncate item');
select courier.create_node('utf8', :'server' || 'utf8');
select courier.replication_set_add_table('default', 'item');
select courier.create_subscription('utf8', 'utf8') is not null as created;
insert into item values (1, convert_from('\xc3a4', 'sql_ascii'), 'valid there', null);
select courier.ship('utf8');
insert into item values (2, convert_from('\xe4', 'sql_ascii'), 'not valid there', null);
select error_of('utf8');
select d.* from dblink('courier_utf8', 'select id, octet_length(v), length(v) from item order by id') d (id int, bytes int, characters int);
select courier.drop_subscription('utf8'), courier.drop_node('utf8');
\c :here
drop database regress_courier_utf8;
drop database regress_courier_latin1;
drop database regress_courier_ascii;
