package doctor

import (
	"slices"
	"strconv"
	"strings"
)

// Values travel as text. These types hold every value of those before them in
// the same line.
var widening = [][]string{
	{"smallint", "integer", "bigint", "numeric"},
	{"smallint", "integer", "double precision"},
	{"real", "double precision"},
	{"jsonb", "json"},
	{"cidr", "inet"},
	{"date", "timestamp without time zone"},
}

// fits judges whether every value of a source's column can be written to the
// node's. Types of one name are taken to be the same.
func fits(source, node *column) (Severity, string) {
	from, fromLimits := limits(source.Type)
	to, toLimits := limits(node.Type)
	switch {
	case source.Type == node.Type:
		return OK, ""
	case to == "text", to == "character varying" && toLimits == nil:
		return OK, ""
	case from == to || characters(from) && characters(to):
		if holds(from, fromLimits, toLimits) {
			return OK, ""
		}
		if from == "numeric" || strings.HasPrefix(from, "time") || from == "interval" {
			return Warning, "Values are rounded on the node, or one that is too large stops the subscription."
		}
		return Warning, "A value that is too long stops the subscription."
	case toLimits == nil && widens(from, to):
		return OK, ""
	case source.Category == node.Category:
		return Warning, "A value that the node's type does not hold stops the subscription, or is not the same there."
	case node.Category == "E" || characters(to):
		return Warning, "A value that the node's type does not know, or that is too long, stops the subscription."
	}
	return Error, "The subscription stops at the first value that is not one of the node's type."
}

func characters(base string) bool {
	return base == "character varying" || base == "character" || base == "text"
}

func widens(from, to string) bool {
	for _, line := range widening {
		if i, j := slices.Index(line, from), slices.Index(line, to); i >= 0 && j > i {
			return true
		}
	}
	return false
}

// limits takes a type apart: numeric(10,2) is numeric and {10, 2}; timestamp(3)
// without time zone is timestamp without time zone and {3}.
func limits(typ string) (string, []int) {
	open, end := strings.IndexByte(typ, '('), strings.IndexByte(typ, ')')
	if open < 0 || end < open || strings.Contains(typ[end:], "(") || strings.Contains(typ, `"`) {
		return typ, nil
	}
	var numbers []int
	for part := range strings.SplitSeq(typ[open+1:end], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return typ, nil // such as geometry(Point,4326): compared as a whole
		}
		numbers = append(numbers, n)
	}
	return typ[:open] + typ[end+1:], numbers
}

// holds reports whether limits of the node take in those of the source.
func holds(base string, source, node []int) bool {
	switch {
	case node == nil:
		return true
	case source == nil:
		return false
	case base == "numeric":
		scale := func(l []int) int {
			if len(l) < 2 {
				return 0
			}
			return l[1]
		}
		return scale(node) >= scale(source) && node[0]-scale(node) >= source[0]-scale(source)
	case strings.HasPrefix(base, "bit") && !strings.Contains(base, "varying"):
		return slices.Equal(source, node)
	}
	return len(source) == 1 && len(node) == 1 && node[0] >= source[0]
}
