-- The end of a subscription: what it leaves behind on the target.

-- What removes a subscription's bookkeeping from its target, as one statement
-- that does no harm when there is none.
create function courier.clean_target_command(progress_key uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($c$
do $courier$
declare
    bookkeeping name;
begin
    foreach bookkeeping in array '{event,copied,copying,copied_chunk,missed_row,dropped_index,overtaken,letter,progress}'::name[] loop
        if to_regclass(format('courier_target.%%I', bookkeeping)) is not null then
            execute format('delete from courier_target.%%I where subscription = %%L', bookkeeping, %1$L);
        end if;
    end loop;
    if to_regclass('courier_target.progress') is not null then
        -- nor a copy of courier.copy_table() that goes on later
        if not exists (select from courier_target.progress) and to_regclass('courier_target.table_copy') is null then
            -- one that begins just now may have added its row, unseen
            lock table courier_target.progress in access exclusive mode;
            if not exists (select from courier_target.progress) then
                drop schema courier_target cascade;
            end if;
        end if;
    end if;
end
$courier$$c$, progress_key)
$f$;
revoke execute on function courier.clean_target_command(uuid) from public;
comment on function courier.clean_target_command(uuid) is
    'statement that removes the bookkeeping of a subscription from its target, and schema courier_target with the last one';

-- Indexes that a copy has dropped are made again however long that takes; a lock is
-- waited for no longer than the rest.
create function courier.rebuild_target_command(progress_key uuid) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($c$
set local statement_timeout = 0;
set local lock_timeout = '10s';
do $courier$
begin
    if to_regclass('courier_target.dropped_index') is not null then
        perform courier_target.rebuild_indexes(%1$L, d.relation)
        from (select distinct i.relation from courier_target.dropped_index i where i.subscription = %1$L) d;
    end if;
end
$courier$$c$, progress_key)
$f$;
revoke execute on function courier.rebuild_target_command(uuid) from public;
comment on function courier.rebuild_target_command(uuid) is
    'statements that make the indexes again which copies of a subscription have dropped on its target';

-- Runs statements on the target, as one transaction. The caller can be cancelled
-- meanwhile; that the target has cancelled something is an error like others.
create function courier.run_on_target(connection text, command text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    answer record;
begin
    select r.* into answer from courier.remote_run(connection, 10000, command, 10000) r;
    while not answer.ready loop
        select r.* into answer from courier.remote_wait(connection, 10000) r;
    end loop;
    if answer.sqlstate is not null then
        raise exception using
            errcode = 'external_routine_exception',
            message = answer.message,
            detail = coalesce(answer.detail, '');
    end if;
end
$$;
revoke execute on function courier.run_on_target(text, text) from public;
comment on function courier.run_on_target(text, text) is
    'runs statements over a connection of remote_connect(), to their end';

-- The rest of drop_subscription, at commit. The capture triggers go last: to
-- drop them takes locks that hold up everyone who uses the tables, which must
-- not last as long as it may take to find out that a node does not answer.
create function courier.end_subscription() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    connection text := 'courier_clean_' || pg_backend_pid();
    server name;
    failed_message text;
    failed_detail text;
begin
    begin
        select n.server_name into server from courier.node n where n.node_name = old.node_name;
        perform courier.remote_connect(connection, server::text, 10000);
        perform courier.run_on_target(
            connection, 'set statement_timeout = ''10s''; set client_min_messages = warning; '
                        'set search_path = pg_catalog; set default_transaction_read_only = off; '
                        'set default_transaction_isolation = ''read committed''');
        perform courier.run_on_target(connection, courier.rebuild_target_command(old.progress_key));
        perform courier.run_on_target(connection, courier.clean_target_command(old.progress_key));
        perform courier.remote_disconnect(connection);
    exception when others then
        get stacked diagnostics
            failed_message = message_text,
            failed_detail = pg_exception_detail;
        perform courier.remote_disconnect(connection);
        raise warning using
            message = format('subscription "%s" is dropped here, but node "%s" still has its bookkeeping: %s',
                             old.subscription_name, old.node_name, failed_message),
            detail = failed_detail,
            hint = format('If it was ever reached, run there: '
                          'DELETE FROM courier_target.event WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.copied WHERE subscription = %1$L; '
                          'SELECT courier_target.rebuild_indexes(subscription, relation) FROM courier_target.dropped_index WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.copying WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.copied_chunk WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.missed_row WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.overtaken WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.letter WHERE subscription = %1$L; '
                          'DELETE FROM courier_target.progress WHERE subscription = %1$L; '
                          'and, if progress is empty then, DROP SCHEMA courier_target CASCADE;', old.progress_key);
    end;
    perform courier.sync_capture();
    return null;
end
$$;
revoke execute on function courier.end_subscription() from public;
comment on function courier.end_subscription() is
    'constraint trigger, at commit: removes the bookkeeping of a dropped subscription from its target, or warns; then the capture triggers';

create constraint trigger subscription_end
    after delete on courier.subscription deferrable initially deferred
    for each row execute function courier.end_subscription();
