package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// server is a cluster with one database, both called by the same name.
type server struct {
	*pgtest.Cluster
	inst *pgtest.Installation
}

func start(ctx context.Context, name string, opts ...pgtest.Option) (*server, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return nil, err
	}
	cluster, err := pgtest.StartCluster(ctx, "", append(opts, pgtest.Name(name))...)
	if err != nil {
		return nil, err
	}
	if err := cluster.CreateDatabase(ctx, name); err != nil {
		return nil, err
	}
	fmt.Printf("%s: PostgreSQL %d on 127.0.0.1, port %d\n", name, inst.Major, cluster.Port)
	return &server{Cluster: cluster, inst: inst}, nil
}

func heading(text string) { fmt.Printf("\n-- %s\n\n", text) }

// sql shows a statement behind psql's prompt, runs it in psql and shows what
// that prints. A wait_for_subscription that answers false is an error.
func (s *server) sql(ctx context.Context, statement string) error {
	fmt.Printf("%s=# %s\n", s.Name, statement)
	cmd := s.Psql(ctx, s.Name, "-c", statement)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), os.Stdout
	prepare(cmd)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run statement on %s: %w", s.Name, err)
	}
	if strings.Contains(statement, "wait_for_subscription") && !strings.Contains(out.String(), "\n t\n") {
		return fmt.Errorf("wait for subscription %s: not everything arrived in time", subscription)
	}
	return nil
}

// expect runs a query that yields one value, unseen, and compares.
func (s *server) expect(ctx context.Context, query, want string) error {
	out, err := s.Psql(ctx, s.Name, "-At", "-c", query).Output()
	if err != nil {
		return fmt.Errorf("query %s: %w", s.Name, err)
	}
	if got := strings.TrimSpace(string(out)); got != want {
		return fmt.Errorf("query %s: %s: got %q, want %q", s.Name, query, got, want)
	}
	return nil
}

// pgbench shows and runs pgbench on the server's database.
func (s *server) pgbench(ctx context.Context, args ...string) error {
	cmd := s.pgbenchCommand(ctx, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run pgbench on %s: %w\n%s", s.Name, err, out)
	}
	return nil
}

func (s *server) pgbenchCommand(ctx context.Context, args ...string) *exec.Cmd {
	args = append(args, "-h", "127.0.0.1", "-p", fmt.Sprint(s.Port), "-U", pgtest.Superuser, s.Name)
	fmt.Printf("$ pgbench %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, s.inst.Program("pgbench"), args...)
	prepare(cmd)
	return cmd
}

// sidecar is a running `courier run`.
type sidecar struct {
	cmd  *exec.Cmd
	log  bytes.Buffer // only read once done is closed
	done chan struct{}
}

// startCourier starts the sidecar in the background, as `&` would.
func (s *server) startCourier() (*sidecar, error) {
	fmt.Printf("$ bin/courier run --database '%s' &\n", s.DSN(s.Name))
	c := &sidecar{cmd: exec.Command("bin/courier", "run", "--database", s.DSN(s.Name)), done: make(chan struct{})}
	prepare(c.cmd)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	go func() {
		c.cmd.Wait() // stop says how it ended
		close(c.done)
	}()
	return c, nil
}

// stop asks the sidecar to drain and waits; with failed, it adds what the
// sidecar logged.
func (c *sidecar) stop(failed bool) error {
	var err error
	select {
	case <-c.done:
		err = errors.New("stop sidecar: it had ended before")
	default:
		c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.done:
			if !c.cmd.ProcessState.Success() {
				err = fmt.Errorf("stop sidecar: %s", c.cmd.ProcessState)
			}
		case <-timeout(stopTimeout):
			c.cmd.Process.Kill()
			<-c.done
			err = fmt.Errorf("stop sidecar: still running after %s, killed", stopTimeout)
		}
	}
	if failed || err != nil {
		log := c.log.String()
		return errors.Join(err, fmt.Errorf("end of the sidecar's log:\n%s", log[max(0, len(log)-4000):]))
	}
	return nil
}

// prepare makes a child end with this process and shields it from the
// terminal's Ctrl-C and from the caller's PG* variables.
func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
}
