-- json: the text as it was given.
create table docs (id int primary key, j json not null);
insert into docs values (1, '{"b":1,  "a" : [1, 2,3], "b":2}'), (2, 'null'), (3, ' "text" '), (4, '[]'), (5, '-0.10e3');
insert into docs values (6, '{"a":');
insert into docs values (6, null);
insert into docs values (6, '{"u":"\u00e4\ud834\udd1e", "esc":"a\\b\"c\/\n\t"}');
insert into docs values (7, '"\u0000"');
insert into docs select 10 + i, json_build_object('n', i, 'list', array[i, i + 1], 'none', null) from generate_series(1, 3) i;
insert into docs select 20, json_agg(d order by d.id) from docs d where id > 10;
update docs set j = json_build_array(j, j -> 'a') where id = 1;
update docs set j = to_json(j #>> '{}') where id = 3;
update docs set j = row_to_json(row (id, 'x', null::int, true)) where id = 4;
delete from docs where j::text = 'null';
select id, j, json_typeof(j) from docs order by id;
set client_min_messages = error; -- it has no key yet
create table bag (j json, n int);
alter table bag replica identity full;
reset client_min_messages;
insert into bag values ('{"a":1}', 1), ('{"a": 1}', 1), (null, 2);
update bag set n = 5 where j::text = '{"a": 1}';
delete from bag where j is null;
table bag order by n;
create table filled (id int, name text, tags text[], primary key (id));
insert into filled select * from json_populate_recordset(null::filled, '[{"id":1,"name":"x","tags":["a","b"]},{"id":2}]');
insert into filled select * from json_to_record('{"id":3,"name":"y"}') as r (id int, name text);
table filled order by id;
