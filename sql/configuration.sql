-- Catalog tables. Configuration is what a DBA decides; it is dumped by pg_dump.
-- State is what shippers write down; it is not, since positions mean nothing in
-- another cluster. No table here holds a DSN or a password: those live in the
-- foreign server and user mapping of the node.
--
-- There is no foreign key between configuration tables: a parallel pg_restore
-- fills them in any order. The functions, which change configuration one at a
-- time, see to it that what is referred to exists.

create table courier.configuration (
    generation int8 not null,
    only_row boolean not null default true,
    constraint configuration_pkey primary key (only_row),
    constraint configuration_only_row check (only_row)
);
comment on table courier.configuration is
    'one row, changed with every change of configuration; also the lock that puts configuration changes in a line';
comment on column courier.configuration.generation is 'grows with every change of a configuration table, so that shippers notice';
comment on column courier.configuration.only_row is 'always true: keeps the table at one row';
insert into courier.configuration (generation) values (1);

create function courier.wake_at_commit() returns void
language c volatile strict
as 'MODULE_PATHNAME', 'courier_wake_at_commit';
revoke execute on function courier.wake_at_commit() from public;
comment on function courier.wake_at_commit() is
    'lets the commit of this transaction wake those who wait for changes, and who starts workers, also if it queues nothing';

create function courier.bump_generation() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update courier.configuration c set generation = c.generation + 1;
    perform courier.wake_at_commit();
    return null;
end
$$;
revoke execute on function courier.bump_generation() from public;
comment on function courier.bump_generation() is 'statement trigger of every configuration table: tells shippers that it changed';

-- Every function that changes configuration takes this before it reads any:
-- else one session that adds a table and one that creates a subscription would
-- not see each other, and the table would stay without capture triggers.
-- Readers are not held up.
create function courier.lock_configuration() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    lock table courier.configuration in exclusive mode;
end
$$;
revoke execute on function courier.lock_configuration() from public;
comment on function courier.lock_configuration() is 'makes configuration changes wait for each other until the end of the transaction';

create table courier.local_node (
    node_name name not null,
    epoch uuid not null default gen_random_uuid(),
    created_at timestamptz not null default now(),
    only_row boolean not null default true,
    constraint local_node_pkey primary key (only_row),
    constraint local_node_only_row check (only_row),
    constraint local_node_name_not_empty check (node_name <> '')
);
comment on table courier.local_node is 'what this database is called by others; at most one row';
comment on column courier.local_node.node_name is 'name of this database as a node';
comment on column courier.local_node.epoch is 'identity of this copy of the database; a restored dump gets its own';
comment on column courier.local_node.created_at is 'when the name was first set';
comment on column courier.local_node.only_row is 'always true: keeps the table at one row';

create table courier.node (
    node_name name not null,
    server_name name not null,
    server_owned boolean not null,
    created_at timestamptz not null default now(),
    constraint node_pkey primary key (node_name),
    constraint node_name_not_empty check (node_name <> '')
);
comment on table courier.node is 'databases that changes can be sent to';
comment on column courier.node.node_name is 'name of the node';
comment on column courier.node.server_name is 'foreign server of dblink_fdw that says how to reach it; its user mapping holds user and password';
comment on column courier.node.server_owned is 'whether create_node made the server, so that drop_node drops it';
comment on column courier.node.created_at is 'when the node was created';

create table courier.replication_set (
    set_name name not null,
    replicate_insert boolean not null,
    replicate_update boolean not null,
    replicate_delete boolean not null,
    replicate_truncate boolean not null,
    ddl text not null default 'none',
    constraint replication_set_pkey primary key (set_name),
    constraint replication_set_name_not_empty check (set_name <> ''),
    constraint replication_set_ddl_known check (ddl in ('none', 'auto')),
    constraint replication_set_replicates_something
        check (replicate_insert or replicate_update or replicate_delete or replicate_truncate)
);
comment on table courier.replication_set is 'sets of tables, each with the operations that are replicated';
comment on column courier.replication_set.set_name is 'name of the set; default exists from the start';
comment on column courier.replication_set.replicate_insert is 'whether inserted rows are sent';
comment on column courier.replication_set.replicate_update is 'whether updated rows are sent';
comment on column courier.replication_set.replicate_delete is 'whether deleted rows are sent';
comment on column courier.replication_set.replicate_truncate is 'whether TRUNCATE is sent';
comment on column courier.replication_set.ddl is 'auto: DDL on its tables, and new tables of its schemas, are sent; none';

create table courier.replication_set_schema (
    set_name name not null,
    schema regnamespace not null,
    constraint replication_set_schema_pkey primary key (set_name, schema)
);
comment on table courier.replication_set_schema is 'schemas of which a set with ddl => auto takes tables that are created';
comment on column courier.replication_set_schema.set_name is 'the set';
comment on column courier.replication_set_schema.schema is 'the schema';

