package e2e

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Transactions whose numbers pass 2^31 and 2^32 are shipped as any others, also
// one that began before the border and commits behind it.
func TestTransactionNumbersPassBorders(t *testing.T) {
	const ahead = 150
	for name, border := range map[string]uint64{"half": 1 << 31, "whole": 1 << 32} {
		t.Run(name, func(t *testing.T) {
			r := startBare(t, pgtest.Setting("autovacuum", "off"))
			for _, database := range []string{"postgres", "template1", appDatabase} {
				r.source.Exec(t, database, "VACUUM FREEZE")
			}
			require.NoError(t, r.source.Stop(pgtest.Fast))
			require.NoError(t, r.source.SetNextXID(t.Context(), border-ahead))
			require.NoError(t, r.source.Start(t.Context()))
			r.install(r.target.DSN(appDatabase))
			r.onBoth("CREATE TABLE item (id int PRIMARY KEY, v text)")
			r.add("default", "item")
			r.onSource("INSERT INTO item VALUES (-1, 'copied')")
			r.subscribe("{default}", true)
			courier := r.startSidecar()
			r.wait()

			long := r.source.Connect(t, appDatabase)
			_, err := long.Exec(t.Context(), "BEGIN; INSERT INTO item VALUES (0, 'began before the border')")
			require.NoError(t, err)
			var began uint64
			require.NoError(t, long.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::int8").Scan(&began))
			require.Less(t, began, border)

			conn := r.source.Connect(t, appDatabase)
			for i := 1; i <= 2*ahead; i++ {
				_, err := conn.Exec(t.Context(), fmt.Sprintf(`BEGIN; INSERT INTO item VALUES (%[1]d, 'new'); SAVEPOINT a;
					UPDATE item SET v = v || '.' WHERE id = %[1]d / 2; ROLLBACK TO a; UPDATE item SET v = v || '!' WHERE id = %[1]d / 3 AND id > 0; COMMIT`, i))
				require.NoError(t, err)
				if i == ahead {
					r.wait()
				}
			}
			var last uint64
			require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::int8").Scan(&last))
			require.Greater(t, last, border)
			_, err = long.Exec(t.Context(), "UPDATE item SET v = v || ', of both sides' WHERE id < 10; COMMIT")
			require.NoError(t, err)
			r.wait()
			r.requireEqual("item")

			require.NoError(t, r.source.Restart(t.Context(), pgtest.Fast))
			r.onSource("DELETE FROM item WHERE id % 2 = 0")
			r.wait()
			r.requireEqual("item")
			courier.stop()
		})
	}
}
