package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// A writer that is cancelled while it looks for the segment to write to looks for it
// again in its next transaction.
func TestWriterCancelledInLookingForTheQueue(t *testing.T) {
	r := startReplica(t, pgtest.Setting("courier.workers", "off"), pgtest.Setting("synchronize_seqscans", "off"))
	r.onSource("CREATE TABLE item (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
	r.onTarget("CREATE TABLE item (id int PRIMARY KEY)")
	r.add("default", "item")
	r.subscribe("{default}", false)
	// The row is behind many that are dead: it takes some milliseconds to find.
	holder, canceller := connectBackend(t, r.source), connectBackend(t, r.source)
	holder.exec("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1", pgx.QueryExecModeSimpleProtocol)
	canceller.exec(`BEGIN;
		ALTER TABLE courier.queue_current DROP CONSTRAINT queue_current_pkey;
		INSERT INTO courier.queue_current (segment, rotations) SELECT segment, 1 FROM courier.queue_current, generate_series(1, 200000);
		INSERT INTO courier.queue_current (segment, rotations) SELECT DISTINCT segment, 2 FROM courier.queue_current;
		DELETE FROM courier.queue_current WHERE rotations < 2;
		COMMIT`, pgx.QueryExecModeSimpleProtocol)
	cancelled := 0
	for pause := time.Duration(0); pause < 20*time.Millisecond; pause += time.Millisecond {
		writer := connectBackend(t, r.source)
		ended := writer.start("INSERT INTO item DEFAULT VALUES")
		wait(t.Context(), pause)
		canceller.exec("SELECT pg_cancel_backend($1)", writer.pid)
		err := <-ended
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			require.Equal(t, "57014", refused.Code)
			cancelled++
		} else {
			require.NoError(t, err)
		}
		writer.exec("INSERT INTO item DEFAULT VALUES")
		require.NoError(t, writer.conn.Close(t.Context()))
	}
	require.Positive(t, cancelled)
}