-- relation is a regclass, not an oid, for pg_dump: it is written as a name and
-- finds the table again in the database it is restored to.
create table courier.replication_set_table (
    set_name name not null,
    relation regclass not null,
    columns name[],
    column_numbers int2[],
    row_filter text,
    filter_id int,
    added pg_snapshot not null,
    constraint replication_set_table_pkey primary key (set_name, relation),
    constraint replication_set_table_filter_has_number check ((row_filter is null) = (filter_id is null))
);
create sequence courier.row_filter_id_seq as int;
comment on sequence courier.row_filter_id_seq is 'numbers of row filters; never used again, since queued changes name them';
create index replication_set_table_relation_idx on courier.replication_set_table (relation);
comment on table courier.replication_set_table is 'tables of the replication sets';
comment on column courier.replication_set_table.set_name is 'the set';
comment on column courier.replication_set_table.relation is 'the table, or the root of a partitioned one';
comment on column courier.replication_set_table.columns is 'columns that are sent; null for all, those added later too';
comment on column courier.replication_set_table.column_numbers is 'numbers of those columns, by which they are known when they are renamed';
comment on column courier.replication_set_table.row_filter is 'condition on the rows that are sent; null for all';
comment on column courier.replication_set_table.filter_id is
    'number of the filter, in the name of the disabled trigger that holds it; equal filters of a table share one';
comment on column courier.replication_set_table.added is 'position at which the table was added: transactions visible in it are not sent because of this set';

create table courier.subscription (
    subscription_id int generated by default as identity,
    subscription_name name not null,
    progress_key uuid not null default gen_random_uuid(),
    node_name name not null,
    replication_sets name[] not null,
    copy_data boolean not null,
    capture text not null,
    enabled boolean not null,
    options jsonb not null default '{}',
    start_position pg_snapshot,
    created_at timestamptz not null default now(),
    constraint subscription_pkey primary key (subscription_id),
    constraint subscription_name_key unique (subscription_name),
    constraint subscription_progress_key_key unique (progress_key),
    constraint subscription_name_not_empty check (subscription_name <> ''),
    constraint subscription_capture_known check (capture in ('trigger', 'wal')),
    constraint subscription_options_object check (jsonb_typeof(options) = 'object'),
    constraint subscription_enabled_has_start check (start_position is not null or not enabled)
);
comment on table courier.subscription is 'what is sent where: replication sets of this database to a node';
comment on column courier.subscription.subscription_id is 'number of the subscription';
comment on column courier.subscription.subscription_name is 'name of the subscription';
comment on column courier.subscription.progress_key is 'key of its progress on the target; a restored dump gets another one and so cannot pass for the original';
comment on column courier.subscription.node_name is 'node that the changes go to';
comment on column courier.subscription.replication_sets is 'sets whose tables are sent';
comment on column courier.subscription.copy_data is 'whether rows that existed before are copied first';
comment on column courier.subscription.capture is 'how changes are captured: trigger or wal';
comment on column courier.subscription.enabled is 'whether it is shipped; a disabled one keeps what it has not shipped in the queue';
comment on column courier.subscription.options is 'options as given to create_subscription';
comment on column courier.subscription.start_position is 'position from which changes are sent; null in a restored dump, where none is valid';
comment on column courier.subscription.created_at is 'when the subscription was created';

-- Rows that get here by COPY from a dump bear positions and identities of
-- another cluster. Every inserted row therefore starts over; the functions
-- that create rows set the position by an UPDATE afterwards, which they have to
-- anyhow, since it is taken after capture is in place.
create function courier.start_over() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    case tg_table_name
        when 'local_node' then
            new.epoch := gen_random_uuid();
        when 'replication_set' then
            -- Set default is there before its row in a dump is.
            if new.set_name = 'default' and exists (select from courier.replication_set s where s.set_name = 'default') then
                update courier.replication_set s
                set replicate_insert = new.replicate_insert, replicate_update = new.replicate_update,
                    replicate_delete = new.replicate_delete, replicate_truncate = new.replicate_truncate, ddl = new.ddl
                where s.set_name = 'default';
                return null;
            end if;
        when 'replication_set_table' then
            new.added := courier.position();
            new.column_numbers := courier.column_numbers(new.relation, new.columns);
        when 'subscription' then
            new.progress_key := gen_random_uuid();
            new.start_position := null;
            new.enabled := false;
    end case;
    return new;
end
$$;
revoke execute on function courier.start_over() from public;
comment on function courier.start_over() is 'insert trigger: positions and identities in a restored dump are not those of this database';

