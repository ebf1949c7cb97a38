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

create function courier.require_ddl_option(given text) returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null or given not in ('none', 'auto') then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('ddl cannot be %s', coalesce('"' || given || '"', 'null')),
            hint = 'It can be: none, auto.';
    end if;
    return given;
end
$$;
revoke execute on function courier.require_ddl_option(text) from public;
comment on function courier.require_ddl_option(text) is 'checks option ddl of a replication set';

create function courier.create_replication_set(
    set_name text,
    replicate_insert boolean default true,
    replicate_update boolean default true,
    replicate_delete boolean default true,
    replicate_truncate boolean default true,
    ddl text default 'none') returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    wanted courier.replication_set;
    present courier.replication_set;
begin
    perform courier.require_administrator();
    wanted := row(courier.require_name('replication set', create_replication_set.set_name),
                  replicate_insert, replicate_update, replicate_delete, replicate_truncate,
                  courier.require_ddl_option(ddl));
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
            message = format('replication set "%s" exists already with other options', wanted.set_name),
            hint = 'Choose another name, or drop the set first.';
    end if;
end
$$;
comment on function courier.create_replication_set(text, boolean, boolean, boolean, boolean, text) is
    'creates a replication set that sends the given operations of its tables; ddl => auto: DDL on them as well';

-- What is null stays as it is. Shippers go by it from the next batch on.
create function courier.alter_replication_set(
    set_name text,
    replicate_insert boolean default null,
    replicate_update boolean default null,
    replicate_delete boolean default null,
    replicate_truncate boolean default null,
    ddl text default null) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.replication_set;
    wanted courier.replication_set;
    listed text;
begin
    perform courier.require_administrator();
    perform courier.lock_configuration();
    present := courier.find_replication_set(alter_replication_set.set_name);
    wanted := row(present.set_name,
                  coalesce(alter_replication_set.replicate_insert, present.replicate_insert),
                  coalesce(alter_replication_set.replicate_update, present.replicate_update),
                  coalesce(alter_replication_set.replicate_delete, present.replicate_delete),
                  coalesce(alter_replication_set.replicate_truncate, present.replicate_truncate),
                  courier.require_ddl_option(coalesce(alter_replication_set.ddl, present.ddl)));
    if not (wanted.replicate_insert or wanted.replicate_update or wanted.replicate_delete or wanted.replicate_truncate) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('replication set "%s" must replicate something', wanted.set_name),
            hint = 'Let at least one of replicate_insert, replicate_update, replicate_delete and '
                || 'replicate_truncate be true.';
    end if;
    if wanted.replicate_update or wanted.replicate_delete then
        select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname) into listed
        from courier.replication_set_table t
        join pg_class c on c.oid = t.relation join pg_namespace n on n.oid = c.relnamespace
        where t.set_name = wanted.set_name and courier.key_columns(t.relation) is null
          and not (present.replicate_update or present.replicate_delete);
        if listed is not null then
            raise exception using
                errcode = 'object_not_in_prerequisite_state',
                message = format('tables of replication set "%s" have no key, and updates and deletes need one', wanted.set_name),
                detail = format('Tables: %s.', listed),
                hint = 'Run ALTER TABLE ... ADD PRIMARY KEY (...) or ALTER TABLE ... REPLICA IDENTITY FULL for each.';
        end if;
    end if;
    if wanted is distinct from present then
        update courier.replication_set s
        set replicate_insert = wanted.replicate_insert, replicate_update = wanted.replicate_update,
            replicate_delete = wanted.replicate_delete, replicate_truncate = wanted.replicate_truncate,
            ddl = wanted.ddl
        where s.set_name = wanted.set_name;
    end if;
end
$$;
comment on function courier.alter_replication_set(text, boolean, boolean, boolean, boolean, text) is
    'changes what a replication set sends; what is null stays as it is';

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
    delete from courier.replication_set_schema t where t.set_name = present.set_name;
    delete from courier.replication_set s where s.set_name = present.set_name;
end
$$;
comment on function courier.drop_replication_set(text) is 'drops a replication set that no subscription uses; its tables stay as they are';
