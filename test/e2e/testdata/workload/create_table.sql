-- Tables of all sorts, and what they refuse.
create table plain (id int primary key, name text not null, made date default '2024-05-06');
insert into plain values (1, 'one'), (2, 'two', null);
create table if not exists plain (id int);
create table plain (id int);
create table limited (
    code varchar(4) check (code ~ '^[a-z]+$'),
    amount numeric(6, 2) default 0.5 check (amount >= 0),
    constraint limited_pkey primary key (code),
    constraint limited_both check (code <> 'free' or amount = 0));
insert into limited values ('ab', 1.005), ('free', 0);
insert into limited values ('free', 1);
insert into limited values ('toolong', 1);
insert into limited values ('AB', 1);
insert into limited values ('cd', -1);
insert into limited (code) values ('cd') returning *;
create table copied (like limited including all, extra int default 7);
insert into copied values ('x'), ('y', 2);
insert into copied values ('X');
create table wide (id int primary key, a smallint, b bigint, c real, d double precision, e numeric, f char(3), g bytea, h boolean,
    i timestamptz, j interval, k uuid, l inet, m jsonb, n int4range, o text[], p point);
insert into wide values (1, 1, 9000000000, 1.5, 0.1, 12.340, 'ab', '\x00ff', true, '2024-01-02 03:04:05+02', '1 day 02:03',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10.0.0.1/8', '{"a":1}', '[1,5]', '{a,NULL,"b c"}', '(1,2)');
insert into wide (id) values (2);
create temp table passing (id int);
insert into passing values (1);
set client_min_messages = warning; -- that the node will keep it is a notice
create unlogged table hasty (id int primary key, v text);
reset client_min_messages;
insert into hasty select i, repeat('x', i) from generate_series(1, 5) i;
create type shape as (side int, label text);
create table typed of shape (side primary key, label default 'none');
insert into typed values (1), (2, 'square');
create table "Odd ""name" ("Column 1" int primary key, "select" text, "é" int);
insert into "Odd ""name" values (1, 'from', 2);
create table parent (id int primary key, v text);
create table child (extra int, primary key (id)) inherits (parent);
insert into child values (1, 'child', 2);
insert into parent values (1, 'parent');
select tableoid::regclass, * from parent order by 1, 2;
update parent set v = v || '!';
delete from only parent;
create table bad (id int, id text);
create table bad (id nosuchtype);
create table bad (id int primary key, primary key (id));
create table gone (id int primary key);
insert into gone values (1);
drop table gone;
select * from gone;
begin;
create table undone (id int primary key);
insert into undone values (1);
rollback;
begin;
create table kept (id int primary key);
insert into kept values (1);
savepoint s;
insert into kept values (2);
rollback to s;
insert into kept values (3);
commit;
select * from kept order by id;
alter table plain add column added int default 3, alter column name drop not null;
update plain set added = added + id where id = 1;
alter table plain rename column made to created;
alter table plain drop column created;
insert into plain (id, added) values (3, null);
select * from plain order by id;
