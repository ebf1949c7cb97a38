package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// bucardo is Bucardo 5, its control database beside the target. Its master
// process runs all the while; the sync is paused and resumed.
//
// It turns the values of its settings into lower case: a temporary directory with
// capitals in its path won't do.
type bucardo struct {
	*pair
	control *server
	directory
	master int // its process; 0 when it does not run
}

// directory is where Bucardo keeps its files.
type directory string

var bucardoNeeds = requirement{
	packages:   []string{"bucardo", "postgresql-plperl-MAJOR"},
	extensions: []string{"plperl", "plperlu"},
	libraries:  []string{"plperl.so"},
	programs:   []string{"bucardo"},
}

const bucardoDatabase = "bucardo" // the name is Bucardo's choice

func newBucardo(ctx context.Context, p *pair, _ *config) (_ shipper, err error) {
	b := &bucardo{pair: p, directory: directory(p.target.Dir)}
	if b.control, err = installBucardo(ctx, p.target, b.directory); err != nil {
		return nil, err
	}
	if err := b.addSync(b.control, p.tables, p.sourceFromTarget(), p.target.near(), p.copies); err != nil {
		return nil, err
	}
	if p.copies {
		return b, nil
	}
	if err := b.launch(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, b.stop(ctx)
}

// installBucardo makes the control database in a server.
func installBucardo(ctx context.Context, s *server, d directory) (*server, error) {
	if err := d.run(s, "postgres", pgtest.Superuser, "install", "--batch"); err != nil {
		return nil, err
	}
	control, err := s.open(ctx, bucardoDatabase)
	if err != nil {
		return nil, err
	}
	for setting, value := range map[string]string{
		"log_level": "terse", "mcp_dbproblem_sleep": "0",
		"reason_file": d.file("bucardo.reason"), "warning_file": d.file("bucardo.warning"),
	} {
		if err := d.run(control, bucardoDatabase, bucardoDatabase, "set", setting+"="+value); err != nil {
			return nil, err
		}
	}
	return control, nil
}

// addSync tells Bucardo of source and target, and of the tables, which it captures
// from then on.
func (d directory) addSync(control *server, tables []*table, source, target address, copies bool) error {
	once := "onetimecopy=0"
	if copies {
		once = "onetimecopy=1"
	}
	database := func(name string, a address) []string {
		return []string{"add", "database", name, "dbname=" + a.database, "host=" + a.host, fmt.Sprintf("port=%d", a.port), "user=" + pgtest.Superuser}
	}
	add := append([]string{"add", "table"}, tableNames(tables)...)
	for _, args := range [][]string{
		database("source", source), database("target", target),
		append(add, "db=source", "relgroup=all"),
		{"add", "sync", "shipping", "relgroup=all", "dbs=source:source,target:target", once, "conflict_strategy=bucardo_source"},
	} {
		if err := d.run(control, bucardoDatabase, bucardoDatabase, args...); err != nil {
			return err
		}
	}
	return nil
}

func (d directory) file(name string) string { return filepath.Join(string(d), name) }

// run runs one of Bucardo's commands. Its output goes to a file, as a daemon that
// it starts keeps it open.
func (d directory) run(s *server, database, user string, args ...string) error {
	log, err := os.Create(d.file("bucardo.out"))
	if err != nil {
		return fmt.Errorf("run bucardo: %w", err)
	}
	defer log.Close()
	cmd := command(program("bucardo"), append([]string{"--no-bucardorc", "--dbhost=" + s.SocketDir, fmt.Sprintf("--dbport=%d", s.Port),
		"--dbname=" + database, "--dbuser=" + user, "--piddir=" + string(d), "--log-dest=" + string(d)}, args...)...)
	cmd.Dir = string(d)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("run bucardo %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	return nil
}

// launch starts the master process, and waits until it works.
func (b *bucardo) launch(ctx context.Context) error {
	if err := b.run(b.control, bucardoDatabase, bucardoDatabase, "start"); err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) {
		content, err := os.ReadFile(b.file("bucardo.mcp.pid"))
		if err != nil {
			return false, nil // not yet
		}
		first, _, _ := strings.Cut(string(content), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil {
			return false, nil // not yet all of it
		}
		b.master = pid
		return len(b.workers()) > 0, nil
	}); err != nil {
		return fmt.Errorf("start Bucardo: %w\nend of its log:\n%s", err, b.log())
	}
	return nil
}

// workers are the controller of the sync and its kids.
func (b *bucardo) workers() []int {
	var found []int
	var search func(pid int)
	search = func(pid int) {
		title, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(title), "Bucardo Controller") || strings.Contains(string(title), "Bucardo Kid") {
			found = append(found, pid)
		}
		for _, child := range children(pid) {
			search(child)
		}
	}
	search(b.master)
	return found
}

func (b *bucardo) log() string {
	content, _ := os.ReadFile(b.file("log.bucardo"))
	return string(content[max(0, len(content)-3000):])
}

func (b *bucardo) start(ctx context.Context) error {
	if b.master == 0 {
		return b.launch(ctx)
	}
	return b.control.exec(ctx, `NOTIFY "bucardo_resume_sync_shipping"`)
}

func (b *bucardo) fault(context.Context) error {
	if b.master != 0 && syscall.Kill(b.master, 0) != nil {
		return fmt.Errorf("bucardo has ended; end of its log:\n%s", b.log())
	}
	return nil
}

func (b *bucardo) processes() []int {
	if b.master == 0 {
		return nil
	}
	return []int{b.master}
}

func (b *bucardo) stop(ctx context.Context) error {
	if err := b.control.exec(ctx, `NOTIFY "bucardo_pause_sync_shipping"`); err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) { return len(b.workers()) == 0, nil }); err != nil {
		return fmt.Errorf("wait for the sync to pause: %w\nend of Bucardo's log:\n%s", err, b.log())
	}
	return nil
}

// close ends all of its processes, the master first, so that it starts none.
func (b *bucardo) close() error {
	if b.master == 0 {
		return nil
	}
	var end func(pid int)
	end = func(pid int) {
		below := children(pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		for _, child := range below {
			end(child)
		}
	}
	end(b.master)
	b.master = 0
	b.control.disconnect()
	return nil
}

// captureBucardo is Bucardo's triggers alone; the target is another database of
// the server.
func captureBucardo(ctx context.Context, s *server, tables []*table) error {
	target, err := s.twin(ctx, tables)
	if err != nil {
		return err
	}
	defer target.disconnect()
	d := directory(s.Dir)
	control, err := installBucardo(ctx, s, d)
	if err != nil {
		return err
	}
	defer control.disconnect()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := d.addSync(control, tables, s.near(), target.near(), false); err != nil {
		return err
	}
	return s.await(ctx, "SELECT count(*) > 0 FROM pg_trigger WHERE tgname LIKE 'bucardo%'")
}

// bucardoEmpty empties its delta and track tables.
const bucardoEmpty = `DO $$ BEGIN EXECUTE (SELECT 'TRUNCATE ' || string_agg(format('bucardo.%I', relname), ', ')
	FROM pg_class WHERE relnamespace = 'bucardo'::regnamespace AND relkind = 'r' AND relname ~ '^(delta|track)_'); END $$`
