-- Shipping from psql: the engine runs in the calling session.

CREATE FUNCTION courier.ship(subscription_name pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'courier_ship';
COMMENT ON FUNCTION courier.ship(pg_catalog.text) IS
    'Ships what is queued for a subscription (or, without a name, for each enabled one) now, in this session; returns the number of changes shipped.';

CREATE FUNCTION courier.wait_for_changes(timeout pg_catalog.interval)
RETURNS pg_catalog.bool
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_wait_for_changes';
COMMENT ON FUNCTION courier.wait_for_changes(pg_catalog.interval) IS
    'Waits until a transaction that queued something has committed since the last call of this session returned, or, in the first call, since it began; false after the timeout. Woken by the commit if pg_courier is preloaded, else polls, with pauses from 2 to 200 ms.';

CREATE FUNCTION courier.waiters()
RETURNS pg_catalog.int4
LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'courier_waiters';
REVOKE ALL ON FUNCTION courier.waiters() FROM PUBLIC;
COMMENT ON FUNCTION courier.waiters() IS
    'How many processes of the server wait for changes to be woken by a commit; NULL if pg_courier is not preloaded. There is room for 256, others poll.';
