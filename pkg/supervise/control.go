package supervise

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/change"
	"github.com/pg-courier/pg_courier/pkg/queue"
	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

const (
	// lookEvery is how often the control session looks for changes of the
	// configuration, and, when the bell does not work, into the queue.
	lookEvery = 100 * time.Millisecond
	// doubtEvery is how often it looks into the queue although the bell works.
	doubtEvery = time.Second
	// leaseEvery is how often it asks for leases that others hold.
	leaseEvery = 500 * time.Millisecond
	// staleAfter is after how much silence another's lease is taken away. It is
	// many times lookEvery, and with leaseEvery and the time to connect stays
	// under ten seconds.
	staleAfter = 7 * time.Second
)

// control holds the leases and keeps the loops those of the configuration, until
// its session fails or ctx is over. All loops have ended when it returns.
func (d *database) control(ctx, abandon context.Context, connected func()) error {
	s, err := session.Connect(ctx, d.dsn)
	if err != nil {
		return err
	}
	defer s.Close(abandon)
	if err = d.prepare(ctx, s); err != nil {
		return err
	}
	c := &controller{database: d, session: s, ended: make(chan *loop, 1), ending: make(map[int]bool), generation: -1}
	if c.seen, err = presentPosition(ctx, s); err != nil {
		return err
	}
	connected()
	d.state.set(slog.LevelInfo, "ready", nil, 0)

	attended, dismiss := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { d.fresh.run(attended, abandon, d.dsn, d.log) })
	defer group.Wait()
	defer dismiss()

	// Without the control session there are no leases: its loops are abandoned.
	loops, cancel := context.WithCancel(abandon)
	err = c.work(ctx, loops)
	if err != nil {
		cancel()
	}
	c.endAll()
	cancel()
	return err
}

// presentPosition is where the queue is now.
func presentPosition(ctx context.Context, s session.Session) (change.Snapshot, error) {
	text, _, err := session.Value(ctx, s, "SELECT courier.position()")
	if err != nil {
		return change.Snapshot{}, err
	}
	return change.ParseSnapshot(text)
}

// controller is the work of one control session.
type controller struct {
	*database
	session    *session.PGX
	seen       change.Snapshot // news up to here have been told
	looked     time.Time       // when the queue was last looked into
	generation int64           // of the configuration that the loops are of
	asked      time.Time       // when leases were last asked for
	ended      chan *loop      // loops that have ended by themselves
	ending     map[int]bool    // subscriptions whose loop has been told to, and has their lease
	house      housekeeping
}

// work returns nil when ctx is over.
func (c *controller) work(ctx, abandon context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := c.look(ctx, abandon); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-c.notes.due:
			if err := c.notes.write(abandon, c.session); err != nil {
				return err
			}
		case l := <-c.ended:
			if err := c.giveLease(abandon, l); err != nil {
				return err
			}
		}
	}
}

// look finds out what is new.
func (c *controller) look(ctx, abandon context.Context) error {
	c.beat.Store(time.Now().UnixNano())
	if err := c.house.keep(abandon, c); err != nil {
		return err
	}
	if !c.fresh.works.Load() || time.Since(c.looked) >= doubtEvery {
		c.looked = time.Now()
		end, err := queue.Look(abandon, c.session, c.seen)
		if err != nil {
			return err
		}
		if end != nil {
			c.seen = *end
			c.fresh.ring()
		}
	}
	text, _, err := session.Value(abandon, c.session, "SELECT generation FROM courier.configuration")
	if err != nil {
		return fmt.Errorf("look at the configuration: %w", err)
	}
	generation, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("look at the configuration: %w", err)
	}
	if generation != c.generation {
		if err = c.adjust(ctx, abandon); err != nil {
			return err
		}
		c.generation = generation
		c.turned.ring()
	}
	if time.Since(c.asked) >= leaseEvery {
		return c.takeLeases(ctx, abandon)
	}
	return nil
}

