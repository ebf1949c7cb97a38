-- Schemas, tables, columns, keys, types and partitions of any legal name: the
-- copy, every kind of change, and errors that name them.
\set SHOW_CONTEXT never
set client_min_messages = warning;
select current_database() as source \gset
drop database if exists regress_courier_identifiers;
create schema kit;
create table kit.name (n int generated always as identity primary key, name text);
insert into kit.name (name) values
    ('plain'), ('Upper Case'), ('a.b'), ('."'), ('"'), ('""'), (''''), (''''''), ('"''"'), ('\'), ('\'''), ('a\b"c''d'), ('$'), ('$$'), ('$courier$'),
    ('$1'), ('%I'), ('%s %L %1$s'), ('{a,b}'), ('}'), (','), (';'), ('; DROP TABLE x; --'), ('/*'), ('--'), ('a b'), (' '), ('  lead'), ('trail  '),
    (E'new\nline'), (E'carriage\rreturn'), (E'tab\t'), (E'bell\x07'), (E'\x01'), ('1st'), ('1'), ('-1'), ('1.5'), ('select'), ('table'), ('user'), ('null'),
    ('default'), ('order'), ('old'), ('new'), ('t'), ('u'), ('r'), ('c0'), ('k0'), ('ctid_'), ('excluded'), ('exists'), ('only'), ('values'), ('pg_temp'), ('ä€𐍈'),
    ('Ünïcödé ÀÉ'), (U&'\0301'), (U&'\200b'), (repeat('x', 63)), (repeat('ä', 31)), (repeat('"', 63)), (repeat('''', 63)), (repeat('\', 63)),
    ('(a)'), ('a::text'), ('U&"x"'), ('E''x'''), ('=>'), (':x'), (':''x'''), ('@'), ('#'), ('~'), ('`'), ('[0]'), ('*'), ('public'), ('pg_catalog'), ('courier_');


-- schema, table, key, columns and types bear the name, and so do a partitioned table and its partition
create function kit.schema_of(name text) returns text language sql immutable as $$
    select case when name in ('public', 'pg_catalog', 'pg_temp') then '_' || name else name end
$$;
create procedure kit.make() language plpgsql as $$
declare
    f record;
begin
    for f in select n, name, kit.schema_of(name) as schema from kit.name order by n loop
        execute format('create schema %I', f.schema);
        execute format('create type %I.mood as enum (%L, ''other'')', f.schema, f.name);
        execute format('create domain %I.words as text check (value <> ''not this'')', f.schema);
        execute format('create type %I.pair as (%I int, b %1$I.mood)', f.schema, f.name);
        execute format('create table %I.%I (%2$I int, k %1$I.mood, v %1$I.words, p %1$I.pair, ps %1$I.pair[], es %1$I.mood[], primary key (%2$I, k))',
                       f.schema, f.name);
        execute format('alter type %I.mood rename to %I', f.schema, '.' || left(f.name, 20));
        execute format('alter type %I.words rename to %I', f.schema, ';' || left(f.name, 20));
        execute format('create table %I.%I (%I text, n int) partition by list (n)', f.schema, 'parts', f.name);
        execute format('create table %I.%I partition of %1$I.parts for values in (1)', f.schema, '_' || left(f.name, 20));
        execute format('alter table %I.parts replica identity full', f.schema);
    end loop;
end
$$;
call kit.make();
\c postgres
create database regress_courier_identifiers template :"source";
\c :source
\set target regress_courier_identifiers
\i ../test/regress/include/target.sql
-- runs a command for every name: 1 the table, 2 the name, 3 the partitioned one, 4 and 5 the types, 6 the schema
create procedure kit.each(command text) language plpgsql as $$
declare
    f record;
begin
    for f in select n, name, kit.schema_of(name) as schema from kit.name order by n loop
        execute format(command, format('%I.%I', f.schema, f.name), f.name, format('%I.parts', f.schema),
                       format('%I.pair', f.schema), format('%I.%I', f.schema, '.' || left(f.name, 20)), f.schema);
    end loop;
end
$$;
\i ../test/regress/include/compare.sql
create function kit.ship(out shipped bigint, out tables int, out row_count bigint, out differ text) language plpgsql as $$
begin
    shipped := courier.ship('s');
    select c.tables, c.row_count, c.differ into tables, row_count, differ from pg_temp.compare_sides() c;
end
$$;
select count(*) from (select courier.replication_set_add_table('default', format('%I.%I', kit.schema_of(name), name)) from kit.name) x;
select courier.replication_set_add_all_tables('default', array_agg(kit.schema_of(name))) from kit.name;
call kit.each('insert into %1$s values (0, %2$L, %2$L, row(1, ''other''), array[row(1, %2$L), null]::%4$s[], array[%2$L, null]::%5$s[]); insert into %3$s values (%2$L, 1)');
select courier.create_subscription('s', 'eu') is not null as created;
select * from kit.ship();
call kit.each('insert into %1$s select i, ''other'', %2$L from generate_series(1, 3) i; insert into %3$s values (%2$L, 1), (%2$L, 1)');
select * from kit.ship();
call kit.each('update %1$s set v = v || %2$L, es = array[''other''::%5$s] where %2$I = 0');
call kit.each('update %3$s set %2$I = ''x'' where ctid = ''(0,2)''');
select * from kit.ship();
call kit.each('update %1$s set k = %2$L where %2$I = 1; update %1$s set %2$I = 9 where %2$I = 2; delete from %1$s where %2$I = 3');
call kit.each('delete from %3$s where ctid = ''(0,1)''');
select * from kit.ship();
call kit.each('insert into %1$s as x values (9, ''other'', ''not this one'') on conflict (%2$I, k) do update set v = excluded.v, %2$I = 10');
call kit.each('truncate %3$s; insert into %3$s values (%2$L, 1)');
select * from kit.ship();
-- sent again
call kit.each('select courier.enqueue_upsert(%1$L, x) from %1$s x');
select * from kit.ship();
-- events have any name too
call kit.each('select courier.enqueue(%2$L, %2$L)');
select courier.ship('s') = count(*) as shipped from kit.name;
select count(*) from dblink('target', 'select channel from courier_target.event where channel = payload') d (channel text)
join kit.name on channel = name;
-- errors name them, and what they advise works
select dblink_exec('target', $$alter table "a\b""c'd"."a\b""c'd" drop v$$);
update "a\b""c'd"."a\b""c'd" set v = 'changed' where k = 'other';
create function kit.error(out message text, out hint text) language plpgsql as $$
begin
    perform courier.ship('s');
exception when others then
    get stacked diagnostics message = message_text, hint = pg_exception_hint;
    message := regexp_replace(message, 'transaction \d+', 'transaction XID');
end
$$;
select * from kit.error();
select substring(hint from 'target: (.*;)') as advice from kit.error() \gset
select dblink_exec('target', :'advice');
update "a\b""c'd"."a\b""c'd" set v = 'all changed';
select courier.ship('s');
-- renamed and dropped ones
alter table "a\b""c'd"."a\b""c'd" rename to "d'c""b\a";
alter schema "a\b""c'd" rename to "D'c""b\a";
select dblink_exec('target', $$alter table "a\b""c'd"."a\b""c'd" rename to "d'c""b\a"; alter schema "a\b""c'd" rename to "D'c""b\a"$$);
update "D'c""b\a"."d'c""b\a" set v = 'under its new name';
select courier.ship('s');
select d.* from dblink('target', 'select k, v from "D''c""b\a"."d''c""b\a" order by "a\b""c''d"') d (k text, v text);
drop table "$$"."$$", "'"."'" cascade;
select count(*) = 2 * (select count(*) - 1 from kit.name) as gone from courier.replication_set_table;

select courier.drop_subscription('s');
select dblink_disconnect('target');
select courier.drop_node('eu');
drop extension pg_courier;
update kit.name set name = 'D''c"b\a' where name = 'a\b"c''d';
call kit.each('drop schema %6$I cascade');
drop schema kit cascade;
drop database regress_courier_identifiers;
