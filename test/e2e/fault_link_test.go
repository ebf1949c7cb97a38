package e2e

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// The bystander is a subscription of the same sidecar to another node, which
// nothing is wrong with.
const (
	bystander         = "to_us"
	bystanderNode     = "us"
	bystanderDatabase = "us" // on the target's cluster
)

// lagFloor is what a bystander's lag may differ by for reasons that are not the
// fault's: an idle queue is looked at every 200 ms at the rarest, and a machine
// that starts and stops servers has its hiccups. Who shares a lock, a session or
// a goroutine with the faulty link lags by the fault's length, which is seconds.
const lagFloor = 500 * time.Millisecond

// line is a source, a target, a bystander, and a proxy in one of the links.
type line struct {
	*replica
	proxy     *faultnet.Proxy
	databases []string // what the sidecar works for
	beats     string   // source database of the bystander
	next      int64    // numbers of the load
	calm      time.Duration
}

// linkFault is what is done to a link while it is used.
type linkFault struct {
	name   string
	begin  func(*faultnet.Proxy, *rand.Rand)
	during func(*faultnet.Proxy) bool // called again and again; true when enough was seen
	length func(*testing.T) time.Duration
	breaks bool // the state has to become retrying
	keeps  bool // it must not
}

func enough(*faultnet.Proxy) bool { return true }

func faultTime(t *testing.T) time.Duration { return loadTime(t) / 2 }

// longBlackhole is one that has to be noticed.
const longBlackhole = 30 * time.Second

// blackholeTime is a long one where time is given.
func blackholeTime(t *testing.T) time.Duration {
	if loadTime(t) > 8*time.Second {
		return max(longBlackhole, faultTime(t))
	}
	return faultTime(t)
}

// linkFaults are the faults of FAULTS' row "partition, half-open TCP, slow
// target".
func linkFaults(t *testing.T, targetLink bool) []linkFault {
	return []linkFault{
		{name: "latency", keeps: true, during: enough, length: faultTime,
			begin: func(p *faultnet.Proxy, _ *rand.Rand) { p.Latency(200 * time.Millisecond) }},
		{name: "bandwidth", keeps: true, during: enough, length: faultTime,
			begin: func(p *faultnet.Proxy, _ *rand.Rand) { p.Bandwidth(100_000) }},
		{name: "reset", length: faultTime,
			during: func(p *faultnet.Proxy) bool { return p.Resets() >= 3 },
			begin:  func(p *faultnet.Proxy, random *rand.Rand) { p.ResetPeer(0.01, random) }},
		// a short one TCP gets over by itself
		{name: "blackhole", breaks: targetLink && blackholeTime(t) >= longBlackhole, during: enough, length: blackholeTime,
			begin: func(p *faultnet.Proxy, _ *rand.Rand) { p.Blackhole() }},
		// On the target's link it lasts until it was noticed. On the source's
		// nobody can write down a state.
		{name: "half-open", breaks: targetLink, during: enough, length: faultTime,
			begin: func(p *faultnet.Proxy, _ *rand.Rand) { p.HalfOpen() }},
		// The sidecar, or dblink, learns that it has lost its connections; the
		// server keeps what hangs on them: locks, leases, transactions.
		{name: "slow close", during: enough, length: faultTime,
			begin: func(p *faultnet.Proxy, _ *rand.Rand) { p.SlowClose(2 * time.Second); p.Cut() }},
	}
}

// FAULTS: partition, half-open TCP, slow target: on the way to the target. The
// bystander has the same source database.
func TestFaultTargetLink(t *testing.T) {
	t.Parallel()
	l := startLine(t, appDatabase, func(l *line) {
		l.proxy = faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", l.target.Port))
		l.install(throughProxy(l.proxy, appDatabase))
		l.databases = []string{l.source.DSN(appDatabase)}
	})
	l.suffer(linkFaults(t, true))
}

// The same on the way to the source. The bystander has a source database of its
// own, to which the sidecar connects directly.
func TestFaultSourceLink(t *testing.T) {
	t.Parallel()
	l := startLine(t, "quiet", func(l *line) {
		l.proxy = faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", l.source.Port))
		l.install(l.target.DSN(appDatabase))
		l.source.Database(t, "quiet")
		l.source.Exec(t, "quiet", "CREATE EXTENSION pg_courier CASCADE")
		l.source.Exec(t, "quiet", "SELECT courier.set_local_node('quiet')")
		l.databases = []string{throughProxy(l.proxy, appDatabase), l.source.DSN("quiet")}
	})
	l.suffer(linkFaults(t, false))
}

