-- What people do with dead letters: send them again, as they are or edited, give
-- them up, or make one of a transaction that a subscription has stopped at. The
-- functions write down what is wanted; the subscription's shipper does it, and
-- notices by the generation of the configuration.

create function courier.find_dead_letter(dead_letter_id int8) returns courier.dead_letter_entry
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    letter courier.dead_letter_entry;
begin
    select d.* into letter from courier.dead_letter_entry d
    where d.dead_letter_id = find_dead_letter.dead_letter_id for update;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('dead letter %s does not exist', coalesce(dead_letter_id::text, 'null')),
            hint = 'SELECT * FROM courier.dead_letter lists them.';
    end if;
    return letter;
end
$$;
revoke execute on function courier.find_dead_letter(int8) from public;
comment on function courier.find_dead_letter(int8) is 'the dead letter of that number, locked, or an error';

-- An error about an element of the changes given to retry_dead_letter().
create function courier.refuse_change(n int8, reason text, hint text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'invalid_parameter_value',
        message = format('element %s of changes: %s', n, reason),
        hint = refuse_change.hint;
end
$$;
revoke execute on function courier.refuse_change(int8, text, text) from public;
comment on function courier.refuse_change(int8, text, text) is 'raises an error that names an element of edited changes';

-- The fields that a change of each operation may have, those it must have first.
create function courier.change_fields(op text, whole_row boolean, out required text[], out optional text[])
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select f.required, f.optional
    from (values
        ('insert', null::boolean, '{schema,table,new}'::text[], '{}'::text[]),
        ('upsert', null, '{schema,table,new}', '{}'),
        ('update', false, '{schema,table,key,new}', '{same}'),
        ('update', true, '{schema,table,old,new}', '{same}'),
        ('delete', false, '{schema,table,key}', '{}'),
        ('delete', true, '{schema,table,old}', '{}'),
        ('truncate', null, '{schema,table}', '{restart,cascade,where}'),
        ('event', null, '{channel,payload}', '{}')) f (op, whole_row, required, optional)
    where f.op = change_fields.op and (f.whole_row is null or f.whole_row = change_fields.whole_row)
$$;
revoke execute on function courier.change_fields(text, boolean) from public;
comment on function courier.change_fields(text, boolean) is
    'fields of a change beside op; whole_row: its table has no key, and rows are found by all their columns';

-- Checks the columns and values of a part (key, old, new, same) of a change.
create function courier.require_change_part(n int8, relation regclass, part text, given jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    key_columns name[] := courier.key_columns(relation);
    missing text;
    field record;
begin
    if jsonb_typeof(given) <> 'object' or given = '{}' and part not in ('new', 'same') then
        perform courier.refuse_change(n, format('"%s" must be an object with at least one column', part),
            'Write it as {"column": "value", ...}.');
    end if;
    for field in select * from jsonb_each(given) loop
        if not exists (select from pg_attribute a
                       where a.attrelid = relation and a.attname = field.key and a.attnum > 0
                         and not a.attisdropped and a.attgenerated = '') then
            perform courier.refuse_change(n, format('table %s has no column "%s" that could be sent', relation, field.key),
                format('Its columns are: %s.', (
                    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
                    where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attgenerated = '')));
        elsif jsonb_typeof(field.value) in ('object', 'array') then
            perform courier.refuse_change(n, format('the value of column "%s" is no text', field.key),
                'Write a value as a string, in the text form of the column''s type, or as null.');
        elsif part = 'key' and field.key <> all (key_columns) then
            perform courier.refuse_change(n, format('column "%s" is not part of the key of table %s', field.key, relation),
                format('The key is: %s.', array_to_string(key_columns, ', ')));
        end if;
    end loop;
    if part = 'same' then
        return;
    end if;
    -- a new row of an update need not have the key, which stays
    select string_agg(c, ', ' order by ord) into missing
    from unnest(key_columns) with ordinality u (c, ord)
    where given -> c is null;
    if missing is not null and part <> 'new' then
        perform courier.refuse_change(n, format('"%s" lacks %s', part, missing),
            'Without them the row can''t be found.');
    end if;
end
$$;
revoke execute on function courier.require_change_part(int8, regclass, text, jsonb) from public;
comment on function courier.require_change_part(int8, regclass, text, jsonb) is
    'checks one object of columns and values of an edited change';

create function courier.require_change(n int8, subscription_id int, given jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    op text;
    target regclass;
    whole_row boolean;
    fields record;
    field record;
begin
    if jsonb_typeof(given) <> 'object' then
        perform courier.refuse_change(n, 'it is no object', 'Start from the column changes of courier.dead_letter.');
    end if;
    op := given ->> 'op';
    if op is null or (courier.change_fields(op, false)).required is null then
        perform courier.refuse_change(n, format('operation %s is unknown', coalesce(given -> 'op', 'null')),
            '"op" can be: insert, update, delete, upsert, truncate, event.');
    end if;
    if op <> 'event' then
        select t.relation into target from courier.subscription_table t
        where t.subscription_id = require_change.subscription_id
          and t.schema_name = given ->> 'schema' and t.table_name = given ->> 'table';
        if not found then
            perform courier.refuse_change(n,
                format('the subscription has no table %s.%s', coalesce(given -> 'schema', 'null'),
                       coalesce(given -> 'table', 'null')),
                '"schema" and "table" name one that is in its replication sets.');
        end if;
        if op in ('update', 'delete') and courier.key_columns(target) is null then
            perform courier.refuse_change(n, format('rows of table %s can''t be found, it has no key', target),
                'Only inserts and truncates are possible.');
        end if;
        select c.relreplident = 'f' and not exists (
                select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indisvalid and i.indimmediate)
        into whole_row from pg_class c where c.oid = target;
    end if;
    fields := courier.change_fields(op, coalesce(whole_row, false));
    for field in select * from jsonb_each(given) e where e.key <> 'op' loop
        if field.key <> all (fields.required || fields.optional) then
            perform courier.refuse_change(n, format('field "%s" is unknown', field.key),
                format('Fields of %s are: op, %s.', op, array_to_string(fields.required || fields.optional, ', ')));
        elsif field.key = 'new' and op <> 'update' and field.value = '{}' then
            perform courier.refuse_change(n, '"new" is empty', 'Write it as {"column": "value", ...}.');
        elsif field.key in ('key', 'old', 'new', 'same') then
            perform courier.require_change_part(n, target, field.key, field.value);
        elsif jsonb_typeof(field.value)
              <> (case when field.key in ('restart', 'cascade') then 'boolean' else 'string' end) then
            perform courier.refuse_change(n, format('field "%s" cannot be %s', field.key, field.value),
                'Names and texts are strings, restart and cascade true or false.');
        end if;
    end loop;
    for field in select r from unnest(fields.required) r where given -> r is null loop
        perform courier.refuse_change(n, format('field "%s" is missing', field.r),
            format('Fields of %s are: op, %s.', op, array_to_string(fields.required || fields.optional, ', ')));
    end loop;
end
$$;
revoke execute on function courier.require_change(int8, int, jsonb) from public;
comment on function courier.require_change(int8, int, jsonb) is 'checks one edited change of a dead letter';

-- Marks a letter to be sent again; edited is null for its own changes.
create function courier.request_retry(letter courier.dead_letter_entry, edited jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    older int8;
begin
    if letter.state = 'retrying' and edited is not distinct from letter.edited then
        return;
    elsif letter.state = 'retrying' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('dead letter %s is being retried', letter.dead_letter_id),
            detail = 'Whether its changes have arrived is not known before the node has answered.',
            hint = 'Wait until its state in courier.dead_letter is applied or open.';
    elsif letter.state not in ('open', 'skipped') then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('dead letter %s cannot be retried: it is %s', letter.dead_letter_id, letter.state),
            hint = case when letter.state in ('pending', 'skipping')
                        then 'Wait until the subscription has passed it.'
                        else 'Only open and skipped ones can.' end;
    elsif letter.changes is null and edited is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('dead letter %s has no changes: they were too many to keep', letter.dead_letter_id),
            hint = 'Give the changes to send, or send the rows again with courier.enqueue_upsert().';
    end if;
    select o.dead_letter_id into older
    from courier.dead_letter_entry o
    where o.subscription_id = letter.subscription_id and (o.k, o.xid) < (letter.k, letter.xid)
      and o.state in ('pending', 'open', 'skipping', 'skipped')
      and exists (
          select from courier.dead_letter_key y
          join courier.dead_letter_key z
            on y.relation = z.relation and (y.key_id = z.key_id or y.key is null or z.key is null)
          where y.dead_letter_id = letter.dead_letter_id and z.dead_letter_id = o.dead_letter_id)
    order by o.k, o.xid limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('dead letter %s has to wait for dead letter %s, which changed the same row before it',
                             letter.dead_letter_id, older),
            hint = format('Retry or discard %s first.', older);
    end if;
    update courier.dead_letter_entry d
    set state = 'retrying', edited = request_retry.edited, updated_at = clock_timestamp()
    where d.dead_letter_id = letter.dead_letter_id;
    update courier.configuration c set generation = c.generation + 1;
end
$$;
revoke execute on function courier.request_retry(courier.dead_letter_entry, jsonb) from public;
comment on function courier.request_retry(courier.dead_letter_entry, jsonb) is 'marks a dead letter to be sent again';

create function courier.retry_dead_letter(dead_letter_id int8) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    perform courier.request_retry(courier.find_dead_letter(retry_dead_letter.dead_letter_id), null);
end
$$;
comment on function courier.retry_dead_letter(int8) is
    'sends a dead letter again, with the next batch; rows that later transactions have changed are left as they are';

create function courier.retry_dead_letter(dead_letter_id int8, changes jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    letter courier.dead_letter_entry;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    letter := courier.find_dead_letter(retry_dead_letter.dead_letter_id);
    if changes is null or jsonb_typeof(changes) <> 'array' or changes = '[]' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'changes must be a JSON array with at least one element',
            hint = 'Start from the column changes of courier.dead_letter; to send nothing, discard the letter.';
    end if;
    perform courier.require_change(e.n, letter.subscription_id, e.given)
    from jsonb_array_elements(changes) with ordinality e (given, n);
    perform courier.request_retry(letter, changes);
end
$$;
comment on function courier.retry_dead_letter(int8, jsonb) is
    'sends other changes in place of a dead letter''s, with the next batch; they apply to their rows as given';

create function courier.discard_dead_letter(dead_letter_id int8) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    letter courier.dead_letter_entry;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    letter := courier.find_dead_letter(discard_dead_letter.dead_letter_id);
    if letter.state = 'discarded' then
        return;
    elsif letter.state not in ('open', 'skipped') then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('dead letter %s cannot be discarded: it is %s', letter.dead_letter_id, letter.state),
            hint = case letter.state when 'applied' then 'Its changes are on the node.'
                                     else 'Wait until its state in courier.dead_letter is open, skipped or applied.' end;
    end if;
    update courier.dead_letter_entry d set state = 'discarded', updated_at = clock_timestamp()
    where d.dead_letter_id = letter.dead_letter_id;
    update courier.configuration c set generation = c.generation + 1;
end
$$;
comment on function courier.discard_dead_letter(int8) is
    'gives a dead letter up: its changes never get to the node; it can be read until it is purged';

create function courier.purge_dead_letters(older_than interval default '30 days') returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    purged int8;
begin
    perform courier.require_administrator();
    delete from courier.dead_letter_entry d
    where d.settled and d.state in ('applied', 'discarded') and d.updated_at <= clock_timestamp() - older_than;
    get diagnostics purged = row_count;
    return purged;
end
$$;
comment on function courier.purge_dead_letters(interval) is
    'deletes dead letters that were applied or discarded so long ago, and of which the node knows it; returns how many';

-- The place of a transaction that is queued beyond a position, or null.
create function courier.pending_transaction("position" text, wanted xid8) returns pg_lsn
language sql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
    select q.k from courier.queue_chunk q
    where q.xid = wanted
      and not pg_visible_in_snapshot(q.xid, split_part("position", '|', 1)::pg_snapshot)
      and (split_part("position", '|', 2) = ''
           or not pg_visible_in_snapshot(q.xid, nullif(split_part("position", '|', 2), '')::pg_snapshot)
           or (q.k, q.xid) > (nullif(split_part("position", '|', 3), '')::pg_lsn, nullif(split_part("position", '|', 4), '')::xid8))
    limit 1
$$;
revoke execute on function courier.pending_transaction(text, xid8) from public;
comment on function courier.pending_transaction(text, xid8) is
    'place in the order of shipping of a transaction that a subscription at the position has yet to ship; null if there is none';

-- A transaction that the subscription is known to be stopped at is passed without
-- another try: the person may have repaired the node's rows by hand. A failed
-- courier.ship() leaves no state behind, since its transaction is rolled back;
-- where only sessions ship, the transaction is passed if the node refuses it.
create function courier.skip_transaction(subscription_name text, xid xid8) returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
    stopped courier.subscription_state;
    known boolean;
    letter int8;
begin
    present := courier.configure_subscription(skip_transaction.subscription_name);
    select t.* into stopped from courier.subscription_state t where t.subscription_id = present.subscription_id;
    known := coalesce(stopped.state = 'stopped' and stopped.last_error_xid = skip_transaction.xid, false);
    if not known and stopped.state = 'streaming' and stopped.shipper is not distinct from 'session' then
        stopped.last_error_xid := skip_transaction.xid;
        stopped.last_error_k := courier.pending_transaction(stopped.position, skip_transaction.xid);
    end if;
    if not known and (stopped.last_error_xid is distinct from skip_transaction.xid or stopped.last_error_k is null) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('subscription "%s" is not stopped at transaction %s', present.subscription_name,
                             coalesce(xid::text, 'null')),
            detail = case when stopped.state = 'stopped' and stopped.last_error_xid is not null
                          then format('It is stopped at transaction %s.', stopped.last_error_xid)
                          else format('Its state is %s.', stopped.state) end,
            hint = 'See state and last_error_xid in courier.subscription_status.';
    end if;
    insert into courier.dead_letter_entry as d
        (subscription_id, k, xid, state, schema_name, table_name, operation, key, error, error_sqlstate, error_hint)
    values (present.subscription_id, stopped.last_error_k, stopped.last_error_xid, 'skipping',
            stopped.last_error_schema, stopped.last_error_table, stopped.last_error_operation,
            stopped.last_error_key, stopped.last_error, stopped.last_error_sqlstate, stopped.last_error_hint)
    on conflict on constraint dead_letter_entry_transaction_key do update
    set state = 'skipping', stored_by = excluded.stored_by, updated_at = clock_timestamp()
    where d.state = 'pending'
    returning d.dead_letter_id into letter;
    if letter is null then
        select d.dead_letter_id into letter from courier.dead_letter_entry d
        where d.subscription_id = present.subscription_id
          and (d.k, d.xid) = (stopped.last_error_k, stopped.last_error_xid);
    else
        update courier.configuration c set generation = c.generation + 1;
    end if;
    return letter;
end
$$;
comment on function courier.skip_transaction(text, xid8) is
    'passes the transaction that a subscription is stopped at, with the next try, and keeps it as a dead letter; returns its number';
