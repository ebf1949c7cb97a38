-- Dead letters: transactions that a node refused and that were set aside, or
-- that a person had passed, with all that is needed to send them later.
--
-- A letter is stored here before its transaction is passed on the node, where
-- courier_target.letter gets a row in the same transaction that moves the
-- progress. That row is the authority: it decides what became of a letter whose
-- shipper died. Shippers write these tables; people call the functions of
-- dead_letter_retry.sql.

create table courier.dead_letter_entry (
    dead_letter_id int8 generated always as identity,
    subscription_id int not null,
    k pg_lsn not null,
    xid xid8 not null,
    state text not null,
    stored_by xid8 not null default pg_current_xact_id(),
    schema_name name,
    table_name name,
    operation text,
    key text,
    error text,
    error_sqlstate text,
    error_detail text,
    error_hint text,
    change_count int8,
    changes jsonb,
    edited jsonb,
    applied_changes int8,
    left_out_changes int8,
    settled boolean not null default false,
    recorded_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint dead_letter_entry_pkey primary key (dead_letter_id),
    constraint dead_letter_entry_transaction_key unique (subscription_id, k, xid),
    constraint dead_letter_entry_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade,
    constraint dead_letter_entry_state_known
        check (state in ('pending', 'open', 'skipping', 'skipped', 'retrying', 'applied', 'discarded')),
    constraint dead_letter_entry_changes_array check (jsonb_typeof(changes) = 'array'),
    constraint dead_letter_entry_edited_array check (jsonb_typeof(edited) = 'array')
);
comment on table courier.dead_letter_entry is 'transactions that were set aside for a subscription';
comment on column courier.dead_letter_entry.dead_letter_id is 'number of the letter';
comment on column courier.dead_letter_entry.subscription_id is 'subscription it was meant for';
comment on column courier.dead_letter_entry.k is 'place of the transaction in the order of shipping';
comment on column courier.dead_letter_entry.xid is 'the transaction';
comment on column courier.dead_letter_entry.state is
    'pending: stored, not yet passed on the node; open: passed, waits for a person; skipping, skipped: the same, because a person wanted it; retrying: to be sent again; applied; discarded';
comment on column courier.dead_letter_entry.stored_by is 'transaction that stored it; until that has committed it must not be passed';
comment on column courier.dead_letter_entry.schema_name is 'schema of the table at fault';
comment on column courier.dead_letter_entry.table_name is 'the table at fault';
comment on column courier.dead_letter_entry.operation is 'what the change at fault does: insert, update, delete, upsert, truncate, event or ddl';
comment on column courier.dead_letter_entry.key is 'key of the row at fault';
comment on column courier.dead_letter_entry.error is 'message of the node, to the first try or the last retry';
comment on column courier.dead_letter_entry.error_sqlstate is 'its SQLSTATE';
comment on column courier.dead_letter_entry.error_detail is 'its detail, which may quote the row';
comment on column courier.dead_letter_entry.error_hint is 'what to do about it';
comment on column courier.dead_letter_entry.change_count is 'changes of the transaction for this subscription; null until they have been read, or where they are too many to keep';
comment on column courier.dead_letter_entry.changes is 'the changes, in order, as they were made; null where they are too many to keep';
comment on column courier.dead_letter_entry.edited is 'what retry_dead_letter() was last told to send instead';
comment on column courier.dead_letter_entry.applied_changes is 'applied: changes that were sent';
comment on column courier.dead_letter_entry.left_out_changes is 'applied: changes left out, because their rows had been changed since';
comment on column courier.dead_letter_entry.settled is
    'whether the node knows that it was applied or discarded; else it would be taken for lost once purged';
comment on column courier.dead_letter_entry.recorded_at is 'when it was set aside';
comment on column courier.dead_letter_entry.updated_at is 'when its state last changed';

create table courier.dead_letter_key (
    dead_letter_id int8 not null,
    relation oid not null,
    key_id uuid not null,
    key text,
    overtaken_k pg_lsn,
    overtaken_xid xid8,
    constraint dead_letter_key_pkey primary key (dead_letter_id, key_id),
    constraint dead_letter_key_entry_fkey foreign key (dead_letter_id)
        references courier.dead_letter_entry (dead_letter_id) on delete cascade
);
create index dead_letter_key_key_idx on courier.dead_letter_key (key_id);
create index dead_letter_key_relation_idx on courier.dead_letter_key (relation) where key is null;
comment on table courier.dead_letter_key is 'rows that the dead letters change';
comment on column courier.dead_letter_key.dead_letter_id is 'the letter';
comment on column courier.dead_letter_key.relation is 'OID of the table';
comment on column courier.dead_letter_key.key_id is 'identity of the row: a hash of table and key';
comment on column courier.dead_letter_key.key is 'its key; null for all rows of the table, which the letter truncates';
comment on column courier.dead_letter_key.overtaken_k is 'place of the transaction that was applied to the row since';
comment on column courier.dead_letter_key.overtaken_xid is 'that transaction; copied from the node, which has the authority';

