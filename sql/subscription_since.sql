-- Since when a subscription has a table that has left the set by which it came, and
-- that another of its sets has. Without it the table would seem to have come by that
-- other set: it would be copied once more, and what was sent in between not be sent.

create table courier.subscription_since (
    subscription_id int not null,
    relation oid not null,
    added pg_snapshot not null,
    constraint subscription_since_pkey primary key (subscription_id, relation),
    constraint subscription_since_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade
);
comment on table courier.subscription_since is
    'tables that have left the first of the sets by which a subscription has them; gone when they have left the last';
comment on column courier.subscription_since.subscription_id is 'the subscription';
comment on column courier.subscription_since.relation is 'OID of the table';
comment on column courier.subscription_since.added is 'position at which the table was added to that first set';

create function courier.keep_since() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into courier.subscription_since (subscription_id, relation, added)
    select s.subscription_id, g.relation,
           (array_agg(g.added order by pg_snapshot_xmax(g.added), pg_snapshot_xmin(g.added), g.set_name))[1]
    from gone g
    join courier.subscription s on g.set_name = any (s.replication_sets)
    where not exists (
        select from courier.replication_set_table t
        where t.relation = g.relation and t.set_name = any (s.replication_sets)
          and (pg_snapshot_xmax(t.added), pg_snapshot_xmin(t.added), t.set_name)
              < (pg_snapshot_xmax(g.added), pg_snapshot_xmin(g.added), g.set_name))
    group by s.subscription_id, g.relation
    on conflict do nothing; -- what is there is older
    delete from courier.subscription_since w
    using gone g, courier.subscription s
    where w.relation = g.relation and s.subscription_id = w.subscription_id
      and not exists (
        select from courier.replication_set_table t
        where t.relation = w.relation and t.set_name = any (s.replication_sets));
    return null;
end
$$;
revoke execute on function courier.keep_since() from public;
comment on function courier.keep_since() is
    'delete trigger: a table that leaves one of a subscription''s sets, but not the last, is in it since it was first added';
create trigger keep_since after delete on courier.replication_set_table
    referencing old table as gone
    for each statement execute function courier.keep_since();

-- Takes the positions at which a table was added to sets of a subscription.
create function courier.first_added(subscription_id int, relation oid, added pg_snapshot[]) returns pg_snapshot
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce((select w.added from courier.subscription_since w
                     where w.subscription_id = first_added.subscription_id and w.relation = first_added.relation),
                    added[1])
$$;
revoke execute on function courier.first_added(int, oid, pg_snapshot[]) from public;
comment on function courier.first_added(int, oid, pg_snapshot[]) is
    'position since which a subscription has had a table without a break; added is when its present sets got it, the earliest first';
