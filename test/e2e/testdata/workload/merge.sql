-- MERGE.
create table target (tid int primary key, balance int, val text);
create table source (sid int primary key, delta int, note text);
insert into target values (1, 10, 'a'), (2, 20, 'b'), (3, 30, 'c');
insert into source values (2, 5, 'two'), (3, -30, 'three'), (4, 40, 'four');
merge into target t using source s on t.tid = s.sid when matched then update set balance = balance + s.delta;
merge into target t using source s on t.tid = s.sid
when matched and t.balance = 0 then delete
when matched then update set balance = t.balance + delta, val = val || note
when not matched and s.sid < 100 then insert (tid, balance) values (sid, delta);
table target order by tid;
merge into target using (values (1, 1), (1, 2)) v (id, n) on tid = id when matched then update set balance = n;
merge into target using source on tid = sid when not matched then insert values (sid, delta, note) when matched then do nothing;
merge into target using source on tid = sid when matched then insert values (1);
with s as (select sid + 10 as id, delta from source)
merge into target using s on tid = id when not matched then insert (tid, balance, val) values (id, delta, 'cte');
begin;
merge into target using source on tid = sid when matched then delete;
savepoint s;
merge into target using source on tid = sid + 10 when matched then update set tid = tid + 1000;
rollback to s;
commit;
table target order by tid;
create table parted (id int, part int, v text, primary key (id, part)) partition by list (part);
create table parted_1 partition of parted for values in (1);
create table parted_2 partition of parted for values in (2);
insert into parted select i, 1 + i % 2, 'v' || i from generate_series(1, 6) i;
merge into parted p using generate_series(4, 9) g on p.id = g
when matched and g = 4 then update set part = 3 - part
when matched and g = 5 then delete
when matched then update set v = 'merged'
when not matched then insert values (g, 1, 'new');
select tableoid::regclass, * from parted order by id;
create table counted (id int primary key generated always as identity, k text unique, n int default 1);
merge into counted c using (values ('a'), ('b')) v (k) on c.k = v.k when matched then update set n = n + 1 when not matched then insert (k) values (v.k);
merge into counted c using (values ('b'), ('c')) v (k) on c.k = v.k when matched then update set n = n + 1 when not matched then insert (k) values (v.k);
table counted order by id;
