-- Every built-in type with a text form of its own arrives as the same bytes,
-- whatever the sessions on both sides prefer: by copy, as single rows and many,
-- inserted, updated, as key, and where the whole row identifies it.
\set SHOW_CONTEXT never
set client_min_messages = warning;
set datestyle = iso;
set intervalstyle = postgres;
select current_database() as source \gset
drop database if exists regress_courier_types;

-- user-defined types get the same OIDs on both sides: the target is a copy of this database
create extension hstore schema public;
create schema kind;
create type kind.mood as enum ('sad', 'ok', 'so so', 'it''s "\fine", yes', '', 'NULL');
create domain kind.positive as int check (value > 0);
create domain kind.words as text[] check (cardinality(value) < 9);
create type kind.pair as (number int, word text, moment timestamptz, data bytea, mood kind.mood);
create type kind.nest as ("the pair" kind.pair, pairs kind.pair[], span interval, f float8, nothing text);
create domain kind.some_pair as kind.pair check ((value).number is distinct from 13);
create type kind.text_range as range (subtype = text, collation = "C", multirange_type_name = kind.text_multirange);
create table kind."Odd name" ("a ""column""" int);
create function kind."Odd function"(int, kind.mood) returns int language sql as 'select 1';

create schema probe;
create table probe.type (name text primary key, type text, first int);
create table probe.sample (name text, n int, v text, primary key (name, n));
create function probe.define(type_name text, type text, variadic samples text[]) returns void language sql as $$
    insert into probe.type values (type_name, type);
    insert into probe.sample select type_name, n, v from unnest(samples) with ordinality u (v, n);