// throughProxy is a DSN by way of a proxy.
func throughProxy(p *faultnet.Proxy, database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s", p.Port(), pgtest.Superuser, database)
}

// startLine makes the clusters, lets connect put the proxy into a link, and
// makes tables and subscriptions.
func startLine(t *testing.T, beats string, connect func(*line)) *line {
	t.Helper()
	l := &line{replica: startBare(t), beats: beats}
	l.target.Database(t, bystanderDatabase)
	connect(l)
	l.onBoth(faultTables)
	l.onSource(workFunction)
	l.add("default", "item")
	l.addKeyless("movement")
	l.subscribe("{default,log}", false)

	l.target.Exec(t, bystanderDatabase, beatTarget)
	l.source.Exec(t, beats, beatSource)
	for _, sql := range []string{
		"SELECT courier.create_node('" + bystanderNode + "', dsn => '" + l.target.DSN(bystanderDatabase) + "')",
		"SELECT courier.create_replication_set('beats')",
		"SELECT courier.replication_set_add_table('beats', 'beat')",
		"SELECT courier.create_subscription('" + bystander + "', '" + bystanderNode + "', '{beats}', copy_data => false)",
	} {
		l.source.Exec(t, beats, sql)
	}
	return l
}

// suffer measures the bystander undisturbed, then lets the link have one fault
// after the other.
func (l *line) suffer(faults []linkFault) {
	random := randomSource(randomSeed(l.t), 0)
	l.run("undisturbed", func(l *line, _ *history) {
		wait(l.t.Context(), faultTime(l.t))
	})
	for _, f := range faults {
		l.run(f.name, func(l *line, h *history) {
			end := time.Now().Add(f.length(l.t))
			f.begin(l.proxy, random)
			defer l.proxy.Restore()
			eventually(l.t, "enough of the fault", func() bool {
				return f.during(l.proxy) && time.Now().After(end) && (!f.breaks || h.contains("retrying"))
			})
			require.False(l.t, f.keeps && h.contains("retrying"), "what is slow is not broken")
		})
	}
}

// run starts a sidecar, lets the fault happen under load, and compares.
func (l *line) run(name string, fault func(*line, *history)) {
	l.t.Run(name, func(t *testing.T) {
		pair := &replica{t: t, source: l.source, target: l.target}
		under := &line{replica: pair, proxy: l.proxy}
		t.Cleanup(pair.dismissShippers)
		courier := pair.startSidecarFor(l.databases)
		l.next += 1_000_000 // numbers of its own, also after a run that failed
		pair.onSource("SELECT work($1)", l.next)
		pair.wait() // the fault is to meet connections in use
		h := pair.startHistory(subscription)
		h.waitFor("streaming")

		first := l.next + 1
		work := pair.startPace(appDatabase, 25*time.Millisecond, "SELECT work($1)", first)
		beats := pair.startPace(l.beats, 20*time.Millisecond, beatInsert, first)
		fault(under, h)
		done, last := work.stop(), beats.stop()
		lag := pair.beatLag(bystanderDatabase, first, last)
		t.Logf("%d transactions, %d beats; the bystander's p99 is %s", done-first+1, last-first+1, lag)
		pair.wait()
		pair.requireEqual("item", "movement")
		h.finish()
		if l.calm == 0 {
			l.calm = lag
		}
		require.LessOrEqual(t, lag, 2*l.calm+lagFloor, "the bystander's lag; undisturbed it was %s", l.calm)
		courier.stop()
	})
}

// beatLag waits for beats to arrive in a database of the target and gives the
// 99th percentile of the time they took.
func (r *replica) beatLag(database string, first, last int64) time.Duration {
	r.t.Helper()
	between := fmt.Sprintf("FROM beat WHERE id BETWEEN %d AND %d", first, last)
	r.target.Eventually(r.t, database, "SELECT count(*) "+between, strconv.FormatInt(last-first+1, 10), patience)
	text := r.target.Value(r.t, database, "SELECT (extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY arrived - at)) * 1000000)::bigint "+between)
	micros, err := strconv.ParseInt(text, 10, 64)
	require.NoError(r.t, err)
	return time.Duration(micros) * time.Microsecond
}

// dismissShippers ends sessions that a sidecar has left behind: a test that
// failed must not hold up the next one.
func (r *replica) dismissShippers() {
	for _, cluster := range []*pgtest.Cluster{r.source, r.target} {
		cluster.Exec(r.t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pg_courier%'")
	}
}
