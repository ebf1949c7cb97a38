package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
	"github.com/pg-courier/pg_courier/test/e2e/schemagen"
)

const (
	randomSchemas = 200 // unless COURIER_TEST_SCHEMAS says otherwise
	schemaWorkers = 4
	plainDatabase = "plain"    // belongs to a role that may not set session_replication_role
	plainNode     = "eu_plain" // which connects to it
)

// FAULTS: every row that speaks of tables and statements. Random schemas, each with
// a random stream of statements; in the end the tables of both sides are equal.
// See COURIER_TEST_SCHEMAS in doc.go.
func TestRandomSchemas(t *testing.T) {
	seed := randomSeed(t)
	count := randomSchemas
	if text := os.Getenv("COURIER_TEST_SCHEMAS"); text != "" {
		var err error
		count, err = strconv.Atoi(text)
		require.NoError(t, err, "COURIER_TEST_SCHEMAS")
		if count == 0 {
			count = math.MaxInt
		}
	}
	have := startSchemas(t)

	var next atomic.Int64
	var workers sync.WaitGroup
	var mu sync.Mutex
	var failed []*schemaFailure
	codes := make(map[string]int)
	for range min(schemaWorkers, count) {
		workers.Go(func() {
			w := have.worker(t.Context())
			defer w.close()
			for i := next.Add(1) - 1; int(i) < count; i = next.Add(1) - 1 {
				mu.Lock()
				enough := len(failed) >= 3
				mu.Unlock()
				if enough {
					break
				}
				schema := schemagen.New(seed+uint64(i), have.features)
				if err := w.run(t.Context(), schema, schema.Steps); err != nil {
					t.Logf("seed %d: %v", schema.Seed, err) // in full when all have ended
					mu.Lock()
					failed = append(failed, &schemaFailure{schema: schema, steps: schema.Steps, err: err})
					mu.Unlock()
					w.close()
					w = have.worker(t.Context())
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for code, n := range w.codes {
				codes[code] += n
			}
		})
	}
	workers.Wait()
	all := 0
	var counts []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		all += codes[code]
		counts = append(counts, fmt.Sprintf("%s: %d", code, codes[code]))
	}
	t.Logf("%d schemas, %d statements; by SQLSTATE: %s", min(count, int(next.Load())), all, strings.Join(counts, ", "))
	for _, failure := range failed {
		failure.shrink(t.Context(), have)
		t.Error(failure)
	}
	if count >= randomSchemas && len(failed) == 0 {
		require.Greater(t, codes["00000"], all*6/10, "most statements have to succeed, or the test is about errors")
	}
}

// schemaClusters are the pair that all schemas are on.
type schemaClusters struct {
	*replica
	features schemagen.Features
}

func startSchemas(t *testing.T) *schemaClusters {
	t.Helper()
	c := &schemaClusters{replica: startReplica(t, pgtest.Settings(map[string]string{
		"log_min_messages": "fatal", "courier.workers": "off", "deadlock_timeout": "50ms", "max_locks_per_transaction": "256",
	}))}
	c.target.Exec(t, appDatabase, "CREATE DATABASE "+plainDatabase+" OWNER "+pgtest.PasswordRole)
	c.onSource("SELECT courier.create_node($1, dsn => $2)", plainNode, c.target.DSNAs(plainDatabase, pgtest.PasswordRole, pgtest.Password))
	for _, node := range []string{targetNode, plainNode} { // whose last subscription takes the bookkeeping along
		c.onSource("SELECT courier.create_subscription($1, $2, copy_data => false)", "keeps_"+node, node)
		c.onSource("SELECT courier.ship($1)", "keeps_"+node)
	}
	c.features = schemagen.Features{ICU: c.sourceValue("SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'") == "t",
		Extensions: make(map[string]bool)}
	var err error
	c.features.Version, err = strconv.Atoi(c.sourceValue("SHOW server_version_num"))
	require.NoError(t, err)
	for _, row := range c.source.Query(t, appDatabase, "SELECT name FROM pg_available_extensions WHERE name IN ('hstore', 'citext', 'ltree')") {
		c.features.Extensions[row[0]] = true
		create := "CREATE EXTENSION " + row[0] + " SCHEMA public"
		c.onBoth(create)
		c.target.Exec(t, plainDatabase, create)
	}
	return c
}

// worker opens the sessions of one worker.
func (c *schemaClusters) worker(ctx context.Context) *schemaWorker {
	w := &schemaWorker{clusters: c, codes: make(map[string]int)}
	w.open(ctx)
	return w
}

// schemaFailure is a schema that went wrong, with the steps that show it.
type schemaFailure struct {
	schema *schemagen.Schema
	steps  []schemagen.Step
	err    error // of the whole stream
	less   error // of the steps that are left
	note   string
}

// A failing stream is tried with fewer steps so often, and so long.
const (
	shrinkRuns = 80
	shrinkTime = 40 * time.Second
)

// shrink leaves steps out as long as it still goes wrong in the same way: without
// the end of a prepared transaction, say, others wait for its locks.
func (f *schemaFailure) shrink(ctx context.Context, c *schemaClusters) {
	runs, start := 0, time.Now()
	fails := func(steps []schemagen.Step) bool {
		runs++
		w := c.worker(ctx)
		defer w.close()
		err := w.run(ctx, f.schema, steps)
		if err == nil || failureKind(err) != failureKind(f.err) {
			return false
		}
		f.less = err
		return true
	}
	if !fails(f.steps) {
		f.note = "it did not happen again when the same steps were run once more, in new sessions"
		return
	}
	if fails(nil) { // the definitions do
		f.steps = nil
	}
	for size := (len(f.steps) + 1) / 2; size >= 1; size /= 2 {
		for from := 0; from < len(f.steps) && runs < shrinkRuns && time.Since(start) < shrinkTime; {
			less := slices.Concat(f.steps[:from], f.steps[min(len(f.steps), from+size):])
			if fails(less) {
				f.steps = less
			} else {
				from += size
			}
		}
	}
	f.note = fmt.Sprintf("the steps that are left after %d runs", runs)
	fails(f.steps) // the error is that of these steps
}

// failureKind tells failures apart roughly.
func failureKind(err error) string {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return refused.Code
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "difference"
}

// String is all that is needed to see what went wrong.
func (f *schemaFailure) String() string {
	var b strings.Builder
	s := f.schema
	fmt.Fprintf(&b, "seed %d: %v\n(run it again with COURIER_TEST_SCHEMAS=1 COURIER_SEED=%d; %s)\n", s.Seed, f.err, s.Seed, f.note)
	if f.less != nil {
		fmt.Fprintf(&b, "with the steps that are left: %v\n", f.less)
	}
	part := func(title string, lines []string) {
		fmt.Fprintf(&b, "-- %s\n", title)
		for _, line := range lines {
			fmt.Fprintf(&b, "%s;\n", shortenLiterals(line))
		}
	}
	part("on the source", s.Here)
	part("on the target", s.There)
	part("sets", s.Publish)
	fmt.Fprintf(&b, "-- copy_data => %v, options => '%s', plain role: %v\n", s.CopyData, s.Options, s.Plain)
	if s.CopyData {
		var lines []string
		for _, step := range s.First {
			lines = append(lines, strings.TrimSpace(step.SQL+"\n"+step.Copy))
		}
		part("before the subscription", lines)
	}
	b.WriteString("-- steps\n")
	for _, step := range f.steps {
		if step.SQL == "" {
			b.WriteString("-- ship\n")
			continue
		}
		fmt.Fprintf(&b, "/* session %d */ %s;\n", step.Session, shortenLiterals(step.SQL))
		if step.Copy != "" {
			fmt.Fprintf(&b, "%s\\.\n", shortenLiterals(step.Copy))
		}
	}
	return b.String()
}

// shortenLiterals keeps wide values readable.
func shortenLiterals(sql string) string {
	parts := strings.Split(sql, "'")
	for i := range parts {
		if len(parts[i]) > 2000 {
			parts[i] = fmt.Sprintf("%s… %d bytes", string([]rune(parts[i])[:20]), len(parts[i]))
		}
	}
	return strings.Join(parts, "'")
}
