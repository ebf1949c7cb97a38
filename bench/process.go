package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	pollEvery    = 20 * time.Millisecond
	pollTimeout  = 5 * time.Minute
	ticksASecond = 100 // USER_HZ, the unit of /proc/PID/stat on Linux
)

// poll calls f until it says that what is waited for has come.
func poll(ctx context.Context, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		done, err := f()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a condition: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// cpuSeconds is the CPU time a process has used, user and system.
func cpuSeconds(pid int) (float64, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	// pid (command) state …; the command may hold anything
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system = 11, 12 // behind the command
	if len(fields) <= system {
		return 0, fmt.Errorf("read the CPU time of process %d: its stat is too short", pid)
	}
	ticks := 0.0
	for _, field := range fields[user : system+1] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
		}
		ticks += float64(n)
	}
	return ticks / ticksASecond, nil
}

// peakMemory is the most memory a process has had resident, in MB.
func peakMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kB / 1024, err
		}
	}
	return 0, fmt.Errorf("read the memory of process %d: it has no VmHWM", pid)
}

// shippingCPU is the CPU time of a server's processes that take part in
// shipping: replication workers and senders, and every session but the
// bench's own. They have all started with shipping.
func (s *server) shippingCPU(ctx context.Context) (float64, error) {
	pids, err := s.text(ctx, `SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_activity
		WHERE application_name <> '`+application+`'
		  AND backend_type IN ('client backend', 'walsender', 'logical replication worker', 'pg_courier ship worker')`)
	if err != nil {
		return 0, err
	}
	total := 0.0
	for field := range strings.FieldsSeq(pids) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("list the processes of %s: %w", s.Name, err)
		}
		seconds, err := cpuSeconds(pid)
		if err != nil {
			return 0, err
		}
		total += seconds
	}
	return total, nil
}
