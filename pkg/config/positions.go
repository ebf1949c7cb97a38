package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// positions are the lines on which the keys of a file stand, by path: listen,
// database[0].dsn.
type positions map[string]int

// line is 0 for a path that is not known. What stands inside a value has the
// line of the nearest key around it.
func (p positions) line(path string) int {
	for path != "" {
		if line, ok := p[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// findPositions walks over a document that is known to be TOML. The library
// keeps no positions of values that it could decode.
func findPositions(data []byte) positions {
	p := make(positions)
	tables := make(map[string]int) // how many of an array of tables there were
	var parser unstable.Parser
	parser.Reset(data)
	prefix := ""
	for parser.NextExpression() {
		node := parser.Expression()
		path, offset := keyPath(node)
		line := bytes.Count(data[:offset], []byte("\n")) + 1
		switch node.Kind {
		case unstable.ArrayTable:
			p.add(path, line)
			indexed := fmt.Sprintf("%s[%d]", path, tables[path])
			tables[path]++
			p.add(indexed, line)
			prefix = indexed + "."
		case unstable.Table:
			// [database.x] belongs to the [[database]] above it
			if array, rest, ok := strings.Cut(path, "."); ok && tables[array] > 0 {
				path = fmt.Sprintf("%s[%d].%s", array, tables[array]-1, rest)
			}
			p.add(path, line)
			prefix = path + "."
		case unstable.KeyValue:
			p.add(prefix+path, line)
		}
	}
	return p
}

// add keeps the first line, also for the tables that a dotted key implies.
func (p positions) add(path string, line int) {
	for i, c := range path {
		if c == '.' {
			p.addOne(path[:i], line)
		}
	}
	p.addOne(path, line)
}

func (p positions) addOne(path string, line int) {
	if _, ok := p[path]; !ok {
		p[path] = line
	}
}

// keyPath is the key of an expression, and where it begins.
func keyPath(node *unstable.Node) (path string, offset int) {
	var parts []string
	for it := node.Key(); it.Next(); {
		if len(parts) == 0 {
			offset = int(it.Node().Raw.Offset)
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), offset
}
