package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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

func startSecretRun(t *testing.T) *secretRun {
	t.Helper()
	s := &secretRun{replica: startBare(t)}
	s.proxy = faultnet.New(t, fmt.Sprintf("127.0.0.1:%d", s.target.Port))
	s.onSource("CREATE ROLE boss LOGIN SUPERUSER PASSWORD '" + sourcePassword + "'")
	// as docs/operating.md says
	s.onTarget("CREATE ROLE remote LOGIN PASSWORD '" + nodePassword + "'")
	s.onTarget(`GRANT CREATE ON DATABASE app TO remote;
		GRANT SET ON PARAMETER session_replication_role TO remote;
		ALTER ROLE remote SET log_min_messages = 'fatal';
		ALTER ROLE remote SET log_min_error_statement = 'panic'`)
	s.install(fmt.Sprintf("host=127.0.0.1 port=%d dbname=%s user=remote password=%s", s.proxy.Port(), appDatabase, nodePassword))
	s.onBoth(`CREATE TABLE item (id int PRIMARY KEY, body text); CREATE TABLE strict (id int PRIMARY KEY, v text)`)
	s.onTarget("ALTER TABLE strict ALTER v TYPE int USING 0; GRANT ALL ON item, strict TO remote")
	s.add("default", "item", "strict")
	s.subscribe("{default}", false)

	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	s.listen = listener.Addr().String()
	require.NoError(t, listener.Close())
	s.courier = s.startSidecarFor([]string{s.source.DSNAs(appDatabase, "boss", sourcePassword)}, "--log-level", "debug", "--listen", s.listen)
	return s
}

// insert adds a row with a secret in it.
func (s *secretRun) insert(table, value string) {
	s.t.Helper()
	s.id++
	s.onSource("INSERT INTO "+table+" VALUES ($1, $2)", s.id, value)
}

// requireState waits for a state and keeps what status and metrics say then.
func (s *secretRun) requireState(state, code string) {
	s.t.Helper()
	s.source.Eventually(s.t, appDatabase, "SELECT state || ' ' || coalesce(last_error_sqlstate, '') LIKE '"+state+" "+code+
		"' FROM courier.subscription_status", "t", patience)
	fmt.Fprintf(&s.said, "status: %v\n", s.status())
	s.readMetrics()
}

func (s *secretRun) readMetrics() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.listen+"/metrics", nil)
	require.NoError(s.t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	require.Equal(s.t, http.StatusOK, response.StatusCode)
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Contains(s.t, string(body), subscription)
	fmt.Fprintf(&s.said, "metrics: %s\n", body)
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
	s := startSecretRun(t)
	s.insert("item", rowSecret)
	s.wait()
	s.requireState("streaming", "")

	for what, fault := range map[string]func(){
		"rows": func() {
			s.onTarget("ALTER TABLE item ADD CONSTRAINT none CHECK (body NOT LIKE '%forbidden%')")
			s.insert("item", rowSecret+" forbidden")
			s.requireState("stopped", "23514")
			s.onTarget("ALTER TABLE item DROP CONSTRAINT none; CREATE UNIQUE INDEX one ON item (body)")
			s.requireState("streaming", "")
			s.insert("item", rowSecret)
			s.requireState("stopped", "23505")
			s.onTarget("DROP INDEX one")
			s.requireState("streaming", "")
			s.insert("strict", rowSecret)
			s.requireState("stopped", "22P02")
			s.onTarget("ALTER TABLE strict ALTER v TYPE text")
		},
		"schema": func() {
			s.onTarget("ALTER TABLE item RENAME TO mislaid")
			s.insert("item", rowSecret)
			s.requireState("stopped", "42P01")
			s.onTarget("ALTER TABLE mislaid RENAME TO item")
		},
		"password": func() {
			s.setPassword(wrongPassword)
			s.insert("item", rowSecret)
			s.requireState("retrying", "08%")
			s.setPassword(nodePassword)
		},
		"resets": func() {
			s.proxy.ResetPeer(0.3, randomSource(randomSeed(t), 0))
			eventually(t, "resets", func() bool {
				s.insert("item", rowSecret)
				return s.proxy.Resets() > 5
			})
			s.proxy.Restore()
		},
		"target": func() {
			s.insert("item", rowSecret)
			require.NoError(t, s.target.Restart(t.Context(), pgtest.Immediate))
		},
		"source": func() {
			s.insert("item", rowSecret)
			require.NoError(t, s.source.Restart(t.Context(), pgtest.Immediate))
		},
	} {
		t.Log(what)
		fault()
		s.insert("item", rowSecret)
		s.wait()
		s.requireState("streaming", "")
		s.requireEqual("item", "strict")
	}
	s.courier.stop()

	fmt.Fprintf(&s.said, "sidecar: %s\n", s.courier.log.String())
	for _, cluster := range []*pgtest.Cluster{s.source, s.target} {
		log, err := os.ReadFile(cluster.LogFile)
		require.NoError(t, err)
		require.NotEmpty(t, log)
		fmt.Fprintf(&s.said, "%s: %s\n", cluster.Name, log)
	}
	for line := range strings.Lines(s.said.String()) {
		if strings.Contains(line, planted) {
			t.Errorf("a secret is told: %s", shorten(line))
		}
	}
}
