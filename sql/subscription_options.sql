-- The options of a subscription and what they may be.

-- Options and what they may be: a list of words, or null for a whole number
-- greater than zero.
create function courier.subscription_options(out option text, out words text[])
returns setof record
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    values ('batch_bytes', null::text[]),
           ('batch_rows', null),
           ('copy_indexes', '{keep,rebuild}'),
           ('copy_rate', null),
           ('copy_workers', null),
           ('ddl_role', '{caller,link}'),
           ('driver', '{auto,sidecar,worker,none}'),
           ('on_conflict', '{apply_remote,keep_local,error}'),
           ('on_error', '{stop,dead_letter}'),
           ('on_existing', '{error,merge,truncate}'),
           ('synchronize_structure', '{true,false}')
$$;
comment on function courier.subscription_options() is
    'options of create_subscription with the words each may be; null for a whole number greater than zero';

create function courier.require_options(options jsonb) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    given record;
    allowed record;
begin
    if options is null or jsonb_typeof(options) <> 'object' then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'options must be a JSON object',
            hint = 'Write them as ''{"on_conflict": "keep_local"}''.';
    end if;
    for given in select e.key, e.value, e.value #>> '{}' as text_value from jsonb_each(options) e order by e.key loop
        select o.option, o.words into allowed from courier.subscription_options() o where o.option = given.key;
        if not found then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" is unknown', given.key),
                hint = format('Options are: %s.',
                    (select string_agg(o.option, ', ' order by o.option) from courier.subscription_options() o));
        elsif allowed.words is not null
              and (jsonb_typeof(given.value) <> 'string' or given.text_value <> all (allowed.words)) then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" cannot be %s', given.key, given.value),
                hint = format('It can be: %s.', array_to_string(allowed.words, ', '));
        elsif allowed.words is null
              and (jsonb_typeof(given.value) <> 'number' or given.text_value !~ '^[1-9][0-9]{0,8}$') then
            raise exception using
                errcode = 'invalid_parameter_value',
                message = format('option "%s" cannot be %s', given.key, given.value),
                hint = 'It is a whole number from 1 to 999999999.';
        end if;
    end loop;
end
$$;
comment on function courier.require_options(jsonb) is 'checks the options of a subscription';

-- Takes effect with the next batch: the statement trigger tells the shippers.
create function courier.alter_subscription_options(subscription_name text, options jsonb) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    present courier.subscription;
    wanted jsonb;
begin
    present := courier.configure_subscription(alter_subscription_options.subscription_name);
    if options is null or jsonb_typeof(options) <> 'object' then
        perform courier.require_options(options);
    end if;
    -- null takes an option away; one that does not exist can't be
    perform courier.require_options(jsonb_object_agg(e.key, e.value))
    from (select g.key, case when g.value <> 'null' or o.option is null then g.value
                             else coalesce(to_jsonb(o.words[1]), '1') end as value
          from jsonb_each(options) g left join courier.subscription_options() o on o.option = g.key) e
    having count(*) > 0;
    wanted := jsonb_strip_nulls(present.options || options);
    if wanted <> present.options then
        update courier.subscription s set options = wanted where s.subscription_id = present.subscription_id;
    end if;
end
$$;
comment on function courier.alter_subscription_options(text, jsonb) is
    'sets options of a subscription; those not given stay, null brings the default back';