-- Bears rows: not for PUBLIC.
create view courier.dead_letter as
select d.dead_letter_id,
       s.subscription_name,
       s.node_name,
       d.state,
       d.xid,
       d.schema_name,
       d.table_name,
       d.operation,
       d.key,
       d.error,
       d.error_sqlstate,
       d.error_detail,
       d.error_hint,
       d.change_count,
       d.changes,
       d.edited,
       (select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('table', coalesce(pg_catalog.format('%I.%I', n.nspname, c.relname), y.relation::text),
                                            'key', y.key, 'xid', y.overtaken_xid::text) order by n.nspname, c.relname, y.key)
        from courier.dead_letter_key y
        left join pg_catalog.pg_class c on c.oid = y.relation
        left join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where y.dead_letter_id = d.dead_letter_id and y.overtaken_xid is not null) as overtaken,
       d.applied_changes,
       d.left_out_changes,
       d.recorded_at,
       d.updated_at
from courier.dead_letter_entry d
join courier.subscription s on s.subscription_id = d.subscription_id;
comment on view courier.dead_letter is 'transactions that were set aside; see retry_dead_letter() and discard_dead_letter()';
comment on column courier.dead_letter.dead_letter_id is 'number of the letter';
comment on column courier.dead_letter.subscription_name is 'subscription it was meant for';
comment on column courier.dead_letter.node_name is 'node that refused it';
comment on column courier.dead_letter.state is
    'pending: stored, not yet passed on the node; open: passed, waits for a person; skipping, skipped: the same, because a person wanted it; retrying: to be sent again; applied; discarded';
comment on column courier.dead_letter.xid is 'transaction of this database';
comment on column courier.dead_letter.schema_name is 'schema of the table at fault';
comment on column courier.dead_letter.table_name is 'the table at fault';
comment on column courier.dead_letter.operation is 'what the change at fault does: insert, update, delete, upsert, truncate, event or ddl';
comment on column courier.dead_letter.key is 'key of the row at fault';
comment on column courier.dead_letter.error is 'message of the node, to the first try or the last retry';
comment on column courier.dead_letter.error_sqlstate is 'its SQLSTATE';
comment on column courier.dead_letter.error_detail is 'its detail, which may quote the row';
comment on column courier.dead_letter.error_hint is 'what to do about it';
comment on column courier.dead_letter.change_count is 'changes of the transaction for this subscription; null until they have been read, or where they are too many to keep';
comment on column courier.dead_letter.changes is 'the changes, in order, as they were made; null where they are too many to keep';
comment on column courier.dead_letter.edited is 'what retry_dead_letter() was last told to send instead';
comment on column courier.dead_letter.overtaken is
    'rows of it that later transactions have changed on the node: a retry leaves them as they are';
comment on column courier.dead_letter.applied_changes is 'applied: changes that were sent';
comment on column courier.dead_letter.left_out_changes is 'applied: changes left out, because their rows had been changed since';
comment on column courier.dead_letter.recorded_at is 'when it was set aside';
comment on column courier.dead_letter.updated_at is 'when its state last changed';
grant select on courier.dead_letter to pg_monitor;

-- The letters go with their subscription; whoever drops it is told.
create function courier.count_dead_letters() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    waiting int8;
begin
    select count(*) into waiting from courier.dead_letter_entry d
    where d.subscription_id = old.subscription_id and d.state not in ('applied', 'discarded');
    if waiting > 0 then
        raise notice using
            message = format('subscription "%s" is dropped with %s dead %s that nobody has settled',
                             old.subscription_name, waiting, case waiting when 1 then 'letter' else 'letters' end),
            hint = 'Roll back to keep them, and look at courier.dead_letter.';
    end if;
    return old;
end
$$;
revoke execute on function courier.count_dead_letters() from public;
comment on function courier.count_dead_letters() is
    'row trigger: says how many dead letters go with a subscription that is dropped';
create trigger count_dead_letters before delete on courier.subscription
    for each row execute function courier.count_dead_letters();

-- What courier.ship() says when it has stored a letter, which it must not pass
-- before the caller has committed.
create function courier.announce_dead_letter(dead_letter_id int8, subscription_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise warning using
        message = format('subscription "%s": the node refuses a transaction, which is kept as dead letter %s',
                         subscription_name, dead_letter_id),
        detail = 'It is passed by the next call, once this transaction has committed; those behind it wait.',
        hint = format('After the commit run SELECT courier.ship(%L) again.', subscription_name);
end
$$;
revoke execute on function courier.announce_dead_letter(int8, text) from public;
comment on function courier.announce_dead_letter(int8, text) is
    'warning of courier.ship() about a dead letter that waits for the caller''s commit';
