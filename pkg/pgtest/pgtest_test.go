package pgtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// holdVariable makes the test binary a program that starts a cluster, says
// where, and waits to be killed.
const holdVariable = "PGTEST_HOLD"

func TestMain(m *testing.M) {
	if os.Getenv(holdVariable) != "" {
		hold()
		return
	}
	goleak.VerifyTestMain(Cleaning(m))
}

func hold() {
	c, err := StartCluster(context.Background(), "", Name("held"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.PostmasterPID(), c.Dir)
	select {}
}

func TestServerTakesConnectionsBothWays(t *testing.T) {
	t.Parallel()
	c := Start(t, Name("ways"), Setting("work_mem", "7MB"))
	require.Equal(t, "7MB", c.Value(t, "postgres", "SHOW work_mem"))

	conn, err := pgx.Connect(t.Context(), c.SocketDSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var port int
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting('port')::int").Scan(&port))
	require.Equal(t, c.Port, port)
}

func TestDatabaseOfAnyName(t *testing.T) {
	t.Parallel()
	c := Start(t)
	name := `it's a "name" \ here`
	c.Database(t, name)
	require.Equal(t, [][]string{{name, "NULL"}}, c.Query(t, name, "SELECT current_database(), NULL"))
}

func TestPasswordIsAskedOnTCP(t *testing.T) {
	t.Parallel()
	c := Start(t)
	conn, err := pgx.Connect(t.Context(), c.DSNAs("postgres", PasswordRole, Password))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))

	_, err = pgx.Connect(t.Context(), c.DSNAs("postgres", PasswordRole, "wrong"))
	var pgErr *pgconn.PgError
	require.True(t, errors.As(err, &pgErr), "%v", err)
	require.Equal(t, "28P01", pgErr.Code)
}

func TestClustersHaveTheirOwnSystemIdentifier(t *testing.T) {
	t.Parallel()
	a, b := Start(t, Name("a")), Start(t, Name("b"))
	const identifier = "SELECT system_identifier FROM pg_control_system()"
	require.NotEqual(t, a.Value(t, "postgres", identifier), b.Value(t, "postgres", identifier))
	require.NotEqual(t, a.Port, b.Port)
}

func TestCommittedWorkSurvivesEveryEnd(t *testing.T) {
	t.Parallel()
	c := Start(t)
	port := c.Port
	c.Exec(t, "postgres", "CREATE TABLE t (how text)")
	ends := map[string]func() error{
		"fast":      func() error { return c.Stop(Fast) },
		"immediate": func() error { return c.Stop(Immediate) },
		"kill -9":   c.Kill9,
	}
	for how, end := range ends {
		c.Exec(t, "postgres", "INSERT INTO t VALUES ($1)", how)
		// A client that is there at the end, and a busy one.
		c.Connect(t, "postgres")
		busy := c.Connect(t, "postgres")
		finished := make(chan error, 1)
		go func() {
			_, err := busy.Exec(context.Background(), "SELECT pg_sleep(60)")
			finished <- err
		}()
		c.Eventually(t, "postgres",
			"SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'", "1", 5*time.Second)
		require.NoError(t, end(), how)
		require.Error(t, <-finished, how)
		require.Zero(t, c.PostmasterPID(), how)
		require.NoError(t, c.Start(t.Context()), how)
		require.Equal(t, port, c.Port)
	}
	require.Equal(t, "3", c.Value(t, "postgres", "SELECT count(*) FROM t"))
}

