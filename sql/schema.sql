-- Schema courier and the helpers that every other file leans on: who may
-- administer, where dblink lives, what is a name.
--
-- Conventions of all files of this folder:
--   - Functions a DBA calls are SECURITY INVOKER and open to PUBLIC; the first
--     thing they do is require_administrator(), which gives a better error than
--     a missing privilege would. Private functions are revoked from PUBLIC.
--   - Parameters that carry a name are declared as text. A parameter of type
--     name would cut a literal of more than 63 bytes off without a word, and
--     the function could not refuse what it never saw; callers who hold a name
--     still pass it as it is, because name casts to text implicitly.

grant usage on schema courier to public;
comment on schema courier is 'pg_courier: configuration, queue and functions of change delivery to other nodes';

-- Whether the calling role may administer pg_courier: a superuser, or a role
-- with the privileges of the one that owns the extension.
create function courier.is_administrator() returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        (select pg_has_role(e.extowner, 'USAGE') from pg_extension e where e.extname = 'pg_courier'),
        false)
$$;
comment on function courier.is_administrator() is
    'whether the current role may administer pg_courier: superuser, or member of the role that owns the extension';

create function courier.require_administrator() returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    owner name;
begin
    if courier.is_administrator() then
        return;
    end if;
    select pg_get_userbyid(e.extowner) into owner from pg_extension e where e.extname = 'pg_courier';
    raise exception using
        errcode = 'insufficient_privilege',
        message = 'permission denied to administer pg_courier',
        hint = format('Connect as a superuser or as a member of role %I, which owns the extension.', owner);
end
$$;
comment on function courier.require_administrator() is
    'raises insufficient_privilege unless the current role may administer pg_courier';

create function courier.dblink_schema() returns name
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    found_schema name;
begin
    select n.nspname into found_schema
    from pg_extension e join pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'dblink';
    if found_schema is null then
        raise exception using
            errcode = 'undefined_object',
            message = 'extension dblink is not installed in this database',
            hint = 'Run CREATE EXTENSION dblink.';
    end if;
    return found_schema;
end
$$;
comment on function courier.dblink_schema() is 'schema in which the functions of extension dblink live';

-- Checks a name given by a caller; kind ('node', 'replication set', ...) goes
-- into the message. Returns it as name, which nothing has cut off.
create function courier.require_name(kind text, given text) returns name
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if given is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = format('%s name must not be null', kind),
            hint = 'A name has 1 to 63 bytes.';
    elsif given = '' then
        raise exception using
            errcode = 'invalid_name',
            message = format('%s name must not be empty', kind),
            hint = 'A name has 1 to 63 bytes.';
    elsif octet_length(given) > 63 then
        raise exception using
            errcode = 'name_too_long',
            message = format('%s name "%s" is too long', kind, given),
            hint = format('A name has 1 to 63 bytes; this one has %s.', octet_length(given));
    end if;
    return given::name;
end
$$;
comment on function courier.require_name(text, text) is
    'checks that a name given by a caller is present, not empty and not longer than 63 bytes';

-- Positions and starting points need a snapshot taken after a lock was
-- granted; with one snapshot a transaction there is no such thing.
create function courier.require_read_committed(what text) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception using
            errcode = 'invalid_transaction_state',
            message = format('%s cannot run in a %s transaction', what, current_setting('transaction_isolation')),
            detail = 'It must see what other transactions commit while it runs.',
            hint = 'Run it in a transaction of isolation level READ COMMITTED.';
    end if;
end
$$;
comment on function courier.require_read_committed(text) is
    'raises invalid_transaction_state in a REPEATABLE READ or SERIALIZABLE transaction';

-- What a hint says about names that would have been right.
create function courier.known_names(kind text, names text[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when coalesce(cardinality(names), 0) = 0 then format('There is no %s yet.', kind)
        else format('These exist: %s.',
                    (select string_agg(n, ', ' order by n) from unnest(names) n))
    end
$$;
comment on function courier.known_names(text, text[]) is 'sentence of a hint that lists the names that exist';