$$;
\o /dev/null
select probe.define('bool', 'bool', 'true', 'false');
select probe.define('int2', 'int2', '-32768', '0', '32767');
select probe.define('int4', 'int4', '-2147483648', '0', '2147483647');
select probe.define('int8', 'int8', '-9223372036854775808', '0', '9223372036854775807');
select probe.define('float4', 'float4', '0', 'NaN', 'Infinity', '-Infinity', '-0', '1e-45', '1.1754942e-38', '3.4028235e38', '0.1', '16777217', '1.1');
select probe.define('float8', 'float8', '0', 'NaN', 'Infinity', '-Infinity', '-0', '5e-324', '2.225073858507201e-308', '1.7976931348623157e308', '0.1', '0.30000000000000004', '9007199254740993', '1e21');
select probe.define('numeric', 'numeric', '0', 'NaN', '0.000', 'Infinity', '-Infinity', '-1.50', '1e-1000', repeat('9', 1000), '-' || repeat('12345', 200) || '.' || repeat('67890', 200), '1e131000');
select probe.define('numeric(12,4)', 'numeric(12,4)', '12345678.9', '-0.0001', 'NaN', '0');
select probe.define('money', 'money', '1234567.89', '-0.01', '0', '92233720368547758.07', '-92233720368547758.08');
select probe.define('text', 'text', 'plain', '', ' ', 'NULL', 'null', '\N', '\', '\\', '''', '"', '{}', '{a,"b"}', '(1,2)', ',', ';', 'a''b"c\d', E'tab\tnewline\nreturn\r\n\f\b\v', '$$ $courier$ :x %s --/*', 'a' || repeat(' ', 5));
insert into probe.sample values ('text', 30, (select string_agg(chr(i), '') from generate_series(1, 127) i)),
    ('text', 31, (select string_agg(chr(i), '') from generate_series(128, 1023) i)),
    -- a character of each plane, and the borders of the encoding's lengths
    ('text', 32, (select string_agg(chr(plane * 65536 + 61440), '') from generate_series(0, 16) plane)),
    ('text', 33, chr(127) || chr(128) || chr(2047) || chr(2048) || chr(55295) || chr(57344) || chr(65533) || chr(65535) || chr(65536) || chr(1114111)),
    ('text', 34, (select string_agg(md5(i::text), E'\\''"\n') from generate_series(1, 30000) i)),
    ('text', 35, repeat('x', 3000000));
select probe.define('varchar(10)', 'varchar(10)', 'ä€𐍈', '', 'ten chars!', 'NULL');
select probe.define('char(8)', 'char(8)', 'ab', '', 'eight ch', '''"\{},');
select probe.define('"char"', '"char"', 'a', '', '''', '\', '"', '{', E'\x01', E'\x7f');
select probe.define('name', 'name', 'plain', 'a "quoted" name', '', repeat('n', 63));
select probe.define('bytea', 'bytea', '\x', '\x00', '\x5c', '\x5c78', '\x27', (select '\x' || string_agg(lpad(to_hex(i), 2, '0'), '') from generate_series(0, 255) i), '\x' || repeat('00ff', 100000));
select probe.define('date', 'date', '2024-02-29', 'infinity', '-infinity', '0044-03-15 BC', '4713-01-01 BC', '5874897-12-31', '0001-01-01', '2000-01-02');
select probe.define('time', 'time', '00:00', '24:00', '23:59:59.999999', '12:34:56.7');
select probe.define('timetz', 'timetz', '00:00+00', '24:00-15:59:59', '12:34:56.7+05:45', '12:34:56.789012-03:30:15');
select probe.define('timestamp', 'timestamp', '2024-02-03 04:05:06.789012', 'infinity', '-infinity', '0044-03-15 12:00 BC', '4713-01-01 BC', '294276-12-31 23:59:59.999999', '1999-12-31 24:00', '2024-12-11 10:09:08');
select probe.define('timestamptz', 'timestamptz', '2024-02-03 04:05:06.789012+00', 'infinity', '-infinity', '0044-03-15 12:00+00 BC', '4713-01-02 00:00+00 BC', '294276-12-31 23:59:59.999999+00', '1850-01-01 00:00+00', '2024-10-27 01:30+00', '1985-12-31 18:15+00');
select probe.define('timestamptz(0)', 'timestamptz(0)', '2024-02-03 04:05:06+00', '2024-07-03 04:05:06+00', 'infinity');
select probe.define('interval', 'interval', '0', '+1 year +2 mons', '-1 year -2 mons', '+1 day', '-1 day', '+1:02:03.000004', '-1:02:03.000004', '-00:00:00.000001', '+1 year +2 mons +3 days +4:05:06.7', '-1 year -2 mons -3 days -4:05:06.7', '+1 mon -2 days +3:04:05', '-1 mon +2 days -3:04:05', '-1 mon +2 days +3:04:05', '+1 mon +2 days -3:04:05', '+1 mon -2 days -3:04:05', '-1 mon -2 days +3:04:05', '+1 mon -3:04:05', '-1 mon +3:04:05', '-2 days +3:04:05', '+2 days -3:04:05', '+178000000 years', '-178000000 years +2147483647 days -2562047788:00:54.775807');
select probe.define('interval day', 'interval day to hour', '+3 days +4:00', '-3 days +4:00', '+3 days -4:00');
select probe.define('json', 'json', '{"b":1, "a" :  [1.50, "x\u00e9\\\"", null], "b":2}', 'null', '""', E'[\n 1e400 ]', '"\\u0000"');
select probe.define('jsonb', 'jsonb', '{"b":1, "a" :  [1.50, "x\u00e9\\\"", null], "b":2}', 'null', '""', '[1e400, -0.0, 1.000]', '{"": {"''": "{}"}}');
select probe.define('jsonpath', 'jsonpath', '$.a[*] ? (@.b == "x\"y''z")', 'strict $."k e\\y".size()', '$');
select probe.define('xml', case when (select bool_or(setting ~ '--with-libxml') from pg_config where name = 'CONFIGURE') then 'xml' else 'refcursor' end,
    '<a b="c''d">&amp;<!-- x --></a>', 'text only <b/> and <c/>', '', '<?xml version="1.0" encoding="utf-8"?><ä>€</ä>', '<!DOCTYPE a SYSTEM "a.dtd"><a/>');
select probe.define('uuid', 'uuid', '00000000-0000-0000-0000-000000000000', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'ffffffff-ffff-ffff-ffff-ffffffffffff');
select probe.define('inet', 'inet', '192.168.0.1', '10.1.2.3/8', '::1', '2001:db8::1/64', '0.0.0.0/0', '::ffff:1.2.3.4');
select probe.define('cidr', 'cidr', '192.168.0.0/24', '10/8', '2001:db8::/32', '0.0.0.0/0', '192.168.0.1/32');
select probe.define('macaddr', 'macaddr', '08:00:2b:01:02:03', '00:00:00:00:00:00');
select probe.define('macaddr8', 'macaddr8', '08:00:2b:01:02:03:04:05', 'ff:ff:ff:ff:ff:ff:ff:ff');
select probe.define('bit(9)', 'bit(9)', '101010101', '000000000', '111111111');
select probe.define('varbit', 'varbit', '', '1', '0', repeat('10110', 100));
select probe.define('tsvector', 'tsvector', 'a fat:2,4C cat:3A ''it''''s'':1B ''b\\c''', '', '''a,b'' ''"q"'' ''{}'':16383D');
select probe.define('tsquery', 'tsquery', 'fat:ab & !cat:* | ''it''''s''', '', 'a <-> b <3> (c | ''"\\'')');
select probe.define('point', 'point', '(0.1,-0)', '(NaN,Infinity)', '(1e-300,5e-324)', '(0.30000000000000004,1)');
select probe.define('line', 'line', '{1,-1,0.1}', '{0,-1,0.30000000000000004}');
select probe.define('lseg', 'lseg', '[(0.1,0.2),(1e300,-1e-300)]', '[(0,0),(0,0)]');
select probe.define('box', 'box', '(0.1,0.2),(-1,-2)', '(1,1),(1,1)');
select probe.define('path', 'path', '[(0.1,0),(1,1),(2,0.30000000000000004)]', '((0,0),(1,1),(2,0.1))');
select probe.define('polygon', 'polygon', '((0.1,0),(1,1),(2,0.30000000000000004))', '((0,0))');
select probe.define('circle', 'circle', '<(0.1,-0.2),0.30000000000000004>', '<(0,0),0>');
select probe.define('pg_lsn', 'pg_lsn', '0/0', '16/B374D848', 'FFFFFFFF/FFFFFFFF');
select probe.define('xid', 'xid', '0', '4294967295');
select probe.define('xid8', 'xid8', '0', '18446744073709551615');
select probe.define('cid', 'cid', '0', '4294967295');
select probe.define('tid', 'tid', '(0,1)', '(4294967294,65535)');
select probe.define('pg_snapshot', 'pg_snapshot', '10:20:10,14,15', '1:1:');
select probe.define('oid', 'oid', '0', '4294967295');
select probe.define('int2vector', 'int2vector', '1 -2 3', '', '32767');
select probe.define('oidvector', 'oidvector', '1 2 4294967295', '');
select probe.define('refcursor', 'refcursor', 'c', '', '"c''');
select probe.define('regclass', 'regclass', 'pg_class', 'kind."Odd name"', 'probe.type');
select probe.define('regproc', 'regproc', 'kind."Odd function"', 'pg_catalog.byteaeq', '-');
select probe.define('regprocedure', 'regprocedure', 'kind."Odd function"(int, kind.mood)', 'pg_catalog.length(pg_catalog.bpchar)', '-');
select probe.define('regoper', 'regoper', 'pg_catalog.||/', '0');
select probe.define('regoperator', 'regoperator', 'pg_catalog.+(integer,integer)', 'pg_catalog.!!(none,tsquery)', '0');
select probe.define('regtype', 'regtype', 'kind.mood', 'kind."Odd name"', 'text', 'int4', 'timestamptz[]', '-');
select probe.define('regrole', 'regrole', 'pg_monitor', '-');
select probe.define('regnamespace', 'regnamespace', 'kind', 'pg_catalog', '-');
select probe.define('regconfig', 'regconfig', 'simple', 'german', '0');
select probe.define('regdictionary', 'regdictionary', 'simple', '0');
select probe.define('regcollation', 'regcollation', '"C"', '"POSIX"', '-');
select probe.define('int4range', 'int4range', 'empty', '[1,10)', '(,)', '[5,)', '(,-5)');
select probe.define('numrange', 'numrange', 'empty', '[1.50,2.0]', '(-Infinity,NaN)', '(,0.10)');
select probe.define('daterange', 'daterange', 'empty', '[2024-01-02,2024-02-03)', '["0044-03-15 BC",infinity]', '(,)');
select probe.define('tsrange', 'tsrange', '["2024-01-02 03:04:05.6","2024-02-03 00:00")', '["-infinity",infinity]');
select probe.define('tstzrange', 'tstzrange', '["2024-01-02 03:04:05.6+00","2024-02-03 00:00+02"]', '(,"infinity")', 'empty');
select probe.define('kind.text_range', 'kind.text_range', '["a, ""b""","it''s \\ )"]', '["",b)', '(,)', 'empty');
select probe.define('int8multirange', 'int8multirange', '{}', '{[1,3),[5,8)}', '{(,)}');
select probe.define('tstzmultirange', 'tstzmultirange', '{["2024-01-02 03:04:05.6+00","2024-02-03 00:00+02"],["2025-01-01 00:00+00",)}', '{}');
select probe.define('kind.text_multirange', 'kind.text_multirange', '{["a, ""b""","it''s \\ )"],[x,)}', '{}');
select probe.define('enum', 'kind.mood', 'sad', 'so so', 'it''s "\fine", yes', 'NULL');
select probe.define('domain', 'kind.positive', '1', '2147483647');
select probe.define('domain of array', 'kind.words', '{}', '{a,NULL,"NULL","it''s, \"q\" \\ {}"}', '[0:1]={x,y}');
select probe.define('domain of composite', 'kind.some_pair', '(1,"it''s, ""q"" \\ ()","2024-02-03 04:05:06.7+00","\\x00ff5c","so so")', '(,,,,)');
select probe.define('composite', 'kind.pair', '(1,"it''s, ""q"" \\ ()","2024-02-03 04:05:06.7+00","\\x00ff5c","so so")', '(,,,,)', '(-1,"",infinity,"","NULL")', '(,NULL,,,)', '(2,"{1,2}","0044-03-15 12:00+00 BC",,sad)');
select probe.define('composite of composites', 'kind.nest', '(,,,,)', (select row(p, array[p, null, p], interval '-1 mon +2 days -3:04:05', '0.30000000000000004'::float8, null)::kind.nest::text
    from (select row(1, E'it''s, "q" \\ ()\n', timestamptz '2024-02-03 04:05:06.7+00', '\x00ff5c'::bytea, 'it''s "\fine", yes')::kind.pair) q (p)));
select probe.define('composite[]', 'kind.pair[]', '{}', (select array[p, null, p, '(,,,,)']::text from (select row(1, 'it''s, "q" \ {} ()', timestamptz '2024-02-03 04:05:06.7+00', '\x00ff5c'::bytea, 'so so')::kind.pair) q (p)));
select probe.define('table row', 'kind."Odd name"', '(1)', '()');
select probe.define('int4[]', 'int4[]', '{}', '{1,NULL,-3}', '{{1,2},{3,NULL}}', '[2:3][-1:0]={{1,2},{3,4}}', '[0:0]={7}', '{{{{{{1}}}}}}');
select probe.define('text[]', 'text[]', '{}', '{NULL,"NULL","null",""," ",a}', '{"a b","it''s","q\"q","b\\b","{}",",","a,b"}', '[-5:-4]={x,NULL}', '{{"a,","\\"},{"\"",NULL}}', E'{"tab\t","new\nline","\x01"}', '{ä€𐍈,"$courier$"}');
insert into probe.sample values ('text[]', 30, (select array_agg(md5(i::text) || '"\,' || i) from generate_series(1, 9000) i)::text);
select probe.define('"char"[]', '"char"[]', '{a,"",NULL,"\\","\""}', '{}');
select probe.define('bytea[]', 'bytea[]', '{"\\x00ff5c27","\\x",NULL}', '{}');
select probe.define('timestamptz[]', 'timestamptz[]', '{"2024-02-03 04:05:06.789012+00",infinity,NULL,"0044-03-15 12:00+00 BC"}', '{}');
select probe.define('interval[]', 'interval[]', '{"+1 mon -2 days +3:04:05","-1 mon +2 days -3:04:05",NULL}', '{}');
select probe.define('float8[]', 'float8[]', '{0.30000000000000004,NaN,Infinity,-0,5e-324}', '{}');
select probe.define('numeric[]', 'numeric[]', '{1.500,NaN,-Infinity,NULL}', '{}');
select probe.define('jsonb[]', 'jsonb[]', '{"{\"a\": [1.50, \"\\\\\"]}","null",NULL}', '{}');
select probe.define('money[]', 'money[]', '{1234567.89,-0.01,NULL}', '{}');
select probe.define('box[]', 'box[]', '{(0.1,0.2),(-1,-2);(1,1),(1,1);NULL}', '{}');
select probe.define('int4range[]', 'int4range[]', '{"[1,10)",empty,"(,)",NULL}', '{}');
select probe.define('enum[]', 'kind.mood[]', '{sad,"so so","it''s \"\\fine\", yes",NULL,"NULL",""}', '{}');
select probe.define('domain[]', 'kind.positive[]', '{1,2,NULL}', '[5:6]={3,4}');
select probe.define('regtype[]', 'regtype[]', '{kind.mood,text,NULL}', '{}');
select probe.define('hstore', 'public.hstore', '', 'a=>1, "b c"=>NULL, "q\"q"=>"it''s \\ {},", ""=>"NULL"');
select probe.define('hstore[]', 'public.hstore[]', '{"\"a\"=>\"1, \\\"\"",NULL}', '{}');
-- and a NULL of each
insert into probe.sample select t.name, 99, null from probe.type t;
\o
update probe.sample s set n = r.n from (select name, n as was, row_number() over (partition by name order by n) as n from probe.sample) r
where s.name = r.name and s.n = r.was and s.n <> r.n;

-- t: an ordinary table of each type; k: the type as key, where it can be one
create schema t;
create schema k;
do $$
declare
    d record;
begin
    for d in select name, type from probe.type loop
        execute format('create table t.%I (id int constraint %I primary key, v %s)', d.name, d.name || ' key', d.type);
        begin
            execute format('create table k.%I (v %s primary key, n int)', d.name, d.type);
            -- some only show now that they have no order
            execute format('insert into k.%I select v::%s, n from probe.sample where name = %L and length(v) < 1500 on conflict do nothing',
                           d.name, d.type, d.name);
            execute format('truncate k.%I', d.name);
        exception when undefined_object or undefined_function then null;
        end;
    end loop;
end
$$;
-- rows and their bytes, by output function and by send function, under pinned settings
create function probe.digest(kind text) returns table (name text, row_count bigint, texts text, bytes text)
language plpgsql
set search_path = pg_catalog set datestyle = iso set intervalstyle = postgres set timezone = utc
set extra_float_digits = 3 set bytea_output = hex set lc_monetary = 'C' set standard_conforming_strings = on
set transform_null_equals = off set quote_all_identifiers = off set client_encoding = utf8 as $$
declare
    d record;
begin
    for d in select c.relname, p.proname, pn.nspname, a.attname,
               case when st.typtype = 'p' then '' else '::' || st.oid::regtype end as argument
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = kind
        join pg_attribute a on a.attrelid = c.oid and a.attname in ('id', 'n')
        join pg_attribute v on v.attrelid = c.oid and v.attname = 'v'
        join pg_type t on t.oid = v.atttypid
        join pg_proc p on p.oid = t.typsend
        join pg_namespace pn on pn.oid = p.pronamespace
        join pg_type st on st.oid = p.proargtypes[0]
        where c.relkind = 'r'
    loop
        name := d.relname;
        execute format('select count(*), md5(string_agg(%1$I || case when v is null then ''-'' else format(''%%s'', v) end, ''|'' order by %1$I)), '
                       'md5(string_agg(coalesce(%2$I.%3$I(v%6$s), ''''), '''' order by %1$I)) from %4$I.%5$I',
                       d.attname, d.nspname, d.proname, kind, name, d.argument) into row_count, texts, bytes;
        return next;
    end loop;
end
$$;

-- what a search_path can lead to
create schema shadow;
create domain shadow.int4 as text;
create domain shadow.text as int;
create domain shadow.timestamptz as int;
create table shadow.pg_class (x int);
create table shadow.pg_type (x int);
create function shadow.unnest(anyarray) returns setof anyelement language sql as 'select $1[1]';
create function shadow.md5(text) returns text language sql as $$ select 'shadow' $$;
create function shadow.format_type(oid, int) returns text language sql as $$ select 'shadow' $$;
create function shadow.current_setting(text) returns text language sql as $$ select 'shadow' $$;
create function shadow.equal(int, int) returns bool language sql as 'select false';
create operator shadow.= (function = shadow.equal, leftarg = int, rightarg = int);

-- the types as they read under that search_path
set search_path = shadow, pg_catalog;
update probe.type set type = pg_catalog.format_type(a.atttypid, a.atttypmod)
from pg_catalog.pg_attribute a where a.attrelid operator(pg_catalog.=) pg_catalog.format('t.%I', name)::regclass and a.attname = 'v';
reset search_path;

\c postgres
set client_min_messages = warning;
create database regress_courier_types template :"source";
alter database regress_courier_types set datestyle = 'SQL, DMY';
alter database regress_courier_types set intervalstyle = iso_8601;
alter database regress_courier_types set timezone = 'America/St_Johns';
alter database regress_courier_types set extra_float_digits = -15;
alter database regress_courier_types set bytea_output = escape;
alter database regress_courier_types set search_path = shadow, pg_catalog;
alter database regress_courier_types set standard_conforming_strings = off;
alter database regress_courier_types set escape_string_warning = off;
alter database regress_courier_types set backslash_quote = off;
alter database regress_courier_types set array_nulls = off;
alter database regress_courier_types set transform_null_equals = on;
alter database regress_courier_types set quote_all_identifiers = on;
alter database regress_courier_types set xmloption = document;
alter database regress_courier_types set default_transaction_isolation = serializable;
alter database regress_courier_types set default_transaction_read_only = on;
alter database regress_courier_types set client_encoding = latin1;
\c :source
\set SHOW_CONTEXT never
set client_min_messages = warning;
create extension pg_courier cascade;
select format('host=%s port=%s dbname=regress_courier_types user=%s',
              coalesce(nullif(split_part(current_setting('unix_socket_directories'), ',', 1), ''), 'localhost'),
              current_setting('port'), current_user) as node \gset
select courier.create_node('eu', :'node');

-- does the target hold the same bytes? only what differs is shown
create table probe.verdict (step int generated always as identity, phase text, name text, same bool);
create function probe.compare(phase text)
returns table (name text, row_count bigint, remote_count bigint, same_text bool, same_bytes bool)
language plpgsql
set search_path = pg_catalog as $$
declare
    kind text := case when phase like 'key%' then 'k' else 't' end;
    d record;
begin
    for d in
        select coalesce(l.name, r.name) as name, l.row_count, r.row_count as remote_count,
               l.texts is not distinct from r.texts as same_text, l.bytes is not distinct from r.bytes as same_bytes
        from probe.digest(kind) l
        full join public.dblink('courier_eu', format('select * from probe.digest(%L)', kind))
            as r (name text, row_count bigint, texts text, bytes text) on r.name = l.name
        order by 1
    loop
        name := d.name; row_count := d.row_count; remote_count := d.remote_count;
        same_text := d.same_text; same_bytes := d.same_bytes;
        insert into probe.verdict (phase, name, same) values (compare.phase, d.name,
            d.row_count > 0 and d.remote_count is not distinct from d.row_count and d.same_text and d.same_bytes);
        if not (select v.same from probe.verdict v order by v.step desc limit 1) then
            return next;
        end if;
    end loop;
end
$$;

-- Runs a statement for every table of a schema: "many" for all samples in one
-- transaction and one batch, "single" with a batch for each sample.  In it stand
-- %1$s for the table, %2$s for the type, %3$L for its name, %4$s for a condition on the
-- samples s, %5$I for the table's key.
create procedure probe.each(kind pg_catalog.text, form pg_catalog.text, statement pg_catalog.text)
language plpgsql as $$
declare
    d record;
begin
    for i in 1 .. case form when 'many' then 1 else (select pg_catalog.max(n) from probe.sample) end loop
        for d in
            select p.name, p.type from probe.type p
            where pg_catalog.to_regclass(pg_catalog.format('%I.%I', kind, p.name)) is not null
              and (select pg_catalog.max(s.n) from probe.sample s where s.name operator(pg_catalog.=) p.name) >= i
        loop
            execute pg_catalog.format(statement, pg_catalog.format('%I.%I', kind, d.name), d.type, d.name,
                case form when 'many' then 'true' else pg_catalog.format('s.n between %s and %s', i, i) end,
                d.name || ' key');
        end loop;
        commit;
        if exists (select from courier.subscription) then
            perform courier.ship('s');
        end if;
    end loop;
end
$$;
\set of_type 's.name operator(pg_catalog.=) %3$L::pg_catalog.text and %4$s'
\set next '(select x.v::%2$s from probe.sample x where x.name operator(pg_catalog.=) %3$L::pg_catalog.text and x.n > t.id order by x.n limit 1)'
\set insert 'insert into %1$s select s.n, s.v::%2$s from probe.sample s where ' :of_type
\set update 'update %1$s t set v = ' :next ' from probe.sample s where s.n operator(pg_catalog.=) t.id and ' :of_type
\set key_insert 'insert into %1$s select s.v::%2$s, s.n from probe.sample s where pg_catalog.length(s.v) < 1500 and ' :of_type ' on conflict do nothing'
\set key_update 'update %1$s k set n = k.n + 1000 from probe.sample s where s.n operator(pg_catalog.=) k.n and ' :of_type
\set key_move 'delete from %1$s k where k.n < 1002; update %1$s k set v = (select s.v::%2$s from probe.sample s where s.n < 2 and ' :of_type ') where k.n operator(pg_catalog.=) (select pg_catalog.max(n) from %1$s)'
\set key_delete 'delete from %1$s k using probe.sample s where k.n > 1002 and k.n operator(pg_catalog.=) s.n + 1000 and ' :of_type
\set whole_update 'update %1$s t set id = t.id + 1000, v = ' :next
\set whole_delete 'delete from %1$s t where t.id < 1002 or t.id > 1002 and t.v is null'

-- the odd session
set datestyle = 'German, DMY';
set intervalstyle = sql_standard;
set timezone = 'Asia/Kathmandu';
set extra_float_digits = -15;
set bytea_output = escape;
set standard_conforming_strings = off;
set escape_string_warning = off;
set backslash_quote = off;
set transform_null_equals = on;
set quote_all_identifiers = on;
set client_encoding = latin1;
select coalesce(min(collcollate) filter (where collcollate !~ '^(C|POSIX|en)' and collencoding = 6), 'C') as locale
from pg_collation where collprovider = 'c' \gset
set lc_monetary = :'locale';
set search_path = shadow, pg_catalog;

-- rows from before: the copy
call probe.each('t', 'many', :'insert');
select courier.replication_set_add_all_tables('default', '{t,k}') > 0 as added;
select courier.create_subscription('s', 'eu') is not null as created;
select courier.ship('s') > 0 as shipped;
select * from probe.compare('copy');

-- a table with an ordinary key
call probe.each('t', 'many', 'delete from %1$s');
call probe.each('t', 'single', :'insert');
select * from probe.compare('insert 1');
call probe.each('t', 'single', :'update');
select * from probe.compare('update 1');
call probe.each('t', 'many', 'delete from %1$s');
call probe.each('t', 'many', :'insert');
select * from probe.compare('insert n');
call probe.each('t', 'many', :'update');
select * from probe.compare('update n');

-- the type as key
call probe.each('k', 'single', :'key_insert');
select * from probe.compare('key insert 1');
call probe.each('k', 'single', :'key_update');
select * from probe.compare('key update 1');
call probe.each('k', 'many', :'key_move');
select * from probe.compare('key move');
call probe.each('k', 'single', :'key_delete');
select * from probe.compare('key delete 1');
call probe.each('k', 'many', 'delete from %1$s');
call probe.each('k', 'many', :'key_insert');
select * from probe.compare('key insert n');
call probe.each('k', 'many', :'key_update');
select * from probe.compare('key update n');
call probe.each('k', 'many', :'key_delete');
select * from probe.compare('key delete n');

-- no key on the source: a row is found by all its columns
call probe.each('t', 'many', 'delete from %1$s');
call probe.each('t', 'many', :'insert');
call probe.each('t', 'many', 'alter table %1$s drop constraint %5$I, replica identity full');
call probe.each('t', 'many', :'whole_update');
select * from probe.compare('whole update');
call probe.each('t', 'many', :'whole_delete');
select * from probe.compare('whole delete');

-- the verdict
reset all;
select name, count(*) filter (where same and phase not like 'key%') as same, count(*) filter (where same and phase like 'key%') as same_as_key,
       string_agg(phase, ', ' order by step) filter (where not same) as differs
from probe.verdict group by name order by name collate "C";

set client_min_messages = warning;
select courier.drop_subscription('s');
select courier.drop_node('eu');
drop extension pg_courier;
drop schema t, k, shadow, probe, kind cascade;
drop extension hstore;
drop database regress_courier_types;
