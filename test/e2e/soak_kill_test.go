package e2e

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
)

// soakWriter is the application_name of those who write.
const soakWriter = "soak writer"

// victim is a kind of process.
type victim struct {
	name    string
	onNode  bool
	where   string // condition on pg_stat_activity; "" for the sidecar
	shipper string // who has to ship for there to be one: worker, sidecar, or ""
}

var victims = []victim{
	{name: "sidecar", shipper: "sidecar"},
	{name: "session of the sidecar", where: `application_name LIKE 'pg\_courier%' AND backend_type = 'client backend'`, shipper: "sidecar"},
	{name: "ship worker", where: "backend_type = 'pg_courier ship worker'", shipper: "worker"},
	{name: "housekeeper", where: "backend_type = 'pg_courier housekeeper'"},
	{name: "launcher", where: "backend_type = 'pg_courier launcher'"},
	{name: "session of a writer", where: "application_name = '" + soakWriter + "'"},
	{name: "session on the node", where: `application_name LIKE 'pg\_courier%'`, onNode: true},
}

// blow is what is done to a victim. SIGKILL makes a server restart all its
// processes, and SIGTERM ends the one.
type blow struct {
	victim
	signal syscall.Signal
}

// killer kills processes of every kind, one after the other, in random order.
type killer struct {
	r       *replica
	random  *rand.Rand
	longest time.Duration // pause between two
	courier *sidecar      // nil: workers ship
	kills   map[string]int
}

func newKiller(r *replica, random *rand.Rand, length time.Duration) *killer {
	return &killer{r: r, random: random, kills: make(map[string]int),
		longest: max(time.Second, min(10*time.Second, length/30))}
}

// killAll goes on until a time, and until each kind of process has been killed at
// least once; or enough says that it makes no sense to go on.
func (k *killer) killAll(end time.Time, enough func() bool) {
	k.r.t.Helper()
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}
	for round := 0; (round == 0 || time.Now().Before(end)) && !enough(); round++ {
		for _, i := range k.random.Perm(len(victims)) {
			if round > 0 && time.Now().After(end) || enough() {
				break
			}
			// each in each way in any two rounds
			k.kill(blow{victims[i], signals[(round+i)%2]})
			wait(k.r.t.Context(), between(k.random, 100*time.Millisecond, k.longest))
		}
	}
}

func (k *killer) kill(b blow) {
	k.r.t.Helper()
	k.letShip(b.shipper)
	if b.where == "" {
		// it ends in order, or not
		if b.signal == syscall.SIGTERM {
			k.courier.stop()
		} else {
			k.courier.kill9()
		}
		k.courier = nil
		k.count(b)
		return
	}
	cluster := k.r.source
	if b.onNode {
		cluster = k.r.target
	}
	eventually(k.r.t, "a "+b.name, func() bool {
		pid, err := onlyValue(k.r.t.Context(), cluster,
			"SELECT pid::text FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "+b.where+" ORDER BY random() LIMIT 1")
		if err != nil {
			return false // it has not recovered yet, or there is none yet
		}
		number, err := strconv.Atoi(pid)
		require.NoError(k.r.t, err)
		return syscall.Kill(number, b.signal) == nil
	})
	k.count(b)
}

func (k *killer) count(b blow) {
	k.kills[fmt.Sprintf("%s, %s", b.name, b.signal)]++
}

// letShip sees to it that a sidecar ships, or a worker; "" leaves it to chance.
func (k *killer) letShip(shipper string) {
	k.r.t.Helper()
	if shipper == "" && k.random.IntN(3) == 0 {
		shipper = []string{"worker", "sidecar"}[k.random.IntN(2)]
	}
	switch {
	case shipper == "worker" && k.courier != nil:
		k.kill(blow{victims[0], []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[k.random.IntN(2)]})
	case shipper == "sidecar" && k.courier == nil:
		k.courier = k.r.startSidecar()
		eventually(k.r.t, "the sidecar to take over", func() bool {
			return strings.Contains(k.courier.log.String(), "subscription is streaming")
		})
	}
}