func TestDestroyAfterKillLeavesNoSharedMemory(t *testing.T) {
	t.Parallel()
	c, err := StartCluster(t.Context(), "", Name("shm"))
	require.NoError(t, err)
	lock, err := os.ReadFile(filepath.Join(c.DataDir, "postmaster.pid"))
	require.NoError(t, err)
	var key, id string // line 7: of the System V segment
	_, err = fmt.Sscan(strings.Split(string(lock), "\n")[6], &key, &id)
	require.NoError(t, err)
	segment := func() bool {
		list, err := os.ReadFile("/proc/sysvipc/shm")
		require.NoError(t, err)
		for line := range strings.Lines(string(list)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[1] == id {
				return true
			}
		}
		return false
	}
	require.True(t, segment())
	require.NoError(t, c.Kill9())
	require.True(t, segment())
	require.NoError(t, c.Destroy())
	require.False(t, segment())
}

func TestConfigureCountsFromTheNextStart(t *testing.T) {
	t.Parallel()
	c := Start(t)
	require.NoError(t, c.Configure(map[string]string{"search_path": "it's", "fsync": ""}))
	require.NoError(t, c.Restart(t.Context(), Fast))
	require.Equal(t, "it's", c.Value(t, "postgres", "SHOW search_path"))
	require.Equal(t, "on", c.Value(t, "postgres", "SHOW fsync"))
}

func TestStartWaitsForItsPort(t *testing.T) {
	t.Parallel()
	c := Start(t)
	require.NoError(t, c.Stop(Fast))
	l, err := listen(c.Port)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, c.Start(ctx), context.DeadlineExceeded)

	started := make(chan error, 1)
	go func() { started <- c.Start(t.Context()) }()
	require.NoError(t, l.Close())
	require.NoError(t, <-started)
}

func TestBadSettingFailsWithTheLog(t *testing.T) {
	t.Parallel()
	_, err := StartCluster(t.Context(), "", Setting("no_such_setting", "1"))
	require.ErrorContains(t, err, "no_such_setting")
}

func TestDirectoryOfTheCaller(t *testing.T) {
	t.Parallel()
	base, err := reachableTempDir()
	require.NoError(t, err)
	dir, err := os.MkdirTemp(base, "pgtest-own-")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o711))

	c, err := StartCluster(t.Context(), filepath.Join(dir, "eu"), Name("eu"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "eu"), c.Dir)
	require.NoError(t, c.Destroy())
	require.NoDirExists(t, c.Dir)
}

func TestPsqlStopsAtAnError(t *testing.T) {
	t.Parallel()
	c := Start(t)
	out, err := c.Psql(t.Context(), "postgres", "-At", "-c", "SELECT 40 + 2").Output()
	require.NoError(t, err)
	require.Equal(t, "42\n", string(out))
	require.Error(t, c.Psql(t.Context(), "postgres", "-c", "SELECT 1/0").Run())
}

// Whatever kills the process, its server ends and its directory goes.
func TestNothingOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGQUIT} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), holdVariable+"=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		var pid int
		var dir string
		_, err = fmt.Sscan(line, &pid, &dir)
		require.NoError(t, err, line)
		require.NoError(t, syscall.Kill(pid, 0))

		require.NoError(t, cmd.Process.Signal(signal))
		cmd.Wait()
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Dir(dir))
			return os.IsNotExist(err) && syscall.Kill(pid, 0) == syscall.ESRCH
		}, 10*time.Second, 20*time.Millisecond, "%s: server %d, directory %s", signal, pid, dir)
	}
}

func TestFreePortCanBeListenedOn(t *testing.T) {
	t.Parallel()
	port, err := freePort()
	require.NoError(t, err)
	l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	require.True(t, portTaken(port))
	require.NoError(t, l.Close())
}

func TestDSNValuesAreQuoted(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"plain": "plain", "": "''", "two words": "'two words'", `q'b\`: `'q\'b\\'`,
	} {
		require.Equal(t, want, quoteDSN(value))
		config, err := pgx.ParseConfig("host=h user=u dbname=d password=" + quoteDSN(value))
		require.NoError(t, err)
		require.Equal(t, value, config.Password)
	}
	require.True(t, strings.HasPrefix((&Cluster{Port: 7}).DSN("d"), "host=127.0.0.1 port=7 "))
}
