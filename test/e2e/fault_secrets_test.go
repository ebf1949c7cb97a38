package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/faultnet"
	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// Secrets that are planted, each of them a word that nothing else contains.
const (
	nodePassword   = "planted-node-hunter2"
	wrongPassword  = "planted-wrong-hunter3"
	sourcePassword = "planted-source-hunter4"
	rowSecret      = "planted-row-value"
	planted        = "planted-"
)

// secretRun is a replica with passwords on both links, a proxy in the one to the
// target, and secrets in every row.
type secretRun struct {
	*replica
	proxy   *faultnet.Proxy
	courier *sidecar
	listen  string
	said    strings.Builder // everything a person or a program could read
	id      int
}

// roles are those that a sidecar may connect to a node as. A superuser's session
// keeps rows out of the node's log by itself. For another role it takes a
// superuser to say so, as in docs/operating.md.
var roles = map[string]string{
	"superuser": "ALTER ROLE remote SUPERUSER",
	"plain role": `GRANT CREATE ON DATABASE app TO remote;
		GRANT SET ON PARAMETER session_replication_role TO remote;
		ALTER ROLE remote SET log_min_messages = 'fatal';
		ALTER ROLE remote SET log_min_error_statement = 'panic'`,
}

func startSecretRun(t *testing.T, role string) *secretRun {
	t.Helper()
	s := &secretRun{replica: startBare(t)}
	s.proxy = faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", s.target.Port))
	s.onSource("CREATE ROLE boss LOGIN SUPERUSER PASSWORD '" + sourcePassword + "'")
	s.onTarget("CREATE ROLE remote LOGIN PASSWORD '" + nodePassword + "'")
	s.onTarget(roles[role])
	s.install(fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=remote password=%s", s.proxy.Port(), appDatabase, nodePassword))
	s.onBoth(`CREATE TABLE item (id int PRIMARY KEY, body text); CREATE TABLE strict (id int PRIMARY KEY, v text)`)
	s.onTarget("ALTER TABLE strict ALTER v TYPE int USING 0; GRANT ALL ON item, strict TO remote")
	s.add("default", "item", "strict")
	s.subscribe("{default}", false)

	s.listen = freeAddress(t)
	s.courier = s.startSidecarFor([]string{s.source.DSNAs(appDatabase, "boss", sourcePassword)}, "--log-level", "debug", "--listen", s.listen)
	return s
}

// insert adds a row with a secret in it, and a word.
func (s *secretRun) insert(table, word string) {
	s.t.Helper()
	s.id++
	s.onSource("INSERT INTO "+table+" VALUES ($1, $2)", s.id, rowSecret+" "+word)
}

// another adds a row that nothing is wrong with.
func (s *secretRun) another() {
	s.t.Helper()
	s.insert("item", strconv.Itoa(s.id))
}

// requireState waits for a state, with a SQLSTATE given as a regular expression, and
// keeps what status and metrics say then.
func (s *secretRun) requireState(state, code string) {
	s.t.Helper()
	s.source.Eventually(s.t, appDatabase, "SELECT state || ' ' || coalesce(last_error_sqlstate, '') ~ '^"+state+" "+code+
		"$' FROM courier.subscription_status", "t", patience)
	fmt.Fprintf(&s.said, "status: %v\n", s.status())
	s.readMetrics()
}

func (s *secretRun) readMetrics() {
	s.t.Helper()
	fmt.Fprintf(&s.said, "metrics: %s\n", metricsAt(s.t, s.listen))
}

// setPassword changes what the node's user mapping says, and ends sessions that
// were opened with what it said before.
func (s *secretRun) setPassword(password string) {
	s.t.Helper()
	s.onSource("ALTER USER MAPPING FOR PUBLIC SERVER courier_" + targetNode + " OPTIONS (SET password '" + password + "')")
	s.onTarget("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'remote'")
}

// No log of the three processes, no metric and no status tells a password or a
// value of a row, whatever goes wrong. Keys may be told.
func TestFaultsTellNoSecrets(t *testing.T) {
	t.Parallel()
	for role := range roles {
		t.Run(role, func(t *testing.T) {
			s := startSecretRun(t, role)
			for _, fault := range []func(){s.calm, s.loseConnections, s.changePassword, s.restartServers, s.violateConstraints, s.misfit} {
				fault()
				s.requireState("streaming", "")
				s.another()
				s.wait()
			}
			s.requireEqual("item", "strict")
			s.courier.stop()
			s.requireSilence()
		})
	}
}

func (s *secretRun) calm() { s.another() }

func (s *secretRun) loseConnections() {
	s.proxy.ResetPeer(0.3, randomSource(randomSeed(s.t), 0))
	defer s.proxy.Restore()
	eventually(s.t, "resets", func() bool {
		s.another()
		return s.proxy.Resets() > 5
	})
}

func (s *secretRun) changePassword() {
	s.setPassword(wrongPassword)
	s.another()
	// who ships can't connect, or has been told by the probe what the node answers
	s.requireState("retrying", "(08...|28P01)")
	s.setPassword(nodePassword)
}

func (s *secretRun) restartServers() {
	for _, cluster := range []*pgtest.Cluster{s.target, s.source} {
		s.another()
		require.NoError(s.t, cluster.Restart(s.t.Context(), pgtest.Immediate))
	}
}

// violateConstraints lets the target refuse rows that are as they should be.
func (s *secretRun) violateConstraints() {
	s.insert("item", "twin")
	s.wait()
	s.onTarget("ALTER TABLE item ADD CONSTRAINT none CHECK (body NOT LIKE '%forbidden%')")
	s.insert("item", "forbidden")
	s.requireState("stopped", "23514")
	s.onTarget("ALTER TABLE item DROP CONSTRAINT none; CREATE UNIQUE INDEX one ON item (body)")
	s.requireState("streaming", "")
	s.insert("item", "twin")
	s.requireState("stopped", "23505")
	s.onTarget("DROP INDEX one")
}

// misfit lets the target have a column of another type, and no table.
func (s *secretRun) misfit() {
	s.insert("strict", "no number")
	s.requireState("stopped", "42804")
	s.onTarget("ALTER TABLE strict ALTER v TYPE text")
	s.requireState("streaming", "")
	s.onTarget("ALTER TABLE item RENAME TO mislaid")
	s.another()
	s.requireState("stopped", "42P01")
	s.onTarget("ALTER TABLE mislaid RENAME TO item")
}

// requireSilence looks for what was planted in everything that was said.
func (s *secretRun) requireSilence() {
	s.t.Helper()
	fmt.Fprintf(&s.said, "sidecar: %s\n", s.courier.log.String())
	for _, cluster := range []*pgtest.Cluster{s.source, s.target} {
		log, err := os.ReadFile(cluster.LogFile)
		require.NoError(s.t, err)
		require.Contains(s.t, string(log), "starting PostgreSQL")
		for line := range strings.Lines(string(log)) {
			s.said.WriteString(cluster.Name + ": " + line)
		}
	}
	for line := range strings.Lines(s.said.String()) {
		if strings.Contains(line, planted) {
			s.t.Errorf("a secret is told: %s", shorten(line))
		}
	}
}
