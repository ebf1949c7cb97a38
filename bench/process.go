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
	pollTimeout  = 10 * time.Minute
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

// cpuTimes are the seconds a process has used itself, user and system, and those
// of its children that have ended.
func cpuTimes(pid int) (own, ended float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	// pid (command) state …; the command may hold anything
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const first, last = 11, 14 // utime, stime, cutime, cstime, counted behind the command
	if len(fields) <= last {
		return 0, 0, fmt.Errorf("read the CPU time of process %d: its stat is too short", pid)
	}
	var seconds [last - first + 1]float64
	for i := range seconds {
		ticks, err := strconv.ParseInt(fields[first+i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
		}
		seconds[i] = float64(ticks) / ticksASecond
	}
	return seconds[0] + seconds[1], seconds[2] + seconds[3], nil
}

// cpuSeconds is the CPU time a process has used itself.
func cpuSeconds(pid int) (float64, error) {
	own, _, err := cpuTimes(pid)
	return own, err
}

// treeCPU is the CPU time that a process and all below it have used, those that
// have ended included. Processes that end while it looks may be missed.
func treeCPU(pid int) float64 {
	own, ended, err := cpuTimes(pid)
	if err != nil {
		return 0 // it has ended, and its parent knows
	}
	total := own + ended
	for _, child := range children(pid) {
		total += treeCPU(child)
	}
	return total
}

// treeMemory is the private memory of a process and all below it, in MB: what is
// shared, as PostgreSQL's buffers are, is not counted.
func treeMemory(pid int) float64 {
	total := 0.0
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		for line := range strings.Lines(string(status)) {
			if value, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kB, _ := strconv.ParseFloat(strings.Fields(value)[0], 64)
				total = kB / 1024
			}
		}
	}
	for _, child := range children(pid) {
		total += treeMemory(child)
	}
	return total
}

// children are the processes that a process has started, by any of its threads.
func children(pid int) []int {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var pids []int
	for _, task := range tasks {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			continue
		}
		for field := range strings.FieldsSeq(string(content)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
