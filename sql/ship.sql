-- Shipping from psql: the engine runs in the calling session.

CREATE FUNCTION courier.ship(subscription_name pg_catalog.name DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'courier_ship';
COMMENT ON FUNCTION courier.ship(pg_catalog.name) IS
    'Ships what is queued for a subscription (or, without a name, for each enabled one) now, in this session; returns the number of changes shipped.';
