package pgtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// root is the process's directory and what guards it; see the package
// comment. mu guards everything in it.
var root struct {
	mu       sync.Mutex
	dir      string
	template string
	next     int
	watchdog *exec.Cmd
	pipe     io.Closer // open while this process lives
	clusters map[*Cluster]struct{}
}

// watchdogScript waits for its standard input to end, then ends every
// postmaster whose data directory is under $1 and removes $1. A process is
// only believed to be a postmaster of ours if it works in that directory.
const watchdogScript = `
trap '' INT TERM HUP QUIT PIPE
cat >/dev/null
alive() {
    for f in "$1"/*/data/postmaster.pid; do
        [ -e "$f" ] || continue
        read -r pid <"$f" || continue
        [ "$(readlink "/proc/$pid/cwd")" = "${f%/postmaster.pid}" ] && echo "$pid"
    done
    return 0
}
signal=QUIT
for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    pids=$(alive "$1")
    if [ -n "$pids" ]; then
        [ "$attempt" -lt 15 ] || signal=KILL
        kill -s "$signal" $pids
    else
        rm -rf -- "$1" && exit 0
    fi
    sleep 0.2
done
`

// ensureRoot makes the process's directory; root.mu is held.
func ensureRoot() error {
	if root.dir != "" {
		return nil
	}
	base, err := reachableTempDir()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(base, "pgtest-")
	if err != nil {
		return fmt.Errorf("make temp directory: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("open temp directory to the server's user: %w", err)
	}

	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open pipe to watchdog: %w", err)
	}
	defer reader.Close()
	watchdog := exec.Command("/bin/sh", "-c", watchdogScript, "pgtest-watchdog", dir)
	watchdog.Dir = "/"
	watchdog.Stdin = reader
	// Its own session: a Ctrl-C meant for this process is not for it.
	watchdog.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := watchdog.Start(); err != nil {
		writer.Close()
		os.RemoveAll(dir)
		return fmt.Errorf("start watchdog: %w", err)
	}
	root.dir, root.watchdog, root.pipe = dir, watchdog, writer
	root.clusters = map[*Cluster]struct{}{}
	return nil
}

// reachableTempDir is a directory for temporary files that the server's user
// can get to: a parent without search permission makes it useless.
func reachableTempDir() (string, error) {
	cred, err := credential()
	if err != nil {
		return "", err
	}
	candidates := []string{os.TempDir(), "/tmp", "/var/tmp"}
	for _, candidate := range candidates {
		dir, err := filepath.EvalSymlinks(candidate)
		if err != nil {
			continue
		}
		// A socket's path has 107 bytes at most.
		if len(dir) > 40 {
			continue
		}
		if cred == nil || searchable(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find a temp directory that user %s can reach: tried %s; set TMPDIR",
		serverUser, strings.Join(candidates, ", "))
}

func searchable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// newDir makes a directory in the root that belongs to the server's user.
func newDir(name string) (string, error) {
	root.mu.Lock()
	defer root.mu.Unlock()
	if err := ensureRoot(); err != nil {
		return "", err
	}
	root.next++
	dir := filepath.Join(root.dir, fmt.Sprintf("%s-%d", name, root.next))
	return dir, makeServerDir(dir)
}

func makeServerDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	cred, err := credential()
	if err != nil || cred == nil {
		return err
	}
	if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("give directory to %s: %w", serverUser, err)
	}
	return nil
}

// template is a data directory that was never started, made at first need.
func template(ctx context.Context, inst *Installation) (string, error) {
	root.mu.Lock()
	defer root.mu.Unlock()
	if root.template != "" {
		return root.template, nil
	}
	if err := ensureRoot(); err != nil {
		return "", err
	}
	dir := filepath.Join(root.dir, "template")
	if err := makeServerDir(dir); err != nil {
		return "", err
	}
	data := filepath.Join(dir, "data")
	err := run(ctx, dir, inst.Program("initdb"), "-D", data, "-U", Superuser,
		"-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions")
	if err != nil {
		return "", fmt.Errorf("make template cluster: %w", err)
	}
	single, err := serverCommand(ctx, dir, inst.Program("postgres"),
		"--single", "-F", "-D", data, "postgres")
	if err != nil {
		return "", err
	}
	single.Stdin = strings.NewReader(fmt.Sprintf(
		"CREATE ROLE %s LOGIN PASSWORD '%s'\n", PasswordRole, Password))
	if out, err := single.CombinedOutput(); err != nil {
		return "", fmt.Errorf("create role in template cluster: %w\n%s", err, out)
	}
	root.template = data
	return data, nil
}

// cloneTemplate copies the template to data and gives the copy a system
// identifier of its own: clusters must be told apart by it.
func cloneTemplate(ctx context.Context, inst *Installation, dir, data string) error {
	from, err := template(ctx, inst)
	if err != nil {
		return err
	}
	if err := run(ctx, dir, "cp", "-a", from, data); err != nil {
		return fmt.Errorf("copy template cluster: %w", err)
	}

	// The identifier is the first 8 bytes of pg_control and is repeated in
	// the WAL. pg_resetwal takes a control file whose checksum is wrong at
	// its word when forced, and writes file and WAL anew.
	control, err := os.OpenFile(filepath.Join(data, "global", "pg_control"), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open control file: %w", err)
	}
	identifier := make([]byte, 8)
	binary.NativeEndian.PutUint64(identifier, rand.Uint64()>>1)
	if _, err := control.WriteAt(identifier, 0); err != nil {
		control.Close()
		return fmt.Errorf("write system identifier: %w", err)
	}
	if err := control.Close(); err != nil {
		return fmt.Errorf("write system identifier: %w", err)
	}
	return run(ctx, dir, inst.Program("pg_resetwal"), "-f", "-D", data)
}

// Cleanup destroys every cluster of this process and removes its root
// directory. Programs defer it; tests need not, the watchdog does the same
// when they end.
func Cleanup() error {
	root.mu.Lock()
	var clusters []*Cluster
	for c := range root.clusters {
		clusters = append(clusters, c)
	}
	root.mu.Unlock()

	var first error
	for _, c := range clusters {
		if err := c.Destroy(); err != nil && first == nil {
			first = err
		}
	}

	root.mu.Lock()
	defer root.mu.Unlock()
	if root.dir == "" {
		return first
	}
	root.pipe.Close()
	if err := root.watchdog.Wait(); err != nil && first == nil {
		first = fmt.Errorf("wait for watchdog: %w", err)
	}
	root.dir, root.template, root.watchdog, root.pipe = "", "", nil, nil
	return first
}
