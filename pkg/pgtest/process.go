package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Mode is how a server is told to stop.
type Mode syscall.Signal

// The modes are pg_ctl's.
const (
	Smart     = Mode(syscall.SIGTERM) // when every client has gone
	Fast      = Mode(syscall.SIGINT)  // clients are disconnected
	Immediate = Mode(syscall.SIGQUIT) // no checkpoint: the next start recovers
)

// Bounds of waiting.
const (
	startTimeout = 60 * time.Second // recovery included
	stopTimeout  = 30 * time.Second // then SIGKILL
	pollInterval = 5 * time.Millisecond
)

// postmaster is one run of the server; done closes when it has ended.
type postmaster struct {
	process *os.Process
	done    chan struct{}
}

// Start starts a cluster that does not run and returns when it takes
// connections. At first it looks for a port; later the port stays.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	choose := c.Port == 0
	for {
		if choose {
			port, err := freePort()
			if err != nil {
				return err
			}
			c.Port = port
		}
		if err := c.writeSettings(); err != nil {
			return err
		}
		p, err := c.launch()
		if err != nil {
			return fmt.Errorf("start cluster %s: %w", c.Name, err)
		}
		ready, err := c.awaitReady(ctx, p)
		if err != nil {
			p.kill()
			return fmt.Errorf("start cluster %s: %w; end of its log:\n%s", c.Name, err, c.LogTail(4000))
		}
		if ready {
			c.postmaster, c.crashed = p, false
			return nil
		}
		// It ended by itself. That passes if someone else took the port, or
		// if processes of a killed postmaster still hold its shared memory.
		if !portTaken(c.Port) && !c.crashed {
			return fmt.Errorf("start cluster %s: server ended at once; end of its log:\n%s", c.Name, c.LogTail(4000))
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("start cluster %s: %w; end of its log:\n%s", c.Name, err, c.LogTail(4000))
		}
	}
}

// launch executes postgres. PR_SET_PDEATHSIG is bound to the thread that
// forks, and Go ends threads as it likes: a goroutine keeps one for as long
// as the server runs.
func (c *Cluster) launch() (*postmaster, error) {
	log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd, err := serverCommand(context.Background(), c.Dir,
		c.installation.Program("postgres"), "-D", c.DataDir)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Setpgid = true // a Ctrl-C is for us to handle
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT

	started := make(chan error)
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		cmd.Wait() // how it ended is in its log
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return &postmaster{process: cmd.Process, done: done}, nil
}

// awaitReady waits until the postmaster says so in line 8 of its lock file;
// false when it has ended instead.
func (c *Cluster) awaitReady(ctx context.Context, p *postmaster) (bool, error) {
	lockFile := filepath.Join(c.DataDir, "postmaster.pid")
	for {
		if content, err := os.ReadFile(lockFile); err == nil {
			lines := strings.Split(string(content), "\n")
			if len(lines) >= 8 && lines[0] == strconv.Itoa(p.process.Pid) {
				switch strings.TrimSpace(lines[7]) {
				case "ready", "standby":
					return true, nil
				}
			}
		}
		select {
		case <-p.done:
			return false, nil
		default:
		}
		if err := pause(ctx, pollInterval); err != nil {
			return false, fmt.Errorf("wait for the server to be ready: %w", err)
		}
	}
}

// Stop stops the server and waits for its end; nothing if it does not run.
func (c *Cluster) Stop(mode Mode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return nil
	}
	p := c.postmaster
	if err := p.process.Signal(syscall.Signal(mode)); err != nil && !p.ended() {
		return fmt.Errorf("stop cluster %s: %w", c.Name, err)
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		p.kill()
		c.postmaster, c.crashed = nil, true
		return fmt.Errorf("stop cluster %s: still running after %s, killed", c.Name, stopTimeout)
	}
	c.postmaster = nil
	return nil
}

// Restart stops and starts.
func (c *Cluster) Restart(ctx context.Context, mode Mode) error {
	if err := c.Stop(mode); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Kill9 kills the postmaster with SIGKILL and returns when its children,
// which notice by themselves or are killed after two seconds, are gone too.
func (c *Cluster) Kill9() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return nil
	}
	orphans := children(c.postmaster.process.Pid)
	c.postmaster.kill()
	c.postmaster, c.crashed = nil, true

	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	killAt := time.Now().Add(2 * time.Second)
	for {
		alive := 0
		for _, pid := range orphans {
			// The directory tells a process of ours from a reused id.
			if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || cwd != c.DataDir {
				continue
			}
			alive++
			if time.Now().After(killAt) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if alive == 0 {
			return nil
		}
		if err := pause(ctx, pollInterval); err != nil {
			return fmt.Errorf("kill cluster %s: %d processes are left: %w", c.Name, alive, err)
		}
	}
}

// PostmasterPID is the server's process id, 0 when it does not run.
func (c *Cluster) PostmasterPID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running() {
		return 0
	}
	return c.postmaster.process.Pid
}

// Running says whether the server runs.
func (c *Cluster) Running() bool { return c.PostmasterPID() != 0 }

// running needs c.mu.
func (c *Cluster) running() bool { return c.postmaster != nil && !c.postmaster.ended() }

func (p *postmaster) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *postmaster) kill() {
	p.process.Kill()
	<-p.done
}

// children are the processes whose parent is pid.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		// pid (command) state parent …; the command may hold anything
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			pids = append(pids, child)
		}
	}
	return pids
}

// portTaken says whether the port cannot be listened on.
func portTaken(port int) bool {
	out, err := listen(port)
	if err != nil {
		return true
	}
	out.Close()
	return false
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Psql is a psql command for one database: no ~/.psqlrc, stop at an error.
// The caller adds -c or -f and says where the output goes.
func (c *Cluster) Psql(ctx context.Context, database string, args ...string) *exec.Cmd {
	args = append([]string{"-X", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", "-d", c.DSN(database)}, args...)
	return exec.CommandContext(ctx, c.installation.Program("psql"), args...)
}
