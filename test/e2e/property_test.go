package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

const (
	propertySessions     = 16
	propertyTransactions = 2400 // that have ended, one way or other
)

// FAULTS: savepoint rolled back (plpgsql EXCEPTION too), nested; PREPARE
// TRANSACTION; REPEATABLE READ and SERIALIZABLE writers. Random transactions in
// many sessions while a sidecar ships, which is killed once; whatever they did,
// the target equals the source.
func TestPropertyRandomTransactions(t *testing.T) {
	seed := randomSeed(t)
	r := startReplica(t, pgtest.Settings(map[string]string{
		"deadlock_timeout": "20ms", "log_min_messages": "fatal", // errors are part of it
	}))
	r.onBoth(propertyTables)
	r.add("default", propertyKeyed...)
	r.addKeyless("journal")
	r.subscribe("{default,log}", false)
	courier := r.startSidecar()
	r.wait()

	p := &property{r: r, shelf: shelf{random: randomSource(seed, 0)}}
	watch, stopWatching := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() { p.countPositions(watch) })

	var sessions sync.WaitGroup
	enough := func() bool { return p.ended.Load() >= propertyTransactions }
	failures := make(chan error, propertySessions)
	for i := range propertySessions {
		sessions.Go(func() {
			if err := p.session(t.Context(), i, randomSource(seed, uint64(i)+1), enough); err != nil {
				failures <- fmt.Errorf("session %d: %w", i, err)
			}
		})
	}
	ended := make(chan struct{})
	go func() { sessions.Wait(); close(ended) }()
	eventually(t, "half of the transactions", func() bool { return p.ended.Load() > propertyTransactions/2 || closed(ended) })
	courier.kill9()
	courier = r.startSidecar()
	<-ended
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}

	// Some are prepared still: nothing of them is to be seen, and what comes
	// after them does not wait.
	pending := p.shelf.count()
	require.Positive(t, pending)
	r.wait()
	r.requireEqual(append(propertyKeyed, "journal")...)

	p.settleAll(t)
	r.wait()
	stopWatching()
	background.Wait()
	r.requireEqual(append(propertyKeyed, "journal")...)
	require.Equal(t, "0", r.sourceValue("SELECT count(*) FROM pg_prepared_xacts"))
	t.Logf("%d transactions: %d committed, %d rolled back, %d prepared over at least %d positions each, %d to the end; %d tried again; %d positions; %s rows in journal",
		p.ended.Load(), p.committed.Load(), p.rolledBack.Load(), p.shelf.settled, p.shelf.leastSpan, pending, p.retried.Load(),
		p.positions.Load(), r.sourceValue("SELECT count(*) FROM journal"))
	require.Greater(t, p.shelf.settled, 10)
	require.Greater(t, p.positions.Load(), int64(20), "the target moved too rarely for this to mean something")
	courier.stop()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// property is one run.
type property struct {
	r     *replica
	shelf shelf

	ended, committed, rolledBack, retried atomic.Int64
	positions                             atomic.Int64 // that the target was seen at
}

// countPositions counts the positions that the target goes through.
func (p *property) countPositions(ctx context.Context) {
	conn, err := p.r.target.Open(ctx, appDatabase)
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	last := ""
	for wait(ctx, 5*time.Millisecond) {
		var position string
		if conn.QueryRow(ctx, "SELECT position FROM courier_target.progress").Scan(&position) == nil && position != last {
			last = position
			p.positions.Add(1)
		}
	}
}

// session runs random transactions until it is enough.
func (p *property) session(ctx context.Context, number int, random *rand.Rand, enough func() bool) error {
	conn, err := p.r.source.Open(ctx, appDatabase)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	// A prepared transaction may hold a row for long: give up and try another.
	if _, err = conn.Exec(ctx, "SET lock_timeout = '100ms'"); err != nil {
		return err
	}
	run := func(sql string) error {
		_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}
	g := &generator{random: random}
	for n := 0; !enough(); n++ {
		if due := p.shelf.due(p.ended.Load(), p.positions.Load()); due != "" {
			if err := run(due); err != nil {
				return fmt.Errorf("%s: %w", due, err)
			}
			p.ended.Add(1)
		}
		token := fmt.Sprintf("%d-%d", number, n)
		err := p.transaction(g, token, run)
		if err != nil && !passes(err) {
			return err
		}
		if err != nil {
			p.retried.Add(1)
			if err = run("ROLLBACK"); err != nil {
				return err
			}
		}
	}
	return nil
}

// transaction runs one to its end, or onto the shelf.
func (p *property) transaction(g *generator, token string, run func(sql string) error) error {
	tx := g.transaction(token)
	if err := run("BEGIN ISOLATION LEVEL " + tx.isolation); err != nil {
		return err
	}
	for _, sql := range tx.statements {
		if err := run(sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	switch g.random.IntN(10) {
	case 0:
		p.rolledBack.Add(1)
		p.ended.Add(1)
		return run("ROLLBACK")
	case 1:
		if !p.shelf.reserve() {
			break
		}
		if err := run("PREPARE TRANSACTION '" + token + "'"); err != nil {
			p.shelf.release()
			return err
		}
		p.shelf.put(token, p.ended.Load(), p.positions.Load())
		return nil
	}
	if err := run("COMMIT"); err != nil {
		return err
	}
	p.committed.Add(1)
	p.ended.Add(1)
	return nil
}

// passes says that an error comes from meeting another transaction.
func passes(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", "55P03", "23505":
		return true
	case "57014":
		// lock_timeout too. When it runs out while one lock is being granted, and the
		// statement waits for the next one before it looks, PostgreSQL has forgotten
		// what it was and takes it for a cancel. (enable_timeout() clears the
		// indicator that ProcSleep() preserved.)
		return true
	}
	return false
}

// settleAll ends the transactions that are still prepared.
func (p *property) settleAll(t *testing.T) {
	t.Helper()
	for {
		sql := p.shelf.any()
		if sql == "" {
			return
		}
		p.r.onSource(sql)
		p.ended.Add(1)
	}
}
