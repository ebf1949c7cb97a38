\set ECHO none
-- ship() ships subscription s and compares both sides; compare.sql comes first.
create function public.ship(out shipped text, out row_count bigint, out differ text) language plpgsql as $$
begin
    shipped := courier.ship('s');
    select c.row_count, c.differ into row_count, differ from pg_temp.compare_sides() c;
end
$$;
\set ECHO all
