package config

import (
	"errors"
	"fmt"
	"io/fs"
)

// Error is a setting that cannot be used. Its text is one line without secrets.
type Error struct {
	Where   string // "--listen", "COURIER_LISTEN", "courier.toml:3: listen"
	Problem string
}

func (e *Error) Error() string { return e.Where + ": " + e.Problem }

func errorAt(where, format string, args ...any) *Error {
	return &Error{Where: where, Problem: fmt.Sprintf(format, args...)}
}

// reason is why a file can't be read, without its path, which is said already.
func reason(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
