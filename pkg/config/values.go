package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// DefaultListen is reachable from the same host only.
const DefaultListen = "127.0.0.1:9632"

// nothing is the value of a setting that is switched off. An empty one does it
// too where a value can be empty.
const nothing = "none"

func problem(format string, args ...any) error { return fmt.Errorf(format, args...) }

// parseListen takes host:port; an empty host is every address of the machine.
func parseListen(text string) (string, error) {
	if text == "" || text == nothing {
		return "", nil
	}
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", problem("%q is not of the form host:port, such as %s; none for no listener", text, DefaultListen)
	}
	return text, nil
}

// parseLevel is stricter than slog, which knows info+2.
func parseLevel(text string) (slog.Level, error) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		if strings.EqualFold(text, level.String()) {
			return level, nil
		}
	}
	return 0, problem("%q is none of debug, info, warn, error", text)
}

func parseFormat(text string) (string, error) {
	if text != FormatText && text != FormatJSON {
		return "", problem("%q is none of text, json", text)
	}
	return text, nil
}

func parseDuration(text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, problem("%q is not a duration, such as 500ms, 4s or 1m30s", text)
	}
	if d < least || d > most {
		return 0, problem("%s is not between %s and %s", text, least, most)
	}
	return d, nil
}

// sizeUnits are PostgreSQL's: a kB is 1024 bytes.
var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}}

func parseMemory(text string) (int64, error) {
	if text == "" || text == nothing {
		return 0, nil
	}
	size, err := parseSize(text)
	if err != nil {
		return 0, problem("%q is not a size with its unit, such as 512MB or 2GB; none for no limit", text)
	}
	if size < leastMemory {
		return 0, problem("%s is less than %dMB", text, leastMemory>>20)
	}
	return size, nil
}

func parseSize(text string) (int64, error) {
	for _, unit := range sizeUnits {
		digits, ok := strings.CutSuffix(text, unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/unit.bytes {
			return 0, errors.New("not a number that fits")
		}
		return n * unit.bytes, nil
	}
	return 0, errors.New("no unit")
}

// nonEmptyLines splits the one variable that has several values.
func nonEmptyLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}
