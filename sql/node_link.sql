-- Links to nodes for functions of this schema: opened within a bounded time,
-- cancelled at once, and set so that text means the same on both sides.

-- RAISE takes no null, and shows an empty detail as a line of its own.
create function courier.raise_error(sqlstate_code text, message text, detail text, hint text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if detail <> '' and hint <> '' then
        raise exception using errcode = sqlstate_code, message = message, detail = detail, hint = hint;
    elsif detail <> '' then
        raise exception using errcode = sqlstate_code, message = message, detail = detail;
    elsif hint <> '' then
        raise exception using errcode = sqlstate_code, message = message, hint = hint;
    end if;
    raise exception using errcode = sqlstate_code, message = message;
end
$$;
revoke execute on function courier.raise_error(text, text, text, text) from public;
comment on function courier.raise_error(text, text, text, text) is
    'raises an error whose detail and hint may be null or empty';

-- Settings of the session on the node that its role may not change are skipped.
create function courier.node_session_command() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format('do %L', 'begin ' || string_agg(format(
        'begin perform pg_catalog.set_config(%L, %L, false); exception when insufficient_privilege or undefined_object '
        'then null; end;', s.setting, s.value), ' ') || ' end')
    from (values ('search_path', 'pg_catalog'),
                 ('standard_conforming_strings', 'on'),
                 ('array_nulls', 'on'),
                 ('transform_null_equals', 'off'),
                 ('DateStyle', 'ISO, YMD'),
                 ('IntervalStyle', 'postgres'),
                 ('TimeZone', 'UTC'),
                 ('extra_float_digits', '1'),
                 ('bytea_output', 'hex'),
                 ('lc_monetary', 'C'),
                 ('xmloption', 'content'),
                 ('default_transaction_isolation', 'read committed'),
                 ('default_transaction_read_only', 'off'),
                 ('row_security', 'off'),
                 ('synchronous_commit', 'off'),
                 ('statement_timeout', '0'),
                 ('lock_timeout', '60s'),
                 ('idle_in_transaction_session_timeout', '600s'),
                 ('idle_session_timeout', '600s'),
                 ('client_connection_check_interval', '1s'),
                 ('tcp_keepalives_idle', '5'),
                 ('tcp_keepalives_interval', '3'),
                 ('tcp_keepalives_count', '3'),
                 ('tcp_user_timeout', '15000'),
                 ('jit', 'off'),
                 ('client_min_messages', 'error'),
                 -- what is sent holds rows, which have no place in a log
                 ('log_min_error_statement', 'panic'),
                 ('log_min_messages', 'fatal'),
                 ('log_error_verbosity', 'terse')) s (setting, value)
$f$;
revoke execute on function courier.node_session_command() from public;
comment on function courier.node_session_command() is
    'statement that sets a session on a node so that the text of values means the same there as here';

-- Waits for the answer to what remote_send() has sent. A peer that has vanished
-- is noticed by TCP keepalive; a statement may take as long as it takes.
create function courier.node_wait(connection text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    loop
        exit when (select p.ready from courier.remote_poll(connection, 10000) p);
    end loop;
end
$$;
revoke execute on function courier.node_wait(text) from public;
comment on function courier.node_wait(text) is 'waits until the answer to what was sent over a link can be fetched';

-- An error of the node names it, and keeps SQLSTATE, detail and hint.
create function courier.node_rows(node_name name, connection text, command text, columns int) returns setof text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    perform courier.remote_send(connection, command, 30000);
    perform courier.node_wait(connection);
    return query select r from courier.remote_rows(connection, columns) r;
exception when others then
    get stacked diagnostics
        failed_state = returned_sqlstate,
        failed_message = message_text,
        failed_detail = pg_exception_detail,
        failed_hint = pg_exception_hint;
    perform courier.raise_error(
        failed_state, format('node "%s": %s', node_name, failed_message), failed_detail, failed_hint);
end
$$;
revoke execute on function courier.node_rows(name, text, text, int) from public;
comment on function courier.node_rows(name, text, text, int) is
    'rows, as text, of one statement run over a link to a node';

-- Runs statements, one transaction if they don't say otherwise; each gives one
-- column at most. Returns how many rows the last one touched.
create function courier.node_run(node_name name, connection text, command text) returns int8
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    answer record;
begin
    select r.* into answer from courier.remote_run(connection, 10000, command, 30000) r;
    while not answer.ready loop
        select r.* into answer from courier.remote_wait(connection, 10000) r;
    end loop;
    if answer.sqlstate is not null then
        perform courier.raise_error(
            answer.sqlstate, format('node "%s": %s', node_name, answer.message), answer.detail, answer.hint);
    end if;
    return answer.counts[cardinality(answer.counts)];
end
$$;
revoke execute on function courier.node_run(name, text, text) from public;
comment on function courier.node_run(name, text, text) is
    'runs statements over a link to a node; how many rows the last one touched';

create function courier.open_node_link(node courier.node, connection text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    failed_state text;
    failed_message text;
    failed_detail text;
begin
    begin
        perform courier.remote_connect(connection, node.server_name, 10000);
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail;
        perform courier.raise_error(
            failed_state, format('node "%s" cannot be reached: %s', node.node_name, failed_message), failed_detail,
            format('See SELECT * FROM courier.ping(%L).', node.node_name));
    end;
    perform courier.node_run(node.node_name, connection, courier.node_session_command());
end
$$;
revoke execute on function courier.open_node_link(courier.node, text) from public;
comment on function courier.open_node_link(courier.node, text) is
    'opens a link to a node, in place of one of that name that a cancelled call has left';

-- One statement over a link of its own, which is closed behind it whatever comes.
create function courier.ask_node(node courier.node, command text) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    link text := 'courier_question_' || pg_backend_pid();
    answer text;
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    perform courier.open_node_link(node, link);
    begin
        select r[1] into answer from courier.node_rows(node.node_name, link, command, 1) r;
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        perform courier.remote_disconnect(link);
        perform courier.raise_error(failed_state, failed_message, failed_detail, failed_hint);
    end;
    perform courier.remote_disconnect(link);
    return answer;
end
$$;
revoke execute on function courier.ask_node(courier.node, text) from public;
comment on function courier.ask_node(courier.node, text) is
    'what one statement of one row and one column gives on a node';
