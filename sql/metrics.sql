-- What monitoring asks every few seconds, at a cost that does not grow with
-- the queue.

-- What lies in the queue beyond a position. Up to most_chunks it is counted,
-- by courier.backlog(). Beyond, each segment is counted from the position on for
-- most_chunks chunks, and the rest of its blocks is taken to be like those: a
-- segment is only ever appended to, so k goes up with the block.
create function courier.backlog_estimate(
    "position" text, most_chunks int4, out exact boolean, out changes int8, out bytes int8, out oldest_clock int8)
language plpgsql stable strict
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    p constant pg_snapshot := split_part("position", '|', 1);
    s constant pg_snapshot := nullif(split_part("position", '|', 2), '');
    last_k pg_lsn := nullif(split_part("position", '|', 3), '');
    last_xid xid8 := nullif(split_part("position", '|', 4), '');
    since constant xid8 := pg_snapshot_xmax(p);
    waiting constant xid8[] := array(select pg_snapshot_xip(p) union select pg_snapshot_xip(s));
    segment regclass;
    part record;
    factor float8;
begin
    exact := not exists (select from courier.queue_chunk c where c.xid >= since
                         order by c.xid offset most_chunks limit 1);
    if exact then
        select b.changes, b.bytes, b.oldest_clock into changes, bytes, oldest_clock
        from courier.backlog("position") b;
        return;
    end if;
    if last_k is null then
        -- Transactions take xid and k in nearly the same order.
        select min(c.k), '0'::xid8 into last_k, last_xid
        from (select q.k from courier.queue_chunk q where q.xid >= since order by q.xid limit most_chunks) c;
    end if;
    -- What committed late, and so lies before the place from which is counted.
    select coalesce(sum(c.changes), 0), coalesce(sum(c.bytes), 0), min(c.clock)
    into changes, bytes, oldest_clock
    from (select q.changes, q.bytes, q.clock from courier.queue_chunk q
          where q.xid = any (waiting) and (q.k, q.xid) <= (last_k, last_xid)
            and (s is null or not pg_visible_in_snapshot(q.xid, s))
          limit most_chunks) c;
    for segment in
        select c.oid::regclass from pg_class c
        where c.relnamespace = 'courier'::regnamespace and c.relkind = 'r' and c.relname ~ '^queue_[0-9]+$'
    loop
        execute format(
            $q$select count(*) as chunks, sum(c.changes) as changes, sum(c.bytes) as bytes, min(c.clock) as clock,
                      min(c.block) as first_block, max(c.block) as last_block
               from (select q.changes, length(q.data) as bytes, q.clock, (q.ctid::text::point)[0]::int8 as block
                     from %s q
                     where (q.k, q.xid) > ($1, $2) and not pg_visible_in_snapshot(q.xid, $3)
                     order by q.k, q.xid limit $4) c$q$, segment)
        into part using last_k, last_xid, p, most_chunks;
        continue when part.chunks = 0;
        factor := case when part.chunks < most_chunks then 1
                       else (pg_relation_size(segment) / current_setting('block_size')::float8 - part.first_block)
                            / (part.last_block - part.first_block + 1) end;
        changes := changes + (factor * part.changes)::int8;
        bytes := bytes + (factor * part.bytes)::int8;
        oldest_clock := least(oldest_clock, part.clock);
    end loop;
end
$$;
revoke execute on function courier.backlog_estimate(text, int4) from public;
comment on function courier.backlog_estimate(text, int4) is
    'what lies in the queue beyond a position: counted up to a number of chunks, estimated beyond';
