-- Shipping from psql: the engine runs in the calling session.

CREATE FUNCTION courier.ship(subscription_name pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.int8
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'courier_ship';
COMMENT ON FUNCTION courier.ship(pg_catalog.text) IS
    'Ships what is queued for a subscription (or, without a name, for each enabled one) now, in this session; returns the number of changes shipped.';

CREATE FUNCTION courier.wait_for_changes(timeout pg_catalog.interval)
RETURNS pg_catalog.bool
LANGUAGE plpgsql VOLATILE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    deadline CONSTANT timestamptz := clock_timestamp() + timeout;
    since pg_snapshot;
    pause double precision := 0.002;
BEGIN
    PERFORM courier.require_administrator();
    PERFORM courier.require_read_committed('wait_for_changes');
    since := courier.position();
    -- each statement has a snapshot of its own
    WHILE (courier.look(since, courier.position(), ARRAY(SELECT pg_snapshot_xip(since)))).first_k IS NULL LOOP
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(pause, extract(epoch FROM deadline - clock_timestamp())));
        pause := least(2 * pause, 0.2);
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION courier.wait_for_changes(pg_catalog.interval) IS
    'Waits until a transaction that queued something has committed since the call; false after the timeout. Polls, with pauses from 2 to 200 ms.';
