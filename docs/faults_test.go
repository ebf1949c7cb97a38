// Package docs_test checks what the operator's manual says of this tree.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goTests lists the tests of a package by name.
func goTests(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", folder, "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files, folder)
	tests := make(map[string]bool)
	for _, file := range files {
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(source, -1) {
			tests[string(found[1])] = true
		}
	}
	return tests
}

// Every row of faults.md names tests, and they exist.
func TestFaultsNameTests(t *testing.T) {
	page, err := os.ReadFile("faults.md")
	require.NoError(t, err)
	named := regexp.MustCompile("`([^`]+)`(?: \\((pkg/\\w+)\\))?")
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 || strings.HasPrefix(cells[1], "---") || strings.TrimSpace(cells[len(cells)-2]) == "shown by" {
			continue
		}
		require.Len(t, cells, 5, line)
		rows++
		tests := named.FindAllStringSubmatch(cells[3], -1)
		require.NotEmpty(t, tests, line)
		for _, test := range tests {
			name, folder := test[1], test[2]
			if folder == "" {
				folder = "test/e2e"
			}
			if strings.HasPrefix(name, "Test") {
				require.True(t, goTests(t, folder)[name], "%s names %s, which is not in %s", strings.TrimSpace(cells[1]), name, folder)
				continue
			}
			require.FileExists(t, filepath.Join("..", "test", "regress", "sql", name+".sql"), cells[1])
		}
	}
	require.Greater(t, rows, 20)
}
