package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(pgtest.Cleaning(m))
}

// Names on every pair of clusters.
const (
	appDatabase  = "app"
	targetNode   = "eu"
	subscription = "to_eu"
)

// patience bounds every wait for something that has to happen.
const patience = 60 * time.Second

// replica is a pair of clusters, each with the database app. The source has the
// extension, is node "here" and knows the target as node "eu".
type replica struct {
	t              *testing.T
	source, target *pgtest.Cluster
}

// startReplica starts both clusters with the same options.
func startReplica(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	r := startBare(t, opts...)
	r.install(r.target.DSN(appDatabase))
	return r
}

// startBare starts both clusters, without the extension or a node.
func startBare(t *testing.T, opts ...pgtest.Option) *replica {
	t.Helper()
	options := func(name string) []pgtest.Option {
		return append([]pgtest.Option{pgtest.Name(name), pgtest.Setting("max_prepared_transactions", "64")}, opts...)
	}
	r := &replica{t: t, source: pgtest.Start(t, options("source")...), target: pgtest.Start(t, options("target")...)}
	r.source.Database(t, appDatabase)
	r.target.Database(t, appDatabase)
	return r
}

// install makes the source's extension and the nodes.
func (r *replica) install(targetDSN string) {
	r.t.Helper()
	r.onSource("CREATE EXTENSION pg_courier CASCADE")
	r.onSource("SELECT courier.set_local_node('here')")
	r.onSource("SELECT courier.create_node($1, dsn => $2)", targetNode, targetDSN)
}

// onSource, onTarget and onBoth execute statements, several with ; between
// them if there are no arguments.
func (r *replica) onSource(sql string, args ...any) {
	r.t.Helper()
	r.source.Exec(r.t, appDatabase, sql, args...)
}

func (r *replica) onTarget(sql string, args ...any) {
	r.t.Helper()
	r.target.Exec(r.t, appDatabase, sql, args...)
}

func (r *replica) onBoth(sql string) {
	r.t.Helper()
	r.onSource(sql)
	r.onTarget(sql)
}

// sourceValue and targetValue give the one value of a query.
func (r *replica) sourceValue(sql string) string {
	r.t.Helper()
	return r.source.Value(r.t, appDatabase, sql)
}

func (r *replica) targetValue(sql string) string {
	r.t.Helper()
	return r.target.Value(r.t, appDatabase, sql)
}

// add puts tables into a replication set.
func (r *replica) add(set string, tables ...string) {
	r.t.Helper()
	for _, table := range tables {
		r.onSource("SELECT courier.replication_set_add_table($1::text, $2::text)", set, table)
	}
}

// addKeyless makes the set "log", which sends inserts and TRUNCATE only, and
// puts tables without a key into it.
func (r *replica) addKeyless(tables ...string) {
	r.t.Helper()
	r.onSource("SELECT courier.create_replication_set('log', replicate_update => false, replicate_delete => false)")
	r.add("log", tables...)
}

// subscribe creates the subscription; sets are as in '{default,log}'.
func (r *replica) subscribe(sets string, copyData bool) {
	r.t.Helper()
	r.onSource("SELECT courier.create_subscription($1, $2, $3::text[], copy_data => $4)",
		subscription, targetNode, sets, copyData)
}

// ship ships in a session of the source, without a sidecar.
func (r *replica) ship() {
	r.t.Helper()
	r.onSource("SELECT courier.ship($1)", subscription)
}

// wait returns when everything committed before the call has arrived.
func (r *replica) wait() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience+30*time.Second)
	defer cancel()
	conn, err := r.source.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	var arrived bool
	err = conn.QueryRow(ctx, "SELECT courier.wait_for_subscription($1, $2::interval)",
		subscription, patience.String()).Scan(&arrived)
	require.NoError(r.t, err)
	if !arrived {
		r.t.Fatalf("not everything arrived within %s; status: %v", patience, r.status())
	}
}

// status is the subscription's row of subscription_status.
func (r *replica) status() map[string]any {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := r.source.Open(ctx, appDatabase)
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT * FROM courier.subscription_status WHERE subscription_name = $1", subscription)
	require.NoError(r.t, err)
	status, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
	require.NoError(r.t, err)
	return status
}

// eventually waits until a condition holds; what names it in a message.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	within(t, patience, what, condition)
}

// within is eventually for what takes longer, or less long.
func within(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("wait for %s: not within %s", what, limit)
		}
		<-ticker.C
	}
}
