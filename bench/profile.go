package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	profileHertz = 997 // samples a second, not in step with timers
	titlesEvery  = 50 * time.Millisecond

	wholeProcess = "all functions"
	staticOf     = "static functions of " // which a stripped program has no names for
)

// profile is a recording of all processors, and of what processes there are.
type profile struct {
	servers map[place][]*server
	pids    func() []int // of shippers
	file    string
	perf    *exec.Cmd
	errors  bytes.Buffer
	ended   chan error

	cancel context.CancelFunc
	group  sync.WaitGroup
	titles map[int]string // of the goroutine until the group is done
}

func startProfile(ctx context.Context, servers map[place][]*server, pids func() []int) (*profile, error) {
	dir, err := os.MkdirTemp("", "bench-profile-")
	if err != nil {
		return nil, fmt.Errorf("record a profile: %w", err)
	}
	p := &profile{servers: servers, pids: pids, file: filepath.Join(dir, "perf.data"), titles: make(map[int]string), ended: make(chan error, 1)}
	p.perf = exec.Command("perf", "record", "-q", "-a", "-F", strconv.Itoa(profileHertz), "-o", p.file)
	p.perf.Stderr = &p.errors
	p.perf.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := p.perf.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("record a profile: %w", err), os.RemoveAll(dir))
	}
	go func() { p.ended <- p.perf.Wait() }()
	if err := poll(ctx, p.records); err != nil {
		_ = p.perf.Process.Kill() // it may have ended by itself
		return nil, errors.Join(fmt.Errorf("record a profile: %w", err), os.RemoveAll(dir))
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.group.Go(func() {
		ticker := time.NewTicker(titlesEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			p.look()
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	})
	return p, nil
}

// records reports whether perf has begun to record; an error, if it has ended instead.
func (p *profile) records() (bool, error) {
	select {
	case err := <-p.ended:
		return false, fmt.Errorf("perf has ended: %w: %s", err, strings.TrimSpace(p.errors.String()))
	default:
	}
	info, err := os.Stat(p.file)
	return err == nil && info.Size() > 0, nil
}

// look notes which processes there are.
func (p *profile) look() {
	for where, servers := range p.servers {
		bench := make(map[int]bool)
		for _, s := range servers {
			bench[int(s.conn.PgConn().PID())] = where == onTarget // who polls for the last row
		}
		for _, cluster := range clusters(servers) {
			for _, pid := range children(cluster.PostmasterPID()) {
				if title := processTitle(pid); title != "" && !bench[pid] {
					p.titles[pid] = string(where) + ", " + title
				}
			}
		}
	}
	for _, pid := range p.pids() {
		p.titles[pid] = "courier"
	}
}

// serverProcesses are kinds of PostgreSQL's processes, by what their titles hold.
var serverProcesses = []string{"ship worker", "logical replication worker", "walsender", "walwriter", "checkpointer", "background writer",
	"autovacuum worker", "pglogical apply"}

// processTitle says what a server's process is, "" if it has ended.
func processTitle(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(line) == 0 {
		return ""
	}
	for _, kind := range serverProcesses {
		if strings.Contains(string(line), kind) {
			return kind
		}
	}
	return "session"
}

// end stops recording, and returns which part of the CPU time of all known processes
// went where: process, then function.
func (p *profile) end() (shares map[string]map[string]float64, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(filepath.Dir(p.file))) }()
	p.cancel()
	p.group.Wait()
	if err := p.perf.Process.Signal(os.Interrupt); err != nil {
		return nil, fmt.Errorf("record a profile: %w", err)
	}
	<-p.ended // its exit status tells of the signal
	script := exec.Command("perf", "script", "-i", p.file, "-F", "pid,ip,sym,dso")
	out, err := script.Output()
	if err != nil {
		return nil, fmt.Errorf("read a profile: %w: %s", err, p.errors.String())
	}
	return p.count(out), nil
}

// count adds up lines of a pid, an address, a function and its file in parentheses.
func (p *profile) count(script []byte) map[string]map[string]float64 {
	shares := make(map[string]map[string]float64)
	total := 0.0
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil || p.titles[pid] == "" {
			continue
		}
		program := programName(strings.Trim(fields[len(fields)-1], "()"))
		function := functionName(strings.Join(fields[2:len(fields)-1], " "), program)
		process := shares[p.titles[pid]]
		if process == nil {
			process = make(map[string]float64)
			shares[p.titles[pid]] = process
		}
		process[function]++
		process["all of "+program]++
		process[wholeProcess]++
		total++
	}
	for _, process := range shares {
		for function := range process {
			process[function] /= total
		}
	}
	return shares
}

// programName is a program or library, or the kernel.
func programName(file string) string {
	if strings.HasPrefix(file, "[") {
		return "kernel"
	}
	return filepath.Base(file)
}

// functionName names a function of a program.
func functionName(symbol, program string) string {
	if symbol == "[unknown]" {
		return staticOf + program
	}
	if i := strings.LastIndexByte(symbol, '/'); i >= 0 { // of a Go package
		symbol = symbol[i+1:]
	}
	return "`" + symbol + "` of " + program
}
