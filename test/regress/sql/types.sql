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
select probe.define('numeric', 'numeric', '0', '0.000', 'NaN', 'Infinity', '-Infinity', '-1.50', '1e-1000', repeat('9', 1000), '-' || repeat('12345', 200) || '.' || repeat('67890', 200), '1e131000');
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
select probe.define('xml', case when (select bool_or(setting ~ '--with-libxml') from pg_config where name = 'CONFIGURE') then 'xml' else 'text' end,
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
select probe.define('regclass', 'regclass', 'pg_class', 'kind."Odd name"', '-', '4294967295', 'probe.type');
select probe.define('regproc', 'regproc', 'kind."Odd function"', 'pg_catalog.md5', '-');
select probe.define('regprocedure', 'regprocedure', 'kind."Odd function"(int, kind.mood)', 'md5(text)', '-');
select probe.define('regoper', 'regoper', 'pg_catalog.||/', '0');
select probe.define('regoperator', 'regoperator', '+(int4,int4)', '!!(none,tsquery)', '0');
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
        execute format('create table t.%I (id int primary key, v %s)', d.name, d.type);
        begin
            execute format('create table k.%I (v %s primary key, n int)', d.name, d.type);
        exception when undefined_object then null;
        end;
    end loop;
end
$$;
-- from here on as it reads under any search_path
update probe.type set type = (select case when a.atttypid < 16384 then format_type(a.atttypid, a.atttypmod) else probe.type.type end
    from pg_attribute a where a.attrelid = format('t.%I', name)::regclass and a.attname = 'v');

-- rows and their bytes, by text and by the type's send function, under pinned settings
create function probe.digest(kind text) returns table (name text, row_count bigint, texts text, bytes text)
language plpgsql
set search_path = pg_catalog set datestyle = iso set intervalstyle = postgres set timezone = utc
set extra_float_digits = 3 set bytea_output = hex set lc_monetary = 'C' set standard_conforming_strings = on
set transform_null_equals = off set quote_all_identifiers = off as $$
declare
    d record;
begin
    for d in select c.relname, p.proname, pn.nspname, a.attname
        from pg_class c
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = kind
        join pg_attribute a on a.attrelid = c.oid and a.attname in ('id', 'n')
        join pg_attribute v on v.attrelid = c.oid and v.attname = 'v'
        join pg_type t on t.oid = v.atttypid
        join pg_proc p on p.oid = t.typsend
        join pg_namespace pn on pn.oid = p.pronamespace
        where c.relkind = 'r'
    loop
        name := d.relname;
        execute format('select count(*), md5(string_agg(%1$I || coalesce(v::text, ''-''), ''|'' order by %1$I)), '
                       'md5(string_agg(coalesce(%2$I.%3$I(v), ''''), '''' order by %1$I)) from %4$I.%5$I',
                       d.attname, d.nspname, d.proname, kind, name) into row_count, texts, bytes;
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
create function probe.compare(phase text) returns table (name text, row_count bigint, remote_count bigint, texts bool, bytes bool)
language plpgsql
set search_path = pg_catalog as $$
begin
    return query execute format($q$
        with d as (
            select coalesce(l.name, r.name) as name, l.row_count, r.row_count as remote_count,
                   l.texts is not distinct from r.texts as texts, l.bytes is not distinct from r.bytes as bytes
            from probe.digest(%1$L) l
            full join public.dblink('courier_eu', 'select * from probe.digest(%1$L)')
                as r (name text, row_count bigint, texts text, bytes text) on r.name = l.name
        ), v as (
            insert into probe.verdict (phase, name, same)
            select %2$L, d.name, coalesce(d.row_count = d.remote_count, false) and d.texts and d.bytes and d.row_count > 0 from d
            returning verdict.name, same
        )
        select d.* from d join v on v.name = d.name and not v.same order by 1
    $q$, case when phase like 'key%%' then 'k' else 't' end, phase);
end
$$;

-- the phases, each as many rows at once or one by one; run with any settings
create procedure probe.each(statement pg_catalog.text, form pg_catalog.text, kind pg_catalog.text default 't') language plpgsql as $$
declare
    d record;
    samples int8range := '[0,0]';
begin
    loop
        for d in select p.name, p.type from probe.type p where pg_catalog.to_regclass(pg_catalog.format('%I.%I', kind, p.name)) is not null loop
            execute pg_catalog.format(statement, pg_catalog.format('%I.%I', kind, d.name), d.type, d.name,
                case form when 'many' then 's.n > 0'::pg_catalog.text else 's.n between '::pg_catalog.text || pg_catalog.lower(samples) || ' and ' || pg_catalog.lower(samples) end);
        end loop;
        commit;
        exit when form in ('many', 'whole') or pg_catalog.lower(samples) > 30;
        perform courier.ship('s');
        samples := pg_catalog.int8range(pg_catalog.lower(samples) + 1, null);
    end loop;
    perform courier.ship('s');
end
$$;
-- %1$s table, %2$s type, %3$L name, %4$s which samples s
\set rows 'from probe.sample s where s.name operator(pg_catalog.=) %3$L::pg_catalog.text and %4$s'
\set insert 'insert into %1$s select s.n, s.v::%2$s ' :rows
\set update 'update %1$s t set v = (select s.v::%2$s from probe.sample s where s.name operator(pg_catalog.=) %3$L::pg_catalog.text and s.n > t.id order by s.n limit 1) from (select s.n ' :rows ') s where s.n operator(pg_catalog.=) t.id'
\set key_insert 'insert into %1$s select s.v::%2$s, s.n ' :rows ' and pg_catalog.length(s.v) < 1000 on conflict do nothing'
\set key_update 'update %1$s k set n = k.n + 1000 from (select s.n ' :rows ') s where s.n operator(pg_catalog.=) k.n'
\set key_change 'with gone as (delete from %1$s k where k.n operator(pg_catalog.=) (select pg_catalog.min(n) from %1$s) returning k.v) select 1'
\set key_move 'update %1$s k set v = (select s.v::%2$s ' :rows ' and s.n operator(pg_catalog.=) 1) where k.n operator(pg_catalog.=) (select pg_catalog.max(n) from %1$s)'
\set key_delete 'delete from %1$s k using (select s.n ' :rows ' and s.n between 2 and 3) s where k.n operator(pg_catalog.=) s.n + 1000'
\set whole_update 'update %1$s t set id = t.id + 1000, v = (select s.v::%2$s from probe.sample s where s.name operator(pg_catalog.=) %3$L::pg_catalog.text and s.n > t.id order by s.n limit 1)'
\set whole_delete 'delete from %1$s t where t.id in (1001, 1003, 1005) or t.v is null'

-- the odd session
set datestyle = 'German, DMY';
set intervalstyle = sql_standard;
set timezone = 'Asia/Kathmandu';
set extra_float_digits = -15;
set bytea_output = escape;
set standard_conforming_strings = off;
set escape_string_warning = off;
set backslash_quote = off;
set array_nulls = off;
set transform_null_equals = on;
set quote_all_identifiers = on;
set client_encoding = latin1;
select coalesce(min(collcollate) filter (where collcollate !~ '^(C|POSIX|en)' and collencoding = 6), 'C') as locale
from pg_collation where collprovider = 'c' \gset
set lc_monetary = :'locale';
set search_path = shadow, pg_catalog;
set array_nulls = on;

-- rows from before: the copy
call probe.each(:'insert', 'whole');
