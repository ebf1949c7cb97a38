package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pg-courier/pg_courier/pkg/pgtest"
)

// requirement is what has to be installed for a peer, beyond PostgreSQL.
type requirement struct {
	packages   []string // Debian's; MAJOR stands for PostgreSQL's major version
	extensions []string // with a control file in PostgreSQL's own directory
	libraries  []string // patterns, in its library directory
	programs   []string // on the PATH, or beside PostgreSQL's programs
}

// missing says what is not there: nothing, if it can be used.
func (r *requirement) missing() ([]string, error) {
	libraries, extensions, err := directories()
	if err != nil {
		return nil, err
	}
	var absent []string
	for _, name := range r.extensions {
		if _, err := os.Stat(filepath.Join(extensions, name+".control")); err != nil {
			absent = append(absent, "extension "+name)
		}
	}
	for _, pattern := range r.libraries {
		if found, _ := filepath.Glob(filepath.Join(libraries, pattern)); len(found) == 0 {
			absent = append(absent, "library "+pattern)
		}
	}
	for _, name := range r.programs {
		if program(name) == "" {
			absent = append(absent, "program "+name)
		}
	}
	return absent, nil
}

// printPackages prints the packages of what is missing.
func printPackages() error {
	var needed []requirement
	for _, s := range systems {
		needed = append(needed, s.needs)
	}
	for _, way := range captures {
		needed = append(needed, way.needs)
	}
	var all []string
	for _, r := range needed {
		absent, err := r.missing()
		if err != nil {
			return err
		}
		if len(absent) == 0 {
			continue
		}
		names, err := r.packageNames()
		if err != nil {
			return err
		}
		all = append(all, names...)
	}
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		fmt.Println(name)
	}
	return nil
}

// packageNames are the packages to install, for the server's major version.
func (r *requirement) packageNames() ([]string, error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range r.packages {
		names = append(names, strings.ReplaceAll(name, "MAJOR", strconv.Itoa(inst.Major)))
	}
	return names, nil
}

// program is the path of a program, "" if there is none.
func program(name string) string {
	if inst, err := pgtest.FindInstallation(); err == nil {
		if path := inst.Program(name); executable(path) {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// directories are those of PostgreSQL's libraries and of its extensions.
func directories() (libraries, extensions string, err error) {
	inst, err := pgtest.FindInstallation()
	if err != nil {
		return "", "", err
	}
	out, err := exec.Command(inst.Program("pg_config"), "--pkglibdir", "--sharedir").Output()
	if err != nil {
		return "", "", fmt.Errorf("ask pg_config for its directories: %w", err)
	}
	found := strings.Fields(string(out))
	if len(found) != 2 {
		return "", "", fmt.Errorf("ask pg_config for its directories: %q is not two of them", out)
	}
	return found[0], filepath.Join(found[1], "extension"), nil
}
