-- COPY.
create table x (a serial primary key, b int, c text not null default 'stuff', d text, e text);
copy x (a, b, c, d, e) from stdin;
9999	\N	\\N	\NN	\N
10000	21	31	41	51
\.
copy x (b, d) from stdin;
1	test_1
2	
\.
copy x (b, nosuch) from stdin;
copy x from stdin;
2001	231	\N	\N	\N
\.
copy x from stdin;
2002	232	40	50	60	70
\.
copy x from stdin with (delimiter ',', null 'x');
3000,x,45,80,90
3001,x,\x,\\x,\\\x
\.
copy x (a, c, d, e) from stdin (format csv, force_not_null (c));
4000,"a ""quoted"" one",,"line
break"
4001,,"",' '
\.
copy x (a, c) from stdin (format csv, header);
a,c
5000,with a head
\.
copy x (a, b) from stdin where b > 5;
6000	1
6001	10
\.
copy x (a) from stdin;
10000
\.
select * from x order by a;
copy (select a, c from x where a > 4000 order by a) to stdout;
copy x (a, d) to stdout (format csv);
create table p (id int, k int, v text, primary key (id, k)) partition by list (k);
create table p_1 partition of p for values in (1);
create table p_3 partition of p default;
copy p from stdin;
1	1	one
2	2	two
3	5	five
\.
select tableoid::regclass, * from p order by id;
begin;
create table fresh (id int primary key, v text);
copy fresh from stdin with (freeze);
1	frozen
2	too
\.
commit;
create table counted (id int primary key, v text);
create function more() returns trigger language plpgsql as $$ begin new.v := new.v || '!'; return new; end $$;
create trigger more before insert on counted for each row execute function more();
copy counted from stdin;
1	a
2	b
\.
begin;
copy counted from stdin;
3	c
\.
savepoint s;
copy counted from stdin;
4	d
1	twice
\.
rollback to s;
commit;
table counted order by id;
