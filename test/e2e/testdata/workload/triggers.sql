-- Triggers of users beside the one that captures.
create table item (id int primary key, name text, n int default 0, changed int default 0);
create table audit (seq int generated always as identity primary key, what text, was text, became text);
create function audit() returns trigger language plpgsql as $$
begin
    insert into audit (what, was, became) values (tg_op || ' ' || tg_when || ' ' || tg_level || ' ' || tg_name,
        case when tg_op <> 'INSERT' then old::text end, case when tg_op <> 'DELETE' then new::text end);
    return coalesce(new, old);
end $$;
create function shape() returns trigger language plpgsql as $$
begin
    if new.name = 'refuse' then
        raise exception 'refused: %', new.id;
    elsif new.name = 'skip' then
        raise notice 'left out: %', new.id;
        return null;
    end if;
    new.name := upper(new.name);
    return new;
end $$;
create function again() returns trigger language plpgsql as $$
begin
    update item set changed = changed + 1 where id = new.id and changed < 2;
    return null;
end $$;
create trigger shape before insert or update of name on item for each row execute function shape();
create trigger audit after insert or update or delete on item for each row execute function audit();
create trigger "!!first" after insert on item for each row execute function audit();
create trigger zz_again after update on item for each row when (old.n is distinct from new.n) execute function again();
insert into item (id, name) values (1, 'one'), (2, 'skip'), (3, 'three');
insert into item (id, name) values (4, 'four'), (5, 'refuse');
update item set n = n + 1;
update item set n = n + 1 where id = 1;
update item set name = 'skip' where id = 3;
delete from item where id = 3;
table item order by id;
select what, was, became from audit order by seq;
create function totals() returns trigger language plpgsql as $$
begin
    insert into audit (what, became) select tg_op || ' of ' || count(*), sum(n) from fresh;
    return null;
end $$;
create trigger totals after insert on item referencing new table as fresh for each statement execute function totals();
insert into item select i, 'i' || i, i from generate_series(10, 13) i;
insert into item select i, 'none', i from generate_series(1, 0) i;
alter table item disable trigger audit;
update item set n = 0 where id = 10;
alter table item enable trigger audit;
drop trigger totals on item;
create table checked (id int primary key, n int);
create function not_negative() returns trigger language plpgsql as $$
begin
    if (select sum(n) from checked) < 0 then raise exception 'sum is negative'; end if;
    return null;
end $$;
create constraint trigger late after insert or update on checked deferrable initially deferred for each row execute function not_negative();
begin;
insert into checked values (1, -5);
insert into checked values (2, 7);
commit;
begin;
update checked set n = -10;
commit;
create function filler() returns trigger language plpgsql as $$
begin
    insert into checked select max(id) + 1, 0 from checked;
    return null;
end $$;
create constraint trigger filler after insert on item deferrable initially deferred for each row execute function filler();
begin;
insert into item (id, name) values (20, 'deferred'), (21, 'deferred');
select count(*) from checked;
commit;
table checked order by id;
create view shown as select id, name from item;
create function through() returns trigger language plpgsql as $$
begin
    update item set name = new.name where id = old.id;
    return new;
end $$;
create trigger through instead of update on shown for each row execute function through();
update shown set name = 'by view' where id = 1;
create rule moved as on delete to shown do instead update item set n = -1 where id = old.id;
delete from shown where id = 4;
select count(*), md5(string_agg(what || coalesce(was, '') || coalesce(became, ''), ',' order by seq)) from audit;
table item order by id;
