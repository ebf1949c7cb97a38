-- DDL that runs here and on the nodes, on demand: courier.replicate_ddl().

create function courier.run_ddl(command text, sets text[]) returns void
language c volatile strict
as 'MODULE_PATHNAME', 'courier_run_ddl';
revoke execute on function courier.run_ddl(text, text[]) from public;
comment on function courier.run_ddl(text, text[]) is
    'runs a command and queues it for the subscriptions of some sets; private, see replicate_ddl()';

-- The names of replication sets that a caller gives, as an array without
-- doubles, or an error.
create function courier.require_replication_sets(replication_sets text[]) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    given text;
    found_sets text[] := '{}';
begin
    if replication_sets is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'replication_sets must not be null',
            hint = 'Name at least one replication set, or leave the parameter out for set "default".';
    elsif cardinality(replication_sets) = 0 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'list of replication sets is empty',
            hint = 'Name at least one replication set, or leave the parameter out for set "default".';
    end if;
    foreach given in array replication_sets loop
        found_sets := found_sets || (courier.find_replication_set(given)).set_name::text;
    end loop;
    return array(select distinct s from unnest(found_sets) s order by s);
end
$$;
revoke execute on function courier.require_replication_sets(text[]) from public;
comment on function courier.require_replication_sets(text[]) is
    'names of replication sets given by a caller, checked, sorted and without doubles';

-- Without SET search_path on purpose: the command runs with the caller's, here
-- and there. All else is qualified.
create function courier.replicate_ddl(command text, replication_sets text[] default '{default}') returns void
language plpgsql
as $$
declare
    sets text[];
begin
    perform courier.require_administrator();
    if command is null then
        raise exception using
            errcode = 'null_value_not_allowed',
            message = 'command must not be null',
            hint = 'Give at least one statement of DDL.';
    end if;
    sets := courier.require_replication_sets(replication_sets);
    perform courier.run_ddl(command, sets);
end
$$;
comment on function courier.replicate_ddl(text, text[]) is
    'runs DDL here and, at the same point among the changes, on the nodes of the subscriptions that have one of the sets';
