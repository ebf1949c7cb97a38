-- Replication sets: which tables, which columns, which operations.

create function courier.find_replication_set(set_name text) returns courier.replication_set
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.replication_set;
    wanted name := courier.require_name('replication set', find_replication_set.set_name);
begin
    select s.* into present from courier.replication_set s where s.set_name = wanted;
    if not found then
        raise exception using
            errcode = 'undefined_object',
            message = format('replication set "%s" does not exist', wanted),
            hint = courier.known_names('replication set', array(select s.set_name::text from courier.replication_set s))
                || ' Create one with SELECT courier.create_replication_set(...).';
    end if;
    return present;
end
$$;
revoke execute on function courier.find_replication_set(text) from public;
comment on function courier.find_replication_set(text) is
    'the replication set of that name, or an error with the names that exist';

create function courier.create_replication_set(
    set_name text,
    replicate_insert boolean default true,
    replicate_update boolean default true,
    replicate_delete boolean default true,
    replicate_truncate boolean default true) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted courier.replication_set;
    present courier.replication_set;
begin
    perform courier.require_administrator();
    wanted := row(courier.require_name('replication set', create_replication_set.set_name),
                  replicate_insert, replicate_update, replicate_delete, replicate_truncate);
    if (replicate_insert or replicate_update or replicate_delete or replicate_truncate) is not true
       or num_nulls(replicate_insert, replicate_update, replicate_delete, replicate_truncate) > 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('replication set "%s" must replicate something', wanted.set_name),
            hint = 'Let at least one of replicate_insert, replicate_update, replicate_delete and '
                || 'replicate_truncate be true, and none null.';
    end if;
    perform courier.lock_configuration();
    select s.* into present from courier.replication_set s where s.set_name = wanted.set_name;
    if not found then
        insert into courier.replication_set select wanted.*;
    elsif present is distinct from wanted then
        raise exception using
            errcode = 'duplicate_object',
            message = format('replication set "%s" exists already with other operations', wanted.set_name),
            hint = 'Choose another name, or drop the set first.';
    end if;
end
$$;
comment on function courier.create_replication_set(text, boolean, boolean, boolean, boolean) is
    'creates a replication set that sends the given operations of its tables';

create function courier.drop_replication_set(set_name text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.replication_set;
    users text;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_replication_set(drop_replication_set.set_name);
    if present.set_name = 'default' then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'replication set "default" cannot be dropped',
            hint = 'Take its tables out with SELECT courier.replication_set_remove_table(...).';
    end if;
    select string_agg(s.subscription_name, ', ' order by s.subscription_name) into users
    from courier.subscription s where present.set_name = any (s.replication_sets);
    if users is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = format('replication set "%s" is in use by subscriptions', present.set_name),
            detail = format('Subscriptions: %s.', users),
            hint = 'Drop them first with SELECT courier.drop_subscription(...).';
    end if;
    delete from courier.replication_set_table t where t.set_name = present.set_name;
    perform courier.sync_row_filters();
    delete from courier.replication_set s where s.set_name = present.set_name;
end
$$;
comment on function courier.drop_replication_set(text) is 'drops a replication set that no subscription uses; its tables stay as they are';
