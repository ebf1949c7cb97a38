package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTimeout is how long a daemon has to end.
const stopTimeout = 20 * time.Second

// daemon is a program that ships from outside of the servers, in the foreground
// of a process group of its own.
type daemon struct {
	name string
	cmd  *exec.Cmd // nil when it does not run
	done chan struct{}
	log  bytes.Buffer // complete once done is closed
}

// startDaemon starts a program.
func startDaemon(name, program string, args ...string) (*daemon, error) {
	d := &daemon{name: name, done: make(chan struct{})}
	d.cmd = command(program, args...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	// It ends with this process, and is shielded from the terminal's Ctrl-C.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d.cmd.WaitDelay = time.Second // its children may hold its output
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = d.cmd.Wait() // end says how
		close(d.done)
	}()
	return d, nil
}

// command is a program without the caller's PG* variables.
func command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = []string{}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// runCommand runs a program to its end; its output is in the error.
func runCommand(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run %s: %w\n%s", cmd, err, out)
	}
	return nil
}

// pids are those of the daemons that run.
func pids(daemons ...*daemon) []int {
	var list []int
	for _, d := range daemons {
		if d != nil && d.cmd != nil {
			list = append(list, d.cmd.Process.Pid)
		}
	}
	return list
}

// fault is an error once the daemon has ended by itself.
func (d *daemon) fault() error {
	if d == nil || d.cmd == nil {
		return nil
	}
	select {
	case <-d.done:
		return fmt.Errorf("%s has ended: %s", d.name, d.cmd.ProcessState) // end shows its log
	default:
		return nil
	}
}

// end signals the daemon's process group and waits for the daemon; nothing, if it
// is nil or has been ended. A daemon that was not running any more is an error.
func (d *daemon) end(signal syscall.Signal) error {
	if d == nil || d.cmd == nil {
		return nil
	}
	cmd := d.cmd
	d.cmd = nil
	var err error
	select {
	case <-d.done:
		err = fmt.Errorf("stop %s: it had ended before: %s", d.name, cmd.ProcessState)
	default:
		err = d.signal(cmd, signal)
	}
	if err != nil {
		log := d.log.String()
		return errors.Join(err, fmt.Errorf("end of the log of %s:\n%s", d.name, log[max(0, len(log)-4000):]))
	}
	return nil
}

func (d *daemon) signal(cmd *exec.Cmd, signal syscall.Signal) error {
	_ = syscall.Kill(-cmd.Process.Pid, signal) // it may have ended by itself
	select {
	case <-d.done:
		return nil
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-d.done
		return fmt.Errorf("stop %s: still running after %s, killed", d.name, stopTimeout)
	}
}
