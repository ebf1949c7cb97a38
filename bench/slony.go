package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
)

// slony is Slony-I: a slon beside each server. That of the source runs all the
// while, as it makes the SYNC events that divide the log.
type slony struct {
	*pair
	origin     *daemon
	subscriber *daemon
}

var slonyNeeds = requirement{
	packages:  []string{"slony1-2-bin", "postgresql-MAJOR-slony1-2"},
	libraries: []string{"slony1_funcs*.so"},
	programs:  []string{"slon", "slonik"},
}

const slonyCluster = "bench" // its schema is _bench

// slonySpeed lets slon look for changes every 0.1 s, and make a SYNC at least every
// second: by default it waits for seconds.
var slonySpeed = []string{"-s", "100", "-t", "1000", "-d", "0"}

func newSlony(ctx context.Context, p *pair, _ *config) (_ shipper, err error) {
	s := &slony{pair: p}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if err := slonik(p.adminNodes(), slonyOrigin(p.tables), fmt.Sprintf(`
		store node (id = 2, comment = 'target', event node = 1);
		store path (server = 1, client = 2, conninfo = '%s');
		store path (server = 2, client = 1, conninfo = '%s');`,
		p.sourceFromTarget().conninfo(), p.targetFromSource().conninfo())); err != nil {
		return nil, err
	}
	if s.origin, err = startSlon("slon of the source", p.source.near()); err != nil {
		return nil, err
	}
	if p.copies {
		return s, nil
	}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if err := s.subscribe(ctx); err != nil {
		return nil, err
	}
	return s, s.stop(ctx)
}

// adminNodes tells slonik where the nodes are.
func (p *pair) adminNodes() string {
	return fmt.Sprintf("node 1 admin conninfo = '%s';\nnode 2 admin conninfo = '%s';", p.source.near().conninfo(), p.target.near().conninfo())
}

// slonyOrigin makes node 1 with a set of all tables, which are captured from then on.
func slonyOrigin(tables []*table) string {
	var b strings.Builder
	b.WriteString("init cluster (id = 1, comment = 'source');\ncreate set (id = 1, origin = 1, comment = 'all');\n")
	for i, t := range tables {
		fmt.Fprintf(&b, "set add table (set id = 1, origin = 1, id = %d, fully qualified name = 'public.%s');\n", i+1, t.name)
	}
	return b.String()
}

// slonik runs a script.
func slonik(parts ...string) error {
	cmd := command(program("slonik"))
	cmd.Stdin = strings.NewReader("cluster name = " + slonyCluster + ";\n" + strings.Join(parts, "\n"))
	return runCommand(cmd)
}

func startSlon(name string, node address) (*daemon, error) {
	return startDaemon(name, program("slon"), append(slonySpeed, slonyCluster, node.conninfo())...)
}

// subscribe copies the tables.
func (s *slony) subscribe(ctx context.Context) error {
	if err := slonik(s.adminNodes(), "subscribe set (id = 1, provider = 1, receiver = 2, forward = no);"); err != nil {
		return err
	}
	if s.copies {
		return nil
	}
	if err := s.target.await(ctx, "SELECT sub_active FROM _bench.sl_subscribe WHERE sub_set = 1"); err != nil {
		return fmt.Errorf("wait for the subscription: %w", err)
	}
	// Events behind it are confirmed: what follows is not part of the copy.
	if err := slonik(s.adminNodes(), "sync (id = 1);", "wait for event (origin = 1, confirmed = 2, wait on = 1, timeout = 60);"); err != nil {
		return err
	}
	return nil
}

func (s *slony) start(ctx context.Context) (err error) {
	if s.subscriber, err = startSlon("slon of the target", s.target.near()); err != nil || !s.copies {
		return err
	}
	return s.subscribe(ctx)
}

func (s *slony) fault(context.Context) error {
	if err := s.origin.fault(); err != nil {
		return err
	}
	return s.subscriber.fault()
}

func (s *slony) processes() []int { return pids(s.origin, s.subscriber) }

func (s *slony) stop(context.Context) error { return s.subscriber.end(syscall.SIGTERM) }

func (s *slony) close() error {
	_ = s.subscriber.end(syscall.SIGKILL)
	return s.origin.end(syscall.SIGKILL)
}

// captureSlony is the log trigger alone.
func captureSlony(_ context.Context, s *server, tables []*table) error {
	return slonik(fmt.Sprintf("node 1 admin conninfo = '%s';", s.near().conninfo()), slonyOrigin(tables))
}
