-- courier.compare() and courier.repair(): every kind of difference, and what is
-- none; columns, types, keys, filters, partitions; what is refused.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_compare;
create database regress_courier_compare;
create schema shop;
create schema ext;
create extension citext schema ext;
create extension pg_courier cascade;
select format('host=%s port=%s user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as server \gset
select courier.create_node('eu', :'server' || ' dbname=regress_courier_compare');
create function public.on_target(command text) returns text language sql as $$ select dblink_exec('courier_eu', command) $$;
create function public.target(command text) returns setof text language sql as $$ select r from dblink('courier_eu', command) d (r text) $$;
create function public.error_of(command text) returns table (code text, message text, detail text, hint text)
language plpgsql as $$
begin
    execute command;
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, detail = pg_exception_detail, hint = pg_exception_hint;
    hint := replace(hint, quote_ident(current_user), 'ME');
    message := replace(message, quote_ident(current_user), 'ME');
    return next;
end
$$;
-- one line a table
create function public.compared(subscription text, tables text[] default null)
returns table (relation regclass, equal boolean, rows int8, missing int8, extra int8, different int8, keys text, note text)
language sql as $$
    select c.relation, c.equal, c.rows_compared, c.missing, c.extra, c.different,
           (select string_agg(format('%s %s%s', k -> 'key', k ->> 'difference', ' letter ' || (k ->> 'dead_letter')), ', ' order by k ->> 'key')
            from jsonb_array_elements(c.keys) k),
           c.note
    from courier.compare(subscription, tables) c order by c.relation::text
$$;

-- columns in another order, more of them on the node, generated ones, one that
-- is not sent
create table shop.item (id int primary key, name text, price numeric, gross numeric generated always as (price * 2) stored, secret text);
-- keys: of several columns, of types whose text and order differ, of extensions
create table shop.pair (b text, a int, v float8, primary key (a, b));
create table shop.word (w ext.citext primary key, n int);
create table shop.code (c char(5) primary key, at timestamptz);
create type shop.level as enum ('low', 'high');
create domain shop.email as text check (value like '%@%');
create table shop.odd (l shop.level, e shop.email, t tsrange, bits bit(3), j json, primary key (l, e, t));
-- types that differ
create table shop.typed (id int primary key, a numeric(10,2), b json, c varchar(10), d timestamptz, e boolean, f real);
-- partitions, of which the node has none; a parent, whose children's rows are none of its own
create table shop.part (id int, region text, v text, primary key (id, region)) partition by list (region);
create table shop.part_eu partition of shop.part for values in ('eu');
create table shop.part_us (v text, region text not null, id int not null);
alter table shop.part attach partition shop.part_us for values in ('us');
create table shop.parent (gone int, id int primary key, v text);
alter table shop.parent drop gone;
create table shop.child () inherits (shop.parent);
create table shop.log (at int, what text);
create table shop."W""eird t" ("the ""key""" text primary key, "pg_courier row" text, r text, v text, "wanted" text, n text);
select on_target($$
    create schema shop; create schema ext; create extension citext schema ext;
    create table shop.item (extra text default 'x', price numeric, gross numeric, id int8 primary key, name text, secret text);
    create table shop.pair (v float8, a int, b text, primary key (a, b));
    create table shop.word (w ext.citext primary key, n int);
    create table shop.code (at timestamptz, c char(5) primary key);
    create type shop.level as enum ('low', 'high');
    create domain shop.email as text;
    create table shop.odd (l shop.level, e shop.email, t tsrange, bits bit(3), j json, primary key (l, e, t));
    create table shop.typed (id text primary key, a numeric(12,4), b jsonb, c char(12), d timestamp, e text, f float8);
    create table shop.part (v text, id int, region text, primary key (id, region));
    create table shop.parent (id int primary key, v text);
    create table shop.child () inherits (shop.parent);
    create table shop.log (what text, at int);
    create table shop."W""eird t" (n text, "the ""key""" text primary key, "pg_courier row" text, r text, v text, "wanted" text);
$$);
select courier.replication_set_add_table('default', 'shop.item', '{id,name,price}');
select courier.replication_set_add_table('default', t)
from unnest('{shop.pair,shop.word,shop.code,shop.odd,shop.typed,shop.part,shop.parent,"shop.\"W\"\"eird t\""}'::text[]) t;
select courier.create_replication_set('log', replicate_update => false, replicate_delete => false);
select courier.replication_set_add_table('log', 'shop.log');
select courier.create_subscription('s', 'eu', '{default,log}');
select * from error_of($$select * from courier.compare('s')$$);
insert into shop.item (id, name, price, secret) select i, 'item ' || i, i * 1.50, 'secret' from generate_series(1, 3000) i;
insert into shop.pair select chr(65 + i % 26) || i, i % 5, 1 / i::float8 from generate_series(1, 2000) i;
insert into shop.word select 'Word ' || i, i from generate_series(1, 12000) i;
insert into shop.code select 'c' || i, '2026-01-01 12:00:00.123456+02' from generate_series(1, 50) i;
insert into shop.odd select l, 'a' || i || '@x', tsrange('2026-01-01', '2026-01-02'), b'101', '{"a":  1}'
from unnest(enum_range(null::shop.level)) l, generate_series(1, 20) i;
insert into shop.odd values ('low', '"q" \ ''@', '(,)', null, null);
insert into shop.typed values (1, 1.5, '{"b": 1, "a":2}', 'abc', '2026-01-01 00:00+00', true, 0.1), (2, null, null, null, null, null, null);
insert into shop.part select i, case i % 2 when 0 then 'eu' else 'us' end, 'v' from generate_series(1, 100) i;
insert into shop.parent values (1, 'one');
insert into shop.child values (2, 'two');
insert into shop.log select i % 3, 'x' || i % 500 from generate_series(1, 12000) i;
insert into shop."W""eird t" values (E'a"b''c\\d\n{},', '1', '2', '3', '4', null), ('', null, null, null, null, ''), ('NULL', 'null', null, null, null, null);
select courier.ship('s') > 0 as shipped;

-- equal, whatever the session's settings; what the node has of its own does not
-- count, nor what was written to a column that is not sent
update shop.item set secret = 'more' where id < 10;
select courier.ship('s') > 0 as shipped;
select on_target('update shop.item set extra = ''y'', gross = 1, secret = ''z'' where id < 100; insert into shop.child values (3, ''three'')');
select * from compared('s');
set datestyle = 'German'; set timezone = 'Asia/Tokyo'; set extra_float_digits = -5; set intervalstyle = 'iso_8601'; set bytea_output = 'escape';
select on_target('set datestyle = ''German''; set timezone = ''Asia/Tokyo''; set extra_float_digits = -5');
select bool_and(equal) from courier.compare('s');
show datestyle;
reset datestyle; reset timezone; reset extra_float_digits; reset intervalstyle; reset bytea_output;

-- every kind of difference
select on_target($$
    update shop.item set price = 3.0 where id = 2; delete from shop.item where id = 1500;
    insert into shop.item (id) values (0), (50000);
    update shop.pair set v = v * 1.000000000000001 where b = 'B1'; delete from shop.pair where a = 3 and b < 'C';
    insert into shop.pair values (null, 9, 'new');
    update shop.word set w = 'WORD 7' where lower(w::text) = 'word 7'; insert into shop.word values ('extra', 0);
    update shop.code set at = at + '1 us' where c = 'c7'; delete from shop.code where c = 'c8';
    update shop.odd set j = '{"a": 1}' where e = 'a3@x' and l = 'high'; delete from shop.odd where t = '(,)';
    update shop.typed set f = 0.2 where id = '1';
    update shop.part set v = 'w' where id in (1, 2); insert into shop.part values ('x', 1000, 'other');
    update shop.parent set v = 'x' where id = 1;
    delete from shop.log where at = 2; insert into shop.log values ('y', 1);
    delete from shop."W""eird t" where n is null; insert into shop."W""eird t" ("the ""key""") values ('"');
$$);
select * from compared('s');
select relation, keys, keys_not_shown from courier.compare('s', '{shop.pair}', max_keys => 2);
select keys, keys_not_shown from courier.compare('s', array['shop.item'], 0);

-- statements that would mend it; then it is mended
select unnest(statements) from courier.repair('s', '{shop.word,"shop.\"W\"\"eird t\""}', print => true);
-- without a key rows can't be shipped again; said at once if the table was asked for
select note from courier.repair('s', print => true) where relation = 'shop.log'::regclass;
select * from error_of($$select * from courier.repair('s', '{shop.item,shop.log}')$$);
select * from error_of($$select * from courier.repair('s', '{shop.log}', print => true)$$);
select pending_changes from courier.subscription_status;
select relation, missing + extra + different as differences, resent, statements from courier.repair('s') order by relation::text;
select courier.ship('s');
select * from compared('s');
select target('select concat_ws('' '', w, n) from shop.word where lower(w::text) in (''word 7'', ''extra'')');
-- the node's own column is as it was
select target('select string_agg(distinct extra, '','') from shop.item where id = 2');

-- a key that the source can't have
select on_target('insert into shop.item (id) values (5000000000); insert into shop.typed (id) values (''what'')');
select * from compared('s', '{shop.item,shop.typed}');
select on_target('delete from shop.item where id > 4000000000; delete from shop.typed where id = ''what''');

-- by keys; a row that is not there, and whose
-- key is, is sent as it is
select on_target('delete from shop.item where id in (7, 8); insert into shop.item (id) values (-1)');
select courier.resend('shop.item', '[{"id": "7"}, {"id": 8}, {"id": -1}, {"id": "-2"}]');
select courier.ship('s');
select relation, equal from compared('s', '{shop.item}');

-- row filters: what they keep out is extra on the node; other nodes keep it
select on_target('create schema other');
create schema other;
create table other.item (id int primary key, region text, v text);
insert into other.item values (1, 'eu', 'one'), (2, 'us', 'two'), (3, null, 'three'), (4, 'eu', repeat('long', 1000));
alter table other.item alter v set storage external;
select on_target('create table other.item (id int primary key, region text, v text)');
select courier.create_replication_set('eu');
select courier.create_replication_set('everything');
select courier.replication_set_add_table('eu', 'other.item', row_filter => $$region = 'eu'$$);
select courier.replication_set_add_table('everything', 'other.item');
select courier.create_subscription('filtered', 'eu', '{eu}');
select courier.ship('filtered') > 0 as shipped;
select * from compared('filtered');
select on_target('insert into other.item values (2, ''us'', ''two''), (3, null, ''three'') on conflict do nothing; update other.item set v = ''x'' where id = 4; delete from other.item where id = 1');
select * from compared('filtered');
-- what another subscription of the same rows gets to see
select courier.create_subscription('all', 'eu', '{everything}', copy_data => false);
select courier.ship('all');
select resent from courier.repair('filtered');
select courier.ship('filtered');
select * from compared('filtered');
select target('select concat_ws('' '', id, region, length(v)) from other.item order by id');
-- it gets all of them: none is deleted
select courier.ship('all');
select target('select concat_ws('' '', id, region, length(v)) from other.item order by id');
select courier.drop_subscription('all');
select courier.drop_subscription('filtered');

-- dead letters
create table shop.letter (id int primary key, v int);
select on_target('create table shop.letter (id int primary key, v int check (v < 100))');
select courier.create_replication_set('letters');
select courier.replication_set_add_table('letters', 'shop.letter');
select courier.create_subscription('letters', 'eu', '{letters}', options => '{"on_error": "dead_letter"}');
insert into shop.letter values (1, 1), (2, 2);
select courier.ship('letters');
update shop.letter set v = 200 where id = 1;
select courier.ship('letters');
select courier.ship('letters');
select on_target('update shop.letter set v = 3 where id = 2');
select * from compared('letters');
select dead_lettered from courier.compare('letters');
select resent, dead_lettered from courier.repair('letters');
select courier.ship('letters');
select * from compared('letters');
select courier.drop_subscription('letters');

-- sets that do not send everything; a node without a unique key
create table shop.once (id int primary key, v int);
select on_target('create table shop.once (id int, v int)');
select courier.replication_set_add_table('log', 'shop.once');
insert into shop.once select i, i from generate_series(1, 10) i;
select courier.ship('s') > 0 as shipped;
delete from shop.once where id = 1;
update shop.once set v = 0 where id = 2;
select courier.ship('s');
select on_target('delete from shop.once where id = 3');
select * from compared('s', '{shop.once}');
select courier.replication_set_add_table('default', 'shop.once');
select courier.ship('s') >= 0 as shipped;
select on_target('insert into shop.once values (5, 5)');
select * from compared('s', '{shop.once}');

-- refused
select * from error_of($$select * from courier.compare('nono')$$);
select * from error_of($$select * from courier.compare(null)$$);
select * from error_of($$select * from courier.compare('s', '{shop.nono}')$$);
select * from error_of($$select * from courier.compare('s', '{shop.parent,null}')$$);
select * from error_of($$select * from courier.compare('s', '{shop.child}')$$);
set search_path = shop;
select relation, equal from courier.compare('s', '{parent}');
select relation, resent from courier.repair('s', '{parent}');
reset search_path;
select * from error_of($$select * from courier.repair('nono')$$);
select * from error_of($$select * from courier.repair('s', '{shop.nono}')$$);
select * from error_of($$select * from courier.repair('s', '{shop.child}')$$);
select * from error_of($$select * from courier.compare('s', '{}')$$);
select * from error_of($$select * from courier.compare('s', max_keys => -1)$$);
select * from error_of($$select * from courier.compare('s', timeout => '0')$$);
select * from error_of($$select courier.resend('shop.child', '[]')$$);
select * from error_of($$select courier.resend('shop.nono', '[]')$$);
select * from error_of($$select courier.resend('shop.log', '[{"at": 1}]')$$);
select * from error_of($$select courier.resend('shop.pair', '[{"a": 1}]')$$);
select * from error_of($$select courier.resend('shop.pair', '{"a": 1, "b": "x"}')$$);
select * from error_of($$select courier.resend('shop.pair', '[{"a": 1, "b": null}]')$$);
begin;
insert into shop.parent values (10, 'ten');
select * from error_of($$select * from courier.compare('s')$$);
rollback;
begin isolation level repeatable read;
select * from error_of($$select * from courier.compare('s')$$);
select * from error_of($$select courier.resend('shop.parent', '[]')$$);
rollback;
-- what has been committed and is not applied is waited for
insert into shop.parent values (11, 'eleven');
select * from error_of($$select * from courier.compare('s', '{shop.parent}', timeout => '50 ms')$$);
select courier.ship('s');
select * from error_of($$select * from courier.compare('s', '{shop.parent}', timeout => '50 ms')$$);
select on_target('alter table shop.parent rename v to w');
select * from error_of($$select * from courier.compare('s', '{shop.parent}')$$);
select on_target('alter table shop.parent rename to parents');
select * from error_of($$select * from courier.compare('s', '{shop.parent}')$$);
-- values that the node's type does not read; the error does not quote them
create table shop.mixed (id int primary key, v text, w int);
select on_target('create table shop.mixed (id int primary key, v int, w int)');
select courier.create_replication_set('mixed');
select courier.replication_set_add_table('mixed', 'shop.mixed');
insert into shop.mixed values (1, 'secret', 1);
select courier.create_subscription('mixed', 'eu', '{mixed}', copy_data => false);
select courier.ship('mixed');
select * from error_of($$select * from courier.compare('mixed')$$);
select * from error_of($$select * from courier.repair('mixed')$$);
select courier.drop_subscription('mixed');
-- rows that are not sent are not missing
create table shop.late (id int primary key, v int);
select on_target('create table shop.late (id int primary key, v int); insert into shop.late values (1, 1), (3, 3)');
select courier.create_replication_set('late', replicate_insert => false);
select courier.replication_set_add_table('late', 'shop.late');
select courier.create_subscription('late', 'eu', '{late}', copy_data => false) is not null as created;
select courier.ship('late');
insert into shop.late values (1, 2), (2, 2);
select courier.ship('late');
select equal, missing, extra, different, note from courier.compare('late');
select courier.drop_subscription('late');
create role regress_courier_reader;
select * from error_of($$set local role regress_courier_reader; select * from courier.repair('s')$$);
select * from error_of($$set local role regress_courier_reader; select * from courier.compare('s')$$);
select on_target('create role regress_courier_weak login; grant usage on schema shop, courier_target to regress_courier_weak; grant select on courier_target.progress to regress_courier_weak');
alter user mapping for public server courier_eu options (set user 'regress_courier_weak');
select * from error_of($$select * from courier.compare('s', '{shop.pair}')$$);
select * from error_of($$select * from courier.repair('s', '{shop.pair}')$$);
alter user mapping for public server courier_eu options (set user :'USER');
select on_target('revoke usage on schema shop from regress_courier_weak');
alter user mapping for public server courier_eu options (set user 'regress_courier_weak');
select * from error_of($$select * from courier.compare('s', '{shop.pair}')$$);
alter user mapping for public server courier_eu options (set user :'USER');
select on_target('grant usage on schema shop to regress_courier_weak; alter table shop.pair enable row level security; grant select on shop.pair to regress_courier_weak');
alter user mapping for public server courier_eu options (set user 'regress_courier_weak');
select * from error_of($$select * from courier.compare('s', '{shop.pair}')$$);
alter user mapping for public server courier_eu options (set user :'USER');
-- nothing of it is sent that the node does not compute itself
create table shop.computed (v int);
select on_target('create table shop.computed (v int generated always as (1) stored)');
select courier.create_replication_set('computed', replicate_update => false, replicate_delete => false);
select courier.replication_set_add_table('computed', 'shop.computed');
select courier.create_subscription('computed', 'eu', '{computed}', copy_data => false) is not null as created;
select courier.ship('computed');
select * from error_of($$select * from courier.compare('computed')$$);
select courier.drop_subscription('computed');
select courier.alter_subscription_disable('s');
select * from error_of($$select * from courier.compare('s')$$);

select courier.drop_subscription('s');
select courier.drop_node('eu');
drop extension pg_courier;
drop schema shop, other cascade;
drop schema ext cascade;
drop function public.on_target, public.target, public.error_of, public.compared;
drop database regress_courier_compare;
drop role regress_courier_reader, regress_courier_weak;