// adjust makes the loops those of the enabled subscriptions.
func (c *controller) adjust(ctx, abandon context.Context) error {
	assigned, err := ship.Assigned(abandon, c.session, shipperKind)
	if err != nil {
		return err
	}
	wanted := make(map[string]int, len(assigned))
	for _, a := range assigned {
		wanted[a.Name] = a.ID
	}
	for _, l := range c.subscriptions() {
		if wanted[l.name] == l.id {
			continue
		}
		c.remove(l)
		if err = c.setWish(abandon, l, false); err != nil {
			return err
		}
	}
	c.mu.Lock()
	for _, a := range assigned {
		if l := c.loops[a.Name]; l != nil {
			l.setNode(a.Node)
		} else {
			c.loops[a.Name] = newLoop(c.database, a)
		}
	}
	n := len(c.loops)
	c.mu.Unlock()
	most, _, err := session.Value(abandon, c.session, "SELECT pg_catalog.current_setting('max_connections')")
	if err != nil {
		return err
	}
	c.budget.setLimit(c.connections(most, n), n)
	c.asked = time.Time{} // leases of new ones at once
	return nil
}

// connections is how many sessions may ship from the database.
func (d *database) connections(maxConnections string, subscriptions int) int {
	if d.config.Connections > 0 {
		return d.config.Connections
	}
	limit := 2 * subscriptions
	if most, err := strconv.Atoi(maxConnections); err == nil {
		limit = min(limit, most*2/3)
	}
	return max(limit, 2)
}

// remove ends the loop of a subscription that is not ours any more; its lease is
// given back when it has ended.
func (c *controller) remove(l *loop) {
	c.mu.Lock()
	delete(c.loops, l.name)
	c.mu.Unlock()
	l.log.Info("subscription ended")
	if !l.running() {
		return
	}
	c.ending[l.id] = true
	l.cancel()
	go func() {
		<-l.done
		c.ended <- l
	}()
}

// takeLeases asks for the leases of the subscriptions that do not run, and
// starts those it gets.
func (c *controller) takeLeases(ctx, abandon context.Context) error {
	c.asked = time.Now()
	idle := make(map[string]*loop)
	var ids []string
	for _, l := range c.subscriptions() {
		if !l.running() && !c.ending[l.id] {
			id := strconv.Itoa(l.id)
			idle[id] = l
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := c.session.Query(abandon, `SELECT id, courier.take_lease(id, $2::pg_catalog.interval)
		FROM pg_catalog.unnest($1::pg_catalog.int4[]) AS id`,
		"{"+strings.Join(ids, ",")+"}", strconv.FormatInt(staleAfter.Milliseconds(), 10)+" milliseconds")
	if err != nil {
		return err
	}
	for _, row := range rows {
		l := idle[string(row[0])]
		taken := string(row[1]) == "t"
		if err = c.setWish(abandon, l, !taken); err != nil {
			return err
		}
		if taken {
			l.start(ctx, abandon)
		} else {
			l.state.set(slog.LevelInfo, "standby", nil, 0)
		}
	}
	return nil
}

// setWish tells a background worker that has a lease to give it up, or takes that
// back. Where it can't be told just now it is when leases are next asked for.
func (c *controller) setWish(ctx context.Context, l *loop, wished bool) error {
	if l.wished == wished {
		return nil
	}
	function := "courier.withdraw_wish"
	if wished {
		function = "courier.wish_lease"
	}
	done, _, err := session.Value(ctx, c.session, "SELECT "+function+"($1::pg_catalog.int4)", strconv.Itoa(l.id))
	if err == nil && done == "t" {
		l.wished = wished
	}
	return err
}

func (c *controller) giveLease(ctx context.Context, l *loop) error {
	delete(c.ending, l.id)
	_, err := c.session.Query(ctx, "SELECT courier.give_lease($1::pg_catalog.int4)", strconv.Itoa(l.id))
	return err
}

// endAll waits for all loops, which have been told to end, and forgets them.
func (c *controller) endAll() {
	for _, l := range c.subscriptions() {
		if l.running() {
			l.cancel()
			<-l.done
		}
	}
	for range c.ending {
		<-c.ended
	}
	c.mu.Lock()
	clear(c.loops)
	c.mu.Unlock()
}
