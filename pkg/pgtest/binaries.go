package pgtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// serverUser runs the server when the invoking user is root.
const serverUser = "postgres"

// Installation is where one PostgreSQL keeps its programs.
type Installation struct {
	BinDir   string // psql, pgbench, postgres, initdb
	LibDir   string // modules
	ShareDir string // extensions
	PGXS     string // pgxs.mk, beside which pg_regress lives
	Major    int    // 15
}

// Program is the path of one of its programs.
func (i *Installation) Program(name string) string { return filepath.Join(i.BinDir, name) }

// FindInstallation asks pg_config, the one named by the environment's
// PG_CONFIG or else the first on PATH, once a process.
var FindInstallation = sync.OnceValues(func() (*Installation, error) {
	program := os.Getenv("PG_CONFIG")
	if program == "" {
		program = "pg_config"
	}
	out, err := exec.Command(program, "--bindir", "--pkglibdir", "--sharedir", "--pgxs", "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s where PostgreSQL is (set PG_CONFIG, or run make deps): %w", program, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != 5 {
		return nil, fmt.Errorf("ask %s where PostgreSQL is: %q is not five lines", program, out)
	}
	// "PostgreSQL 15.20 (…)", "PostgreSQL 19devel"
	version := strings.Fields(lines[4])
	if len(version) < 2 {
		return nil, fmt.Errorf("read version from %s: %q", program, lines[4])
	}
	digits := version[1]
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	major, err := strconv.Atoi(digits)
	if err != nil {
		return nil, fmt.Errorf("read version from %s: %q: %w", program, lines[4], err)
	}
	return &Installation{BinDir: lines[0], LibDir: lines[1], ShareDir: lines[2], PGXS: lines[3], Major: major}, nil
})

// credential is who the server runs as: nil for the invoking user.
var credential = sync.OnceValues(func() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup(serverUser)
	if err != nil {
		return nil, fmt.Errorf("find the user to run PostgreSQL as, which cannot be root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read uid of %s: %w", serverUser, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read gid of %s: %w", serverUser, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
})

// serverCommand is a command that runs as the server's user in dir, with an
// environment in which nothing of the caller's PG* variables is left.
func serverCommand(ctx context.Context, dir, program string, args ...string) (*exec.Cmd, error) {
	cred, err := credential()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = serverEnvironment(dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	return cmd, nil
}

// run runs such a command to its end; its output is in the error.
func run(ctx context.Context, dir, program string, args ...string) error {
	cmd, err := serverCommand(ctx, dir, program, args...)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// serverEnvironment drops PG* (a server's libpq, through dblink, would read
// them) and points HOME away from anyone's .pgpass.
func serverEnvironment(home string) []string {
	var env []string
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "HOME=") ||
			strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG") {
			continue
		}
		env = append(env, v)
	}
	return append(env, "HOME="+home, "LC_ALL=C")
}
