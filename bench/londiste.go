package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// londiste is Londiste 3 on PgQ: a root node with its ticker and worker, and a
// leaf. Only the leaf's worker is stopped and started.
type londiste struct {
	*pair
	ticker, root, leaf *daemon
}

var pgqNeeds = requirement{
	packages:   []string{"postgresql-MAJOR-pgq3"},
	extensions: []string{"pgq"},
	libraries:  []string{"pgq_lowlevel.so", "pgq_triggers.so"},
}

var londisteNeeds = requirement{
	packages:   []string{"postgresql-MAJOR-pgq3", "postgresql-MAJOR-pgq-node", "postgresql-MAJOR-londiste-sql", "pgqd", "python3-londiste"},
	extensions: []string{"pgq", "pgq_node", "londiste"},
	libraries:  pgqNeeds.libraries,
	programs:   []string{"pgqd", "londiste"},
}

// loopDelay is how often ticker and workers look, in seconds: by default it is
// once a second or less.
const loopDelay = 0.1

func newLondiste(ctx context.Context, p *pair, _ *config) (_ shipper, err error) {
	l := &londiste{pair: p}
	if err := p.both(ctx, "CREATE EXTENSION pgq; CREATE EXTENSION pgq_node; CREATE EXTENSION londiste"); err != nil {
		return nil, err
	}
	if err := l.writeFiles(); err != nil {
		return nil, err
	}
	source := p.sourceFromTarget().conninfo()
	if err := l.run("root", "create-root", "root", source); err != nil {
		return nil, err
	}
	if err := p.source.exec(ctx, `SELECT pgq.set_queue_config('bench', 'ticker_max_lag', '100 ms'),
		pgq.set_queue_config('bench', 'ticker_idle_period', '1 s')`); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = l.close()
		}
	}()
	if l.ticker, err = startDaemon("pgqd", program("pgqd"), l.file("pgqd.ini")); err != nil {
		return nil, err
	}
	if l.root, err = l.startWorker("root"); err != nil {
		return nil, err
	}
	if err := l.run("leaf", "create-leaf", "leaf", p.target.near().conninfo(), "--provider="+source); err != nil {
		return nil, err
	}
	var names []string
	for _, t := range p.tables {
		names = append(names, "public."+t.name)
	}
	if err := l.run("root", append([]string{"add-table"}, names...)...); err != nil {
		return nil, err
	}
	if p.copies {
		return l, l.run("leaf", append([]string{"add-table"}, names...)...)
	}
	if err := l.run("leaf", append([]string{"add-table", "--expect-sync"}, names...)...); err != nil {
		return nil, err
	}
	// What comes from making the nodes is passed on before anything is measured.
	if err := l.start(ctx); err != nil {
		return nil, err
	}
	if err := l.run("leaf", "wait-sync"); err != nil {
		return nil, err
	}
	return l, l.stop(ctx)
}

// file is a file of this system's.
func (l *londiste) file(name string) string { return filepath.Join(l.source.Dir, name) }

func (l *londiste) writeFiles() error {
	files := map[string]string{
		"pgqd.ini": fmt.Sprintf("[pgqd]\nbase_connstr = %s\ninitial_database = %s\ndatabase_list = %[2]s\nlogfile = %s\npidfile = %s\nticker_period = %g\ncheck_period = 1\n",
			strings.Replace(l.source.near().conninfo(), "dbname="+l.source.database+" ", "", 1), l.source.database, l.file("pgqd.log"), l.file("pgqd.pid"), loopDelay),
	}
	for node, db := range map[string]address{"root": l.source.near(), "leaf": l.target.near()} {
		files[node+".ini"] = fmt.Sprintf("[londiste]\njob_name = %s\ndb = %s\nqueue_name = bench\npidfile = %s\nlogfile = %s\nloop_delay = %g\n",
			node, db.conninfo(), l.file(node+".pid"), l.file(node+".log"), loopDelay)
	}
	for name, content := range files {
		if err := os.WriteFile(l.file(name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write the configuration of Londiste: %w", err)
		}
	}
	return nil
}

// run runs one of Londiste's commands for a node.
func (l *londiste) run(node string, args ...string) error {
	return runCommand(command(program("londiste"), append([]string{"-q", l.file(node + ".ini")}, args...)...))
}

func (l *londiste) startWorker(node string) (*daemon, error) {
	return startDaemon("Londiste worker of the "+node, program("londiste"), l.file(node+".ini"), "worker")
}

func (l *londiste) start(context.Context) (err error) {
	l.leaf, err = l.startWorker("leaf")
	return err
}

func (l *londiste) fault(context.Context) error {
	for _, d := range []*daemon{l.ticker, l.root, l.leaf} {
		if err := d.fault(); err != nil {
			return err
		}
	}
	return nil
}

func (l *londiste) processes() []int { return append(pids(l.ticker, l.root, l.leaf), l.copying()...) }

// copying are the processes that copy tables: the leaf's worker lets each of them
// be a daemon of its own, which would outlive the servers.
func (l *londiste) copying() []int {
	files, _ := filepath.Glob(l.file("leaf.pid.copy.*"))
	var list []int
	for _, file := range files {
		content, _ := os.ReadFile(file)
		pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			continue // it has ended
		}
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(title), l.file("leaf.ini")) {
			list = append(list, pid)
		}
	}
	return list
}

func (l *londiste) stop(context.Context) error { return l.leaf.end(syscall.SIGINT) }

func (l *londiste) close() error {
	for _, d := range []*daemon{l.leaf, l.root, l.ticker} {
		_ = d.end(syscall.SIGKILL) // what it says is of no use any more
	}
	for _, pid := range l.copying() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return nil
}

// capturePgQ is PgQ's trigger alone.
func capturePgQ(ctx context.Context, s *server, tables []*table) error {
	if err := s.exec(ctx, "CREATE EXTENSION pgq; SELECT pgq.create_queue('bench')"); err != nil {
		return err
	}
	for _, t := range tables {
		if err := s.exec(ctx, fmt.Sprintf(
			"CREATE TRIGGER pgq AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION pgq.logutriga('bench')", t.name)); err != nil {
			return err
		}
	}
	return nil
}

// pgqEmpty empties the tables of all queues.
const pgqEmpty = `DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('pgq.%I', relname), ', ')
	FROM pg_class WHERE relnamespace = 'pgq'::regnamespace AND relkind = 'r' AND relname ~ '^event_[0-9]+_[0-9]+$'); END $$`
