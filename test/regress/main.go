// Command regress runs pg_regress against a cluster of its own, which it
// starts and removes: all themes of test/regress, or those that its arguments
// name. make test calls it twice: without and with pg_courier in
// shared_preload_libraries. Against a server that runs already, make
// installcheck does the same; it takes themes as REGRESS='theme …'.
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
	"slices"
	"strings"
	"syscall"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

func main() {
	preload := flag.Bool("preload", false, "have pg_courier in shared_preload_libraries")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := regress(ctx, *preload, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "regress:", err)
		os.Exit(1)
	}
}

func regress(ctx context.Context, preload bool, themes []string) (err error) {
	if err := known(themes); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pgtest.Cleanup()) }()
	cluster, err := pgtest.StartCluster(ctx, "",
		pgtest.Name("regress"),
		pgtest.Preload(preload),
		pgtest.Setting("max_prepared_transactions", "16"))
	if err != nil {
		return err
	}

	cmd := exec.CommandContext(ctx, "make", installcheck(preload, themes)...)
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

// known makes sure that every theme exists, in the working directory's tree.
func known(themes []string) error {
	const folder = "test/regress/sql"
	files, err := filepath.Glob(folder + "/*.sql")
	if err != nil || len(files) == 0 {
		return fmt.Errorf("find %s/*.sql: none there; run from the repository's root", folder)
	}
	for _, theme := range themes {
		if !slices.Contains(files, filepath.Join(folder, theme+".sql")) {
			return fmt.Errorf("there is no theme %q: no file %s/%[1]s.sql", theme, folder)
		}
	}
	return nil
}

// installcheck gives the arguments of the make that runs pg_regress. No theme
// means all of them. A preloaded server's workers would ship what a theme ships
// itself, so alone comes along there.
func installcheck(preload bool, themes []string) []string {
	args := []string{"--no-print-directory", "installcheck"}
	if len(themes) == 0 {
		return args
	}
	if preload {
		themes = append([]string{"alone"}, themes...)
	}
	return append(args, "REGRESS="+strings.Join(themes, " "))
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
