package pgtest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// Without lets the server find that programs of its installation are not there.
func Without(programs ...string) Option { return func(o *options) { o.without = programs } }

// lacking makes a copy of an installation that does not have some of its
// programs. A server looks for whatever belongs to it beside its own program,
// which is copied therefore: a link would lead back. All else are links.
func (i *Installation) lacking(dir string, programs []string) (*Installation, error) {
	bin := filepath.Join(dir, i.BinDir)
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", bin, err)
	}
	entries, err := os.ReadDir(i.BinDir)
	if err != nil {
		return nil, fmt.Errorf("list the programs of PostgreSQL: %w", err)
	}
	for _, entry := range entries {
		switch name := entry.Name(); {
		case slices.Contains(programs, name):
		case name == "postgres":
			err = copyProgram(i.Program(name), filepath.Join(bin, name))
		default:
			err = os.Symlink(i.Program(name), filepath.Join(bin, name))
		}
		if err != nil {
			return nil, fmt.Errorf("copy the installation of PostgreSQL: %w", err)
		}
	}
	for _, path := range []string{i.LibDir, i.ShareDir} {
		copied := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return nil, fmt.Errorf("copy the installation of PostgreSQL: %w", err)
		}
		if err := os.Symlink(path, copied); err != nil {
			return nil, fmt.Errorf("copy the installation of PostgreSQL: %w", err)
		}
	}
	copied := *i
	copied.BinDir = bin
	return &copied, nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
