package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Roles of every cluster.
const (
	Superuser    = "postgres"
	PasswordRole = "courier_remote" // LOGIN, nothing else; needs Password on TCP
	Password     = "correct horse"
)

// Cluster is one PostgreSQL server. Its port stays the same over restarts.
type Cluster struct {
	Name      string
	Port      int
	Dir       string // everything of the cluster
	DataDir   string
	SocketDir string
	LogFile   string

	installation *Installation
	settings     map[string]string

	mu         sync.Mutex
	postmaster *postmaster // nil: not running
	crashed    bool        // Kill9 left a lock file behind
}

// Option changes how a cluster is made.
type Option func(*options)

type options struct {
	name     string
	settings map[string]string
	preload  bool
	primary  *Cluster
	without  []string // programs
}

// Name is how the cluster is called in directories and messages.
func Name(name string) Option { return func(o *options) { o.name = name } }

// Settings go into postgresql.conf, over the defaults of this package.
func Settings(settings map[string]string) Option {
	return func(o *options) { maps.Copy(o.settings, settings) }
}

// Setting is one of Settings.
func Setting(name, value string) Option {
	return func(o *options) { o.settings[name] = value }
}

// Preload says whether pg_courier is in shared_preload_libraries.
func Preload(on bool) Option { return func(o *options) { o.preload = on } }

// Durable turns fsync on, which is off for speed: a test needs it only to
// measure, since a killed process loses nothing that it has written.
func Durable() Option { return Setting("fsync", "on") }

// StandbyOf makes the cluster a streaming standby of another, which runs; it
// has the other's settings only if they are given again.
func StandbyOf(primary *Cluster) Option { return func(o *options) { o.primary = primary } }

func defaultSettings() map[string]string {
	return map[string]string{
		"fsync":           "off",
		"max_connections": "100",
		"log_line_prefix": "%m [%p] %a ",
		"timezone":        "UTC",
		"log_timezone":    "UTC",
	}
}

// StartCluster makes a cluster in dir and starts it; with dir "" in a new
// directory under the process's root, which the watchdog removes. The caller
// ends it with Destroy, or all of them with Cleanup.
func StartCluster(ctx context.Context, dir string, opts ...Option) (*Cluster, error) {
	c, err := newCluster(ctx, dir, opts...)
	if err != nil {
		return nil, err
	}
	if err := c.Start(ctx); err != nil {
		return nil, errors.Join(err, c.Destroy())
	}
	return c, nil
}

func newCluster(ctx context.Context, dir string, opts ...Option) (*Cluster, error) {
	o := options{name: "cluster", settings: defaultSettings()}
	for _, opt := range opts {
		opt(&o)
	}
	if o.preload {
		o.settings["shared_preload_libraries"] = strings.TrimPrefix(
			o.settings["shared_preload_libraries"]+",pg_courier", ",")
	}
	inst, err := FindInstallation()
	if err != nil {
		return nil, err
	}
	if dir == "" {
		dir, err = newDir(o.name)
	} else {
		err = makeServerDir(dir)
	}
	if err != nil {
		return nil, err
	}
	// The watchdog compares with what the kernel says.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("resolve directory of cluster %s: %w", o.name, err)
	}
	c := &Cluster{
		Name: o.name, Dir: dir, SocketDir: dir,
		DataDir: filepath.Join(dir, "data"), LogFile: filepath.Join(dir, "log"),
		installation: inst, settings: o.settings,
	}
	if err := c.fill(ctx, o.primary); err != nil {
		return nil, fmt.Errorf("make cluster %s: %w", c.Name, err)
	}
	if o.without != nil {
		if c.installation, err = inst.lacking(filepath.Join(dir, "installation"), o.without); err != nil {
			return nil, fmt.Errorf("make cluster %s: %w", c.Name, err)
		}
	}
	root.mu.Lock()
	root.clusters[c] = struct{}{}
	root.mu.Unlock()
	return c, nil
}

// fill makes the data directory.
func (c *Cluster) fill(ctx context.Context, primary *Cluster) error {
	if primary != nil {
		return run(ctx, c.Dir, c.installation.Program("pg_basebackup"), "--pgdata", c.DataDir, "--dbname",
			primary.DSN("postgres"), "--write-recovery-conf", "--checkpoint", "fast", "--no-sync")
	}
	if err := cloneTemplate(ctx, c.installation, c.Dir, c.DataDir); err != nil {
		return err
	}
	return c.writeHBA()
}

// Configure changes settings of a cluster; the next start takes them up.
// An empty value takes a setting out.
func (c *Cluster) Configure(settings map[string]string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, value := range settings {
		if value == "" {
			delete(c.settings, name)
		} else {
			c.settings[name] = value
		}
	}
	return c.writeSettings()
}

// writeSettings writes what this package sets to a file of its own, so that
// postgresql.conf stays initdb's and ALTER SYSTEM still has the last word.
func (c *Cluster) writeSettings() error {
	var b strings.Builder
	set := func(name, value string) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	set("listen_addresses", "127.0.0.1")
	set("port", fmt.Sprint(c.Port))
	set("unix_socket_directories", c.SocketDir)
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		set(name, c.settings[name])
	}
	return c.writeFile("pgtest.conf", b.String())
}

func (c *Cluster) writeHBA() error {
	conf, err := os.OpenFile(filepath.Join(c.DataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open configuration: %w", err)
	}
	_, err = conf.WriteString("\ninclude 'pgtest.conf'\n")
	if err := errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return c.writeFile("pg_hba.conf", `local all         all                    trust
local replication all                    trust
host  all         `+Superuser+` 127.0.0.1/32 trust
host  replication `+Superuser+` 127.0.0.1/32 trust
host  all         all      127.0.0.1/32 scram-sha-256
`)
}

// writeFile replaces a file in the data directory; it belongs to the server.
func (c *Cluster) writeFile(name, content string) error {
	path := filepath.Join(c.DataDir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	cred, err := credential()
	if err != nil || cred == nil {
		return err
	}
	if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
		return fmt.Errorf("give %s to %s: %w", name, serverUser, err)
	}
	return nil
}

// Destroy stops the server at once and removes its directory. Of a server
// that was killed, shared memory is left that only its successor removes: it
// is started once more for that.
func (c *Cluster) Destroy() error {
	c.mu.Lock()
	crashed := c.crashed
	c.mu.Unlock()
	var err error
	if crashed {
		err = c.Start(context.Background())
	}
	err = errors.Join(err, c.Stop(Immediate))
	root.mu.Lock()
	delete(root.clusters, c)
	root.mu.Unlock()
	if rm := os.RemoveAll(c.Dir); rm != nil {
		err = errors.Join(err, fmt.Errorf("remove cluster %s: %w", c.Name, rm))
	}
	return err
}

// LogTail is the end of the server's log, at most n bytes.
func (c *Cluster) LogTail(n int) string {
	log, err := os.ReadFile(c.LogFile)
	if err != nil {
		return ""
	}
	return string(log[max(0, len(log)-n):])
}

// freePort is a port nobody listens on just now; someone may the next moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
