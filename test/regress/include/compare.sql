\set ECHO none
-- Compares the rows of all tables in replication sets with those behind dblink
-- connection "target", and says which differ. rows_of gives a table's rows as text:
-- %1$s stands for its name, %2$s for the columns that are sent, by name.
create function pg_temp.compare_sides(rows_of text default 'select x::text from %1$s x', except_column name default '',
    out tables int, out row_count bigint, out differ text) language plpgsql as $$
declare
    t record;
    here text[];
    there text[];
    query text;
begin
    tables := 0;
    row_count := 0;
    for t in
        select r.relation,
               (select string_agg(quote_ident(a.attname), ', ' order by a.attname) from pg_attribute a
                where a.attrelid = r.relation and a.attnum > 0 and not a.attisdropped
                  and (r.columns is null or a.attname = any (r.columns)) and a.attname <> except_column) as columns
        from courier.replication_set_table r order by r.relation::text
    loop
        query := format('select array(select r from (' || rows_of || ') q (r) order by r collate "C")', t.relation, t.columns);
        execute query into here;
        select d.r into there from dblink('target', query) d (r text[]);
        tables := tables + 1;
        row_count := row_count + cardinality(here);
        if here is distinct from there then
            differ := concat_ws('; ', differ, format('%s: here %s, there %s', t.relation, here, there));
        end if;
    end loop;
end
$$;
\set ECHO all
