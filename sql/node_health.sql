-- Health of the nodes: what the prober of `courier run` (pkg/health) needs in
-- the source database, what it writes down, and the view for people.

create function courier.remote_ready(dblink name, connections text[], patience int4) returns timestamptz[]
language c volatile strict
as 'MODULE_PATHNAME', 'courier_remote_ready';
revoke all on function courier.remote_ready(name, text[], int4) from public;
comment on function courier.remote_ready(name, text[], int4) is
    'waits up to patience milliseconds for the answers of several dblink connections; when each was seen, null for those still awaited';

create function courier.try_connect(servers text[], patience int4) returns text[]
language c volatile strict
as 'MODULE_PATHNAME', 'courier_try_connect';
revoke all on function courier.try_connect(text[], int4) from public;
comment on function courier.try_connect(text[], int4) is
    'connects to foreign servers side by side and leaves them again; null for each that let us in within patience milliseconds, else a SQLSTATE, a space and a reason';

-- No foreign key to courier.node: its lock would have the prober wait for a
-- drop_node that is not committed yet. The prober removes what has no node.
create table courier.node_state (
    node_name name not null,
    state text not null,
    since timestamptz not null,
    reason text,
    sqlstate text,
    latency interval,
    server_version text,
    in_recovery boolean,
    read_only boolean,
    clock_offset interval,
    connections_left int,
    probed_at timestamptz,
    next_probe_at timestamptz,
    updated_at timestamptz not null default now(),
    constraint node_state_pkey primary key (node_name),
    constraint node_state_known check (state in ('up', 'degraded', 'down', 'unknown'))
) with (fillfactor = 50);
comment on table courier.node_state is
    'health of each node as the prober last wrote it down: at every change of state, and every 30 s otherwise';
comment on column courier.node_state.node_name is 'the node';
comment on column courier.node_state.state is 'up, degraded, down, or unknown before the first answer';
comment on column courier.node_state.since is 'when it came into this state';
comment on column courier.node_state.reason is 'why it is not up, and what to do; may name hosts';
comment on column courier.node_state.sqlstate is 'SQLSTATE of the reason, if it has one';
comment on column courier.node_state.latency is 'round trip of a trivial query, median of the last five';
comment on column courier.node_state.server_version is 'PostgreSQL version of the node';
comment on column courier.node_state.in_recovery is 'whether it is a standby';
comment on column courier.node_state.read_only is 'whether transactions are read-only by default';
comment on column courier.node_state.clock_offset is 'how far its clock is ahead of this server''s';
comment on column courier.node_state.connections_left is 'connections that ordinary roles may still open';
comment on column courier.node_state.probed_at is 'when it was last probed';
comment on column courier.node_state.next_probe_at is 'when it is probed next';
comment on column courier.node_state.updated_at is 'when this row was last written';

-- A prober writes every 30 s, so a row that is older than two minutes tells of
-- a time when there was one.
create view courier.node_status as
select n.node_name,
       case when h.fresh then h.state else 'unknown' end as state,
       case when h.fresh then h.since end as since,
       case when h.fresh and a.may_see then h.reason end as reason,
       case when h.fresh then h.sqlstate end as sqlstate,
       h.latency,
       h.server_version,
       h.in_recovery,
       h.read_only,
       h.clock_offset,
       h.connections_left,
       h.probed_at,
       case when h.fresh then h.next_probe_at end as next_probe_at,
       n.server_name,
       u.subscriptions,
       u.shipping,
       u.retrying,
       u.stopped,
       u.next_retry_at
from courier.node n
left join (
    select s.*, s.updated_at > pg_catalog.clock_timestamp() - interval '2 min' as fresh
    from courier.node_state s) h on h.node_name = n.node_name
cross join lateral (
    select courier.is_administrator() or pg_catalog.pg_has_role('pg_monitor', 'USAGE') as may_see) a
cross join lateral (
    select pg_catalog.count(s.subscription_id)::int as subscriptions,
           pg_catalog.count(*) filter (where s.enabled and t.state in ('copying', 'streaming'))::int as shipping,
           pg_catalog.count(*) filter (where s.enabled and t.state = 'retrying')::int as retrying,
           pg_catalog.count(*) filter (where s.enabled and t.state in ('stopped', 'needs_resync'))::int as stopped,
           pg_catalog.min(t.next_retry_at) filter (where s.enabled and t.state = 'retrying') as next_retry_at
    from courier.subscription s
    left join courier.subscription_state t on t.subscription_id = s.subscription_id
    where s.node_name = n.node_name) u;
comment on view courier.node_status is 'nodes, their health, and how the subscriptions to them are doing';
comment on column courier.node_status.node_name is 'the node';
comment on column courier.node_status.state is
    'up, degraded (reachable, but see reason), down, or unknown: no prober has told in the last two minutes';
comment on column courier.node_status.since is 'when it came into this state';
comment on column courier.node_status.reason is 'why it is not up, and what to do; for administrators and pg_monitor';
comment on column courier.node_status.sqlstate is 'SQLSTATE of the reason, if it has one';
comment on column courier.node_status.latency is 'round trip of a trivial query, median of the last five';
comment on column courier.node_status.server_version is 'PostgreSQL version of the node';
comment on column courier.node_status.in_recovery is 'whether it is a standby';
comment on column courier.node_status.read_only is 'whether transactions are read-only by default';
comment on column courier.node_status.clock_offset is 'how far its clock is ahead of this server''s';
comment on column courier.node_status.connections_left is 'connections that ordinary roles may still open; null if it is not known';
comment on column courier.node_status.probed_at is 'when it was last probed, as far as it has been written down';
comment on column courier.node_status.next_probe_at is 'when it was to be probed next at that time';
comment on column courier.node_status.server_name is 'foreign server that says how to reach it';
comment on column courier.node_status.subscriptions is 'subscriptions that send to it';
comment on column courier.node_status.shipping is 'how many of them are copying or streaming';
comment on column courier.node_status.retrying is 'how many of them are waiting to try again';
comment on column courier.node_status.stopped is 'how many of them have stopped or need a resync';
comment on column courier.node_status.next_retry_at is 'when the next of the retrying ones is tried';

grant select on courier.node_status to public;
