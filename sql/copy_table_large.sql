-- Rows that are too large for a statement. A value of 50 MB in one would be in the
-- memory of both sides several times over. So the values of such a row are read in
-- pieces, as bytes, which the side that is written keeps in a temporary table until
-- its transaction puts them together: without WAL, and without rows to vacuum.

-- The value of a column as the bytes that its pieces are cut from, of text in the
-- encoding of the side that is written. It is the text that other rows come in: a
-- push casts, in a pull the node writes its answer with output functions, which is
-- the same for the types that are likely to be large.
create function courier.value_as_bytes(col jsonb, value text, encoding text, pushed boolean) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when col ->> 'base' = 'bytea' then format('%s || ''''::bytea', value)
        when pushed or col ->> 'base' in ('text', 'varchar', 'json', 'jsonb', 'xml') then format('convert_to(%s::text, %L)', value, encoding)
        else format('convert_to(case when %1$s is distinct from null then concat(%1$s) end, %2$L)', value, encoding)
    end
$$;
revoke execute on function courier.value_as_bytes(jsonb, text, text, boolean) from public;
comment on function courier.value_as_bytes(jsonb, text, text, boolean) is 'expression that turns a value into bytes';

-- Pieces of the values c1 to cN of r, each with the number of its column and where
-- it begins; behind them one of number 0, which tells something. A value is read and
-- made bytes of once: the list of values is gone through row by row, and each of them
-- is there while its pieces are.
create function courier.pieces_of_row(plan jsonb, told text, pushed boolean) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$(
    select p.col, p.place, substr(p.value, p.place + 1, 1048576) as piece
    from (select v.col, v.value, generate_series(0, greatest(coalesce(octet_length(v.value), 0) - 1, 0), 1048576) as place
          from (values %s, (0, convert_to(%s, %L))) v (col, value)) p
    where p.value is not null or p.col = 0)$q$,
        string_agg(format('(%s, %s)', n, courier.value_as_bytes(c, 'r.c' || n, plan ->> 'encoding', pushed)), ', ' order by n),
        told, plan ->> 'encoding')
    from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)
$f$;
revoke execute on function courier.pieces_of_row(jsonb, text, boolean) from public;
comment on function courier.pieces_of_row(jsonb, text, boolean) is 'subquery that cuts the values of a row into pieces';

-- The chunk behind a position in pieces: number of the row, number of the column,
-- where the piece begins, and the piece. What the last row tells is its column 0.
create function courier.piece_query(plan jsonb, "position" text, pushed boolean) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select format('select r.number, p.col, p.place, p.piece from (%s) r cross join lateral %s p',
                  courier.cut_query(plan, "position"), courier.pieces_of_row(plan, 'r.told', pushed))
$$;
revoke execute on function courier.piece_query(jsonb, text, boolean) from public;
comment on function courier.piece_query(jsonb, text, boolean) is 'query of the chunk behind a position, in pieces';

-- Where the pieces are kept, for the session. The values are put together in a
-- table, too: as part of the statement that inserts the row they would be in memory
-- twice more.
create function courier.keep_pieces_command() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select '
create temp table if not exists courier_piece (number int8, col int4, place int4, piece bytea) on commit delete rows;
create temp table if not exists courier_value (number int8, col int4, value bytea) on commit delete rows;
alter table pg_temp.courier_piece alter piece set storage external;
alter table pg_temp.courier_value alter value set storage external;
'
$$;
revoke execute on function courier.keep_pieces_command() from public;
comment on function courier.keep_pieces_command() is 'statements that create the tables which pieces are put together in';

-- Puts together what is there in pieces.
create function courier.join_pieces_command(plan jsonb, target text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$
insert into pg_temp.courier_value
select number, col, string_agg(piece, '' order by place) from pg_temp.courier_piece group by number, col;
insert into %s (%s) overriding system value
select %s from pg_temp.courier_value r where r.col = 0 order by r.number$q$,
        target,
        string_agg(quote_ident(c ->> 'name'), ', ' order by n),
        -- the conversion is not part of the subquery, whose result is copied
        string_agg(format(case c ->> 'base' when 'bytea' then '%2$s::%3$s' else 'convert_from(%2$s, %1$L)::%3$s' end, plan ->> 'encoding',
                          format('(select v.value from pg_temp.courier_value v where v.number = r.number and v.col = %s)', n),
                          c ->> 'write_type'), ', ' order by n))
    from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)
$f$;
revoke execute on function courier.join_pieces_command(jsonb, text) from public;
comment on function courier.join_pieces_command(jsonb, text) is 'statements that insert the rows which are there in pieces';

-- All rows of a source that cannot be cut, in one stream: number of rows and of
-- bytes up to each, and columns c1 to cN. A large row comes in pieces, with as many
-- rows before them as are fetched at most, which tell that it comes: so nobody
-- fetches many pieces at once who asked for many rows. As many rows as pieces are
-- fetched at once are behind it.
create function courier.whole_query(plan jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $f$
    select format($q$
select '{"rows": ' || r.number || ', "bytes": ' || r.bytes || case when p.col = -1 then ', "large_row_in": ' || p.place else '' end || '}',
       p.col, p.place, p.piece, %1$s
from (select s.*, row_number() over w as number, sum(s.size) over w as bytes
      from (select %2$s, %3$s as size from %4$s) s
      window w as (rows unbounded preceding)) r
left join lateral (
    select -1 as col, i as place, null::bytea as piece from generate_series(%5$s, 1, -1) i where r.size > %6$s
    union all
    select p.* from %7$s p where r.size > %6$s
    union all
    select -2, i, null from generate_series(1, 3) i where r.size > %6$s) p on true$q$,
        string_agg(format('case when r.size <= %s then r.c%s end', courier.large_row(plan), n), ', ' order by n),
        string_agg(quote_ident(c ->> 'name') || ' as c' || n, ', ' order by n),
        string_agg(courier.size_expression(c), ' + ' order by n),
        plan -> 'parts' -> 0 ->> 'from', plan ->> 'rows', courier.large_row(plan),
        courier.pieces_of_row(plan, 'null', false))
    from jsonb_array_elements(plan -> 'columns') with ordinality u (c, n)
$f$;
revoke execute on function courier.whole_query(jsonb) from public;
comment on function courier.whole_query(jsonb) is 'query of all rows of a source, the large ones in pieces';

create function courier.whole_columns(plan jsonb) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select 'told text, col int4, place int4, piece bytea, ' || courier.answer_columns(plan) $$;
revoke execute on function courier.whole_columns(jsonb) from public;
comment on function courier.whole_columns(jsonb) is 'definition of the columns of courier.whole_query()';

-- Writes the rows that a cursor on the node gives in pieces: all of them, or of a
-- source that cannot be cut the next. Returns what the last of them tells, with the
-- bytes that there were.
create function courier.pull_pieces(copy courier.table_copy, cursor_name text) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    dblink name := courier.dblink_schema();
    whole boolean := copy.plan ->> 'whole';
    taken int;
    row_ended boolean;
    bytes int8;
    told jsonb;
    leftover text;
begin
    execute courier.keep_pieces_command();
    loop
        perform courier.remote_send('courier_copy', 'fetch 4 from ' || cursor_name, 30000);
        perform courier.node_wait('courier_copy');
        execute format($q$
with taken as (
    insert into pg_temp.courier_piece
    select %s, col, place, piece from %I.dblink_get_result('courier_copy') as answer (%s) where col >= 0
    returning col)
select count(*), bool_or(col = 0) from taken$q$,
            case when whole then '0' else 'number' end, dblink,
            case when whole then courier.whole_columns(copy.plan) else 'number int8, col int4, place int4, piece bytea' end)
        into taken, row_ended;
        execute format('select r from %I.dblink_get_result(''courier_copy'') as t (r text)', dblink) into leftover;
        exit when taken = 0 or (whole and row_ended);
    end loop;
    execute courier.join_pieces_command(copy.plan, copy.target);
    execute $q$
select (select sum(octet_length(p.piece)) from pg_temp.courier_piece p where p.col > 0),
       (select convert_from(v.value, $1)::jsonb from pg_temp.courier_value v where v.col = 0 and v.value is not null)$q$
    into bytes, told using copy.plan ->> 'encoding';
    if whole then
        truncate pg_temp.courier_piece, pg_temp.courier_value;
    end if;
    return told || jsonb_build_object('bytes', coalesce(bytes, 0));
end
$$;
revoke execute on function courier.pull_pieces(courier.table_copy, text) from public;
comment on function courier.pull_pieces(courier.table_copy, text) is
    'writes rows of a cursor on the node that come in pieces; what the last of them tells';

-- The chunk behind the position of a pull, if there is a large row in it. Its pieces
-- are read with one snapshot: that of the transaction on the node which a table
-- without a key is read in, or one for this chunk.
create function courier.pull_large(copy courier.table_copy) returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    keyed boolean := copy.plan -> 'key' <> 'null';
    chunk jsonb;
begin
    perform courier.node_run(copy.node_name, 'courier_copy',
        case when keyed then 'begin isolation level repeatable read read only; ' else '' end
        || 'declare courier_pieces no scroll cursor for ' || courier.piece_query(copy.plan, copy."position", false));
    chunk := courier.pull_pieces(copy, 'courier_pieces');
    perform courier.node_run(copy.node_name, 'courier_copy', case when keyed then 'commit' else 'close courier_pieces' end);
    return chunk;
end
$$;
revoke execute on function courier.pull_large(courier.table_copy) from public;
comment on function courier.pull_large(courier.table_copy) is
    'writes the chunk of a pull in which there is a large row; what its last row tells';

-- The chunk behind a position of a push, if there is a large row in it: read with
-- one snapshot, sent in pieces, and left to the node to put together and commit. The
-- node is at another position if there is nothing between the two. All null if there
-- are no rows any more.
create function courier.copy_table_send_large(
    job jsonb, node_position text, from_position text, out "position" text, out rows int8, out bytes int8)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    plan jsonb := job -> 'plan';
    pieces refcursor;
    piece record;
    told jsonb;
    statement text := 'begin;' || courier.keep_pieces_command();
    failed_state text;
    failed_message text;
    failed_detail text;
    failed_hint text;
begin
    open pieces no scroll for execute courier.piece_query(plan, from_position, true);
    begin
        bytes := 0;
        loop
            fetch pieces into piece;
            exit when not found;
            if piece.col = 0 then
                told := convert_from(piece.piece, plan ->> 'encoding');
            else
                bytes := bytes + octet_length(piece.piece);
            end if;
            statement := statement || format('insert into pg_temp.courier_piece values (%s, %s, %s, ''\x%s'');',
                                             piece.number, piece.col, piece.place, encode(piece.piece, 'hex'));
            if length(statement) > 1000000 then
                perform courier.node_run(job ->> 'node', 'courier_copy', statement);
                statement := '';
            end if;
        end loop;
        close pieces;
        if told is null then
            bytes := null;
            return;
        end if;
        "position" := courier.next_position(plan, from_position, told);
        rows := told ->> 'rows';
        perform courier.remote_send('courier_copy',
            statement || courier.push_progress_command(job, node_position, "position", rows, bytes)
            || courier.join_pieces_command(plan, job ->> 'target') || '; commit', 30000);
    exception when others then
        get stacked diagnostics
            failed_state = returned_sqlstate,
            failed_message = message_text,
            failed_detail = pg_exception_detail,
            failed_hint = pg_exception_hint;
        perform courier.raise_copy_error(failed_state, failed_message, failed_detail, failed_hint, job ->> 'target', job ->> 'node');
    end;
end
$$;
revoke execute on function courier.copy_table_send_large(jsonb, text, text) from public;
comment on function courier.copy_table_send_large(jsonb, text, text) is 'sends the chunk of a push in which there is a large row';
