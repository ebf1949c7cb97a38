// Command regress runs pg_regress against a cluster of its own, which it
// starts and removes. make test calls it twice: without and with pg_courier
// in shared_preload_libraries. Against a server that runs already, make
// installcheck does the same.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func main() {
	preload := flag.Bool("preload", false, "have pg_courier in shared_preload_libraries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := regress(ctx, *preload); err != nil {
		fmt.Fprintln(os.Stderr, "regress:", err)
		os.Exit(1)
	}
}

func regress(ctx context.Context, preload bool) (err error) {
	tests, err := filepath.Glob("test/regress/sql/*.sql")
	if err != nil || len(tests) == 0 {
		return errors.New("find test/regress/sql/*.sql: none there; run from the repository's root")
	}
	defer func() { err = errors.Join(err, pgtest.Cleanup()) }()
	cluster, err := pgtest.StartCluster(ctx, "",
		pgtest.Name("regress"),
		pgtest.Preload(preload),
		pgtest.Setting("max_prepared_transactions", "16"))
	if err != nil {
		return err
	}

	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", "installcheck")
	cmd.Env = environment(cluster)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Run(); err != nil {
		if diffs, read := os.ReadFile("build/regress/regression.diffs"); read == nil {
			os.Stdout.Write(diffs)
		}
		return fmt.Errorf("run pg_regress: %w; end of the server's log:\n%s", err, cluster.LogTail(4000))
	}
	return nil
}

// environment is the caller's without its PG* variables, which would lead
// elsewhere, and without those of a make around this one.
func environment(cluster *pgtest.Cluster) []string {
	env := []string{
		"PGHOST=" + cluster.SocketDir,
		fmt.Sprintf("PGPORT=%d", cluster.Port),
		"PGUSER=" + pgtest.Superuser,
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name == "PG_CONFIG" || !strings.HasPrefix(name, "PG") && !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" {
			env = append(env, v)
		}
	}
	return env
}