create table courier.subscription_state (
    subscription_id int not null,
    state text not null,
    position text,
    durable_position text,
    last_error text,
    last_error_sqlstate text,
    last_error_hint text,
    last_error_xid xid8,
    last_error_k pg_lsn,
    last_error_schema name,
    last_error_table name,
    last_error_operation text,
    last_error_key text,
    next_retry_at timestamptz,
    shipper text,
    updated_at timestamptz not null default now(),
    detached_at timestamptz,
    constraint subscription_state_pkey primary key (subscription_id),
    constraint subscription_state_subscription_fkey foreign key (subscription_id)
        references courier.subscription (subscription_id) on delete cascade,
    constraint subscription_state_known
        check (state in ('copying', 'streaming', 'retrying', 'stopped', 'disabled', 'needs_resync')),
    constraint subscription_state_shipper_known
        check (shipper in ('sidecar', 'worker', 'session'))
) with (fillfactor = 50);
comment on table courier.subscription_state is
    'how far each subscription is, written down about once a second; the progress row on the target is the authority';
comment on column courier.subscription_state.subscription_id is 'the subscription';
comment on column courier.subscription_state.state is 'copying, streaming, retrying, stopped, disabled or needs_resync';
comment on column courier.subscription_state.position is 'applied on the target: a snapshot, or P|S|K|XID inside the interval (P,S]; null until existing rows are copied';
comment on column courier.subscription_state.durable_position is 'known to be flushed on the target; rotation goes by it';
comment on column courier.subscription_state.last_error is 'message of the last error';
comment on column courier.subscription_state.last_error_sqlstate is 'its SQLSTATE';
comment on column courier.subscription_state.last_error_hint is 'what to do about it';
comment on column courier.subscription_state.last_error_xid is 'transaction that it stopped at';
comment on column courier.subscription_state.last_error_k is 'place of that transaction in the order of shipping';
comment on column courier.subscription_state.last_error_schema is 'schema of the table at fault';
comment on column courier.subscription_state.last_error_table is 'the table at fault';
comment on column courier.subscription_state.last_error_operation is 'insert, update, delete, upsert, truncate, event or ddl';
comment on column courier.subscription_state.last_error_key is 'key of the row at fault';
comment on column courier.subscription_state.next_retry_at is 'when a retrying subscription is tried again';
comment on column courier.subscription_state.shipper is 'who shipped last: sidecar, worker or session';
comment on column courier.subscription_state.updated_at is 'when this row was last written';
comment on column courier.subscription_state.detached_at is
    'when the queue gave up what it had not confirmed; null while all of that is kept';

create table courier.shape (
    id int8 generated by default as identity,
    relation oid not null,
    definition bytea not null,
    constraint shape_id_fits check (id between 1 and 4294967295)
);
-- Not unique: a shape stored by a prepared transaction, which may never commit,
-- is stored again by the next one of the same session.
create index shape_id_idx on courier.shape (id);
create index shape_relation_idx on courier.shape (relation);
comment on table courier.shape is 'layouts of captured tables; a queued change keeps the one it was made with';
comment on column courier.shape.id is 'number by which messages in the queue name the layout, unsigned 32 bits';
comment on column courier.shape.relation is 'table it is published as: the one it was taken from, or its partitioned root';
comment on column courier.shape.definition is 'a Relation message of pgoutput, with 0 as the relation''s number';

create trigger start_over before insert on courier.local_node
    for each row execute function courier.start_over();
create trigger start_over before insert on courier.replication_set
    for each row execute function courier.start_over();
create trigger start_over before insert on courier.replication_set_table
    for each row execute function courier.start_over();
create trigger start_over before insert on courier.subscription
    for each row execute function courier.start_over();

create trigger bump_generation after insert or update or delete or truncate on courier.local_node
    for each statement execute function courier.bump_generation();
create trigger bump_generation after insert or update or delete or truncate on courier.node
    for each statement execute function courier.bump_generation();
create trigger bump_generation after insert or update or delete or truncate on courier.replication_set
    for each statement execute function courier.bump_generation();
create trigger bump_generation after insert or update or delete or truncate on courier.replication_set_table
    for each statement execute function courier.bump_generation();
create trigger bump_generation after insert or update or delete or truncate on courier.subscription
    for each statement execute function courier.bump_generation();

insert into courier.replication_set values ('default', true, true, true, true);

select pg_catalog.pg_extension_config_dump('courier.local_node', '');
select pg_catalog.pg_extension_config_dump('courier.node', '');
select pg_catalog.pg_extension_config_dump('courier.replication_set', '');
select pg_catalog.pg_extension_config_dump('courier.replication_set_schema', '');
select pg_catalog.pg_extension_config_dump('courier.replication_set_table', '');
select pg_catalog.pg_extension_config_dump('courier.subscription', '');
select pg_catalog.pg_extension_config_dump('courier.subscription_subscription_id_seq', '');
select pg_catalog.pg_extension_config_dump('courier.row_filter_id_seq', '');
