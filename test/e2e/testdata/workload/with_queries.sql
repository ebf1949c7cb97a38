-- WITH that writes.
create table y (a int primary key, b text default '');
create table y_log (n int generated always as identity primary key, a int, what text);
insert into y select generate_series(1, 10);
with t as (update y set a = a + 100 where a > 7 returning a, b) select * from t order by a;
with t as (delete from y where a < 3 returning a) insert into y_log (a, what) select a, 'deleted' from t;
with recursive t (n) as (values (20) union all select n + 1 from t where n < 24) insert into y select n, 'r' || n from t returning *;
with t1 as (insert into y values (200, 'one') returning a), t2 as (insert into y values (201, 'two') returning a)
insert into y_log (a, what) select a, 'both' from t1 union all select a, 'both' from t2;
with t as (update y set b = 'x' where a = 200 returning *) delete from y using t where y.a = t.a;
with t as (update y set b = 'not seen') select count(*) from y where b = 'not seen';
with t as (insert into y values (3, 'there')) select 1;
with gone as (delete from y where a in (3, 4) returning *), back as (insert into y select a + 1000, 'back' from gone returning *)
update y_log set what = what || (select count(*) from back);
with t as (delete from y where a = 5 returning a) insert into y select a, 'in one statement' from t;
with moved as (insert into y_log (a, what) select a, 'upsert' from y where a > 1000 returning a)
insert into y select a, 'merged' from moved on conflict (a) do update set b = excluded.b || '!' returning a, b;
prepare change as with t as (update y set b = b || '.' where a > $1 returning 1) select count(*) from t;
execute change (100);
execute change (1000);
create rule y_copy as on insert to y do also insert into y_log (a, what) values (new.a, 'by rule');
insert into y values (300, 'rule');
with t as (insert into y values (301, 'rule')) select 1;
drop rule y_copy on y;
begin;
with t as (delete from y returning a) insert into y_log (a, what) select a, 'undone' from t;
rollback;
table y order by a;
select a, what from y_log order by n;
