package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// memoryEvery is the pause between two looks at the memory of processes.
const memoryEvery = 200 * time.Millisecond

// place is where a cost arises.
type place string

const (
	onSource place = "source"
	onTarget place = "target"
	between  place = "shipper" // processes outside of the two servers
)

// costs are the figures of a meter, as columns of a report.
var costs = []metric{
	{key: "source_cpu", title: "source CPU", unit: "µs", digits: 2},
	{key: "shipper_cpu", title: "shipper CPU", unit: "µs", digits: 2},
	{key: "target_cpu", title: "target CPU", unit: "µs", digits: 2},
	{key: "source_wal", title: "source WAL", unit: "B", digits: 0},
	{key: "target_wal", title: "target WAL", unit: "B", digits: 0},
	{key: "source_mb", title: "source memory", unit: "MB", digits: 0},
	{key: "shipper_mb", title: "shipper memory", unit: "MB", digits: 0},
	{key: "target_mb", title: "target memory", unit: "MB", digits: 0},
}

// A meter measures what servers and shippers cost between two moments: the CPU
// time of all their processes but the bench's own sessions, the WAL that was
// written, and the most private memory that was seen, above what was used at the
// beginning.
type meter struct {
	servers map[place][]*server
	pids    func() []int // of shippers

	cpu  map[place]float64
	wal  map[place]float64
	idle map[place]float64

	cancel context.CancelFunc
	group  sync.WaitGroup
	peak   map[place]float64 // of the goroutine until the group is done
}

// startMeter starts measuring. WAL counts from here on; CPU and memory count from
// restart on, if it is called.
func startMeter(ctx context.Context, servers map[place][]*server) (*meter, error) {
	m := &meter{servers: servers, pids: func() []int { return nil }}
	var err error
	if m.wal, err = m.walWritten(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// meter measures the servers of a pair.
func (p *pair) meter(ctx context.Context) (*meter, error) {
	return startMeter(ctx, map[place][]*server{onSource: {p.source}, onTarget: {p.target}})
}

// run starts counting CPU time and memory. It knows of shippers' processes by pids.
func (m *meter) run(ctx context.Context, pids func() []int) {
	m.pids = pids
	m.cpu, m.idle = m.cpuUsed(), m.memoryUsed()
	m.peak = maps.Clone(m.idle)
	ctx, m.cancel = context.WithCancel(ctx)
	m.group.Go(func() {
		ticker := time.NewTicker(memoryEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				m.see()
			}
		}
	})
}

func (m *meter) see() {
	for where, used := range m.memoryUsed() {
		m.peak[where] = max(m.peak[where], used)
	}
}

// end stops counting. The figures are those of costs, CPU and WAL by row.
func (m *meter) end(ctx context.Context, rows int) (map[string]float64, error) {
	m.cancel()
	m.group.Wait()
	m.see()
	wal, err := m.walWritten(ctx)
	if err != nil {
		return nil, err
	}
	figures := make(map[string]float64)
	for where, used := range m.cpuUsed() {
		figures[string(where)+"_cpu"] = max(used-m.cpu[where], 0) * 1e6 / float64(rows)
		figures[string(where)+"_mb"] = max(m.peak[where]-m.idle[where], 0)
	}
	for where, written := range wal {
		figures[string(where)+"_wal"] = (written - m.wal[where]) / float64(rows)
	}
	return figures, nil
}

// drop ends a meter whose figures are not wanted, after an error.
func (m *meter) drop() {
	if m.cancel != nil {
		m.cancel()
		m.group.Wait()
	}
}

func (m *meter) cpuUsed() map[place]float64 {
	used := make(map[place]float64)
	for where, servers := range m.servers {
		seen := make(map[*pgtest.Cluster]bool)
		for _, s := range servers {
			if !seen[s.Cluster] {
				used[where] += treeCPU(s.PostmasterPID())
			}
			seen[s.Cluster] = true
			used[where] -= treeCPU(int(s.conn.PgConn().PID()))
		}
	}
	if pids := m.pids(); len(pids) > 0 {
		for _, pid := range pids {
			used[between] += treeCPU(pid)
		}
	}
	return used
}

func (m *meter) memoryUsed() map[place]float64 {
	used := make(map[place]float64)
	for where, servers := range m.servers {
		for _, cluster := range clusters(servers) {
			used[where] += treeMemory(cluster.PostmasterPID())
		}
	}
	for _, pid := range m.pids() {
		used[between] += treeMemory(pid)
	}
	return used
}

func (m *meter) walWritten(ctx context.Context) (map[place]float64, error) {
	written := make(map[place]float64)
	for where, servers := range m.servers {
		for _, cluster := range clusters(servers) {
			i := slices.IndexFunc(servers, func(s *server) bool { return s.Cluster == cluster })
			text, err := servers[i].text(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::text")
			if err != nil {
				return nil, err
			}
			bytes, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("read the WAL position of %s: %w", cluster.Name, err)
			}
			written[where] += bytes
		}
	}
	return written, nil
}

// clusters are those of servers, each once.
func clusters(servers []*server) []*pgtest.Cluster {
	var all []*pgtest.Cluster
	for _, s := range servers {
		if !slices.Contains(all, s.Cluster) {
			all = append(all, s.Cluster)
		}
	}
	return all
}
