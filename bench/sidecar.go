package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// stopTimeout is how long the sidecar has to end.
const stopTimeout = 20 * time.Second

// sidecar is pg_courier with trigger capture, shipped by `courier run`.
type sidecar struct {
	*pair
	program string
	cmd     *exec.Cmd // nil when it does not run
	done    chan error
	log     bytes.Buffer // complete once done has said so
}

func newSidecar(ctx context.Context, p *pair, c *config) (shipper, error) {
	if err := p.source.exec(ctx, p.subscribe("sidecar")); err != nil {
		return nil, err
	}
	return &sidecar{pair: p, program: c.courier}, p.source.exec(ctx, "SELECT courier.alter_subscription_enable('s')")
}

// subscribe makes a disabled subscription that the given kind of driver ships.
func (p *pair) subscribe(driver string) string {
	return fmt.Sprintf(`CREATE EXTENSION pg_courier CASCADE;
		SELECT courier.set_local_node('source');
		SELECT courier.create_node('target', 'host=%s port=%d dbname=%s user=%s');
		SELECT courier.replication_set_add_table('default', 'acc');
		SELECT courier.create_subscription('s', 'target', copy_data => false, enabled => false, options => '{"driver": "%s"}')`,
		p.target.SocketDir, p.target.Port, database, pgtest.Superuser, driver)
}

func (s *sidecar) start(context.Context) error {
	s.log.Reset()
	s.cmd = exec.Command(s.program, "run", "--database", s.source.SocketDSN(database))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	// It ends with this process, is shielded from the terminal's Ctrl-C and
	// from the caller's PG* variables.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	s.cmd.Env = []string{}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") {
			s.cmd.Env = append(s.cmd.Env, v)
		}
	}
	if err := s.cmd.Start(); err != nil {
		s.cmd = nil
		return fmt.Errorf("start sidecar: %w", err)
	}
	cmd, done := s.cmd, make(chan error, 1)
	s.done = done
	go func() { done <- cmd.Wait() }()
	return nil
}

func (s *sidecar) use(ctx context.Context) (usage, error) {
	u, err := s.serverUse(ctx)
	if err != nil {
		return u, err
	}
	if u.ShipperCPU, err = cpuSeconds(s.cmd.Process.Pid); err != nil {
		return u, err
	}
	u.PeakMB, err = peakMemory(s.cmd.Process.Pid)
	return u, err
}

func (s *sidecar) stop(ctx context.Context) error {
	if err := s.end(syscall.SIGTERM); err != nil {
		return err
	}
	return s.target.await(ctx, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> '"+application+"'")
}

// end signals the sidecar and waits for it.
func (s *sidecar) end(signal os.Signal) error {
	cmd := s.cmd
	s.cmd = nil
	var err error
	select {
	case <-s.done:
		err = errors.New("stop sidecar: it had ended before")
	default:
		cmd.Process.Signal(signal)
		select {
		case <-s.done:
			if !cmd.ProcessState.Success() && signal != os.Kill {
				err = fmt.Errorf("stop sidecar: %s", cmd.ProcessState)
			}
		case <-time.After(stopTimeout):
			cmd.Process.Kill()
			<-s.done
			err = fmt.Errorf("stop sidecar: still running after %s, killed", stopTimeout)
		}
	}
	if err != nil {
		log := s.log.String()
		return errors.Join(err, fmt.Errorf("end of the sidecar's log:\n%s", log[max(0, len(log)-4000):]))
	}
	return nil
}

func (s *sidecar) close() error {
	if s.cmd == nil {
		return nil
	}
	return s.end(os.Kill)
}
