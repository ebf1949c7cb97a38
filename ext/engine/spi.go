package main

/*
#include <stdlib.h>
#include "courier_engine.h"

static CourierStatus
host_query(CourierHost *host, const char *sql, int32_t nargs,
		   CourierText *args, CourierRows *rows, CourierFailure *failure)
{
	return host->query(sql, nargs, args, rows, failure);
}

static void
host_release(CourierHost *host, CourierRows *rows)
{
	host->release(rows);
}

static CourierStatus
host_pin(CourierHost *host, CourierFailure *failure)
{
	return host->pin(failure);
}

static void
host_unpin(CourierHost *host)
{
	host->unpin();
}

static CourierStatus
host_share(CourierHost *host, const char **name, CourierFailure *failure)
{
	return host->share(name, failure);
}

static int
host_has_transactions(CourierHost *host)
{
	return host->begin != NULL;
}

static CourierStatus
host_begin(CourierHost *host, CourierFailure *failure)
{
	return host->begin(failure);
}

static CourierStatus
host_end(CourierHost *host, CourierFailure *failure)
{
	return host->end(failure);
}
*/
import "C"

import (
	"context"
	"fmt"
	"unsafe"

	"github.com/pg-courier/pg_courier/pkg/session"
)

// errInterrupted is what every call gives once the backend was cancelled: the
// engine is to return, so that the cancel can be raised.
var errInterrupted = fmt.Errorf("the session was interrupted: %w", context.Canceled)

// spi is a session.Session over the SPI of the backend the engine runs in.
type spi struct {
	host        *C.CourierHost
	interrupted bool
}

// Query implements session.Session.
func (s *spi) Query(_ context.Context, sql string, args ...any) ([]session.Row, error) {
	if s.interrupted {
		return nil, errInterrupted
	}
	statement := C.CString(sql)
	defer C.free(unsafe.Pointer(statement))
	cargs, release, err := textArguments(args)
	if err != nil {
		return nil, err
	}
	defer release()

	var rows C.CourierRows
	var failure C.CourierFailure
	if err := s.status(C.host_query(s.host, statement, C.int32_t(len(args)), cargs, &rows, &failure), &failure); err != nil {
		return nil, err
	}
	defer C.host_release(s.host, &rows)
	return copyRows(&rows), nil
}

// textArguments copies arguments into C memory.
func textArguments(args []any) (*C.CourierText, func(), error) {
	size := C.size_t(max(len(args), 1)) * C.size_t(unsafe.Sizeof(C.CourierText{}))
	memory := (*C.CourierText)(C.calloc(1, size))
	texts := unsafe.Slice(memory, max(len(args), 1))
	release := func() {
		for _, text := range texts {
			C.free(unsafe.Pointer(text.data))
		}
		C.free(unsafe.Pointer(memory))
	}
	for i, arg := range args {
		switch arg := arg.(type) {
		case nil:
		case string:
			texts[i].data, texts[i].length = C.CString(arg), C.int64_t(len(arg))
		case []byte:
			// a copy with a 0 behind it, and no second one: it may be large
			data := C.malloc(C.size_t(len(arg) + 1))
			ended := unsafe.Slice((*byte)(data), len(arg)+1)
			ended[copy(ended, arg)] = 0
			texts[i].data, texts[i].length = (*C.char)(data), C.int64_t(len(arg))
		default:
			release()
			return nil, nil, fmt.Errorf("pass parameter $%d: type %T is not text", i+1, arg)
		}
	}
	return memory, release, nil
}

func copyRows(rows *C.CourierRows) []session.Row {
	if rows.nrows == 0 {
		return nil
	}
	columns := int(rows.ncolumns)
	cells := unsafe.Slice(rows.cells, int(rows.nrows)*columns)
	result := make([]session.Row, rows.nrows)
	for r := range result {
		row := make(session.Row, columns)
		for c := range row {
			if cell := cells[r*columns+c]; cell.data != nil {
				row[c] = copyBytes(cell)
			}
		}
		result[r] = row
	}
	return result
}

func copyBytes(text C.CourierText) []byte {
	b := make([]byte, text.length)
	copy(b, unsafe.Slice((*byte)(unsafe.Pointer(text.data)), text.length))
	return b
}

// Pinned implements session.Session.
func (s *spi) Pinned(ctx context.Context, tables []string, f func() error) error {
	if s.interrupted {
		return errInterrupted
	}
	if C.host_has_transactions(s.host) != 0 {
		return s.inTransaction(func() error { return s.pinned(ctx, tables, f) })
	}
	return s.pinned(ctx, tables, f)
}

// inTransaction calls f, whose queries are then one transaction.
func (s *spi) inTransaction(f func() error) error {
	var failure C.CourierFailure
	if err := s.status(C.host_begin(s.host, &failure), &failure); err != nil {
		return fmt.Errorf("begin a consistent read: %w", err)
	}
	err := f()
	// Also after an error: what f does here it only reads.
	if endErr := s.status(C.host_end(s.host, &failure), &failure); err == nil && endErr != nil {
		err = fmt.Errorf("end a consistent read: %w", endErr)
	}
	return err
}

func (s *spi) pinned(ctx context.Context, tables []string, f func() error) error {
	if len(tables) > 0 {
		if _, err := s.Query(ctx, session.LockTables(tables)); err != nil {
			return fmt.Errorf("lock the tables against schema changes: %w", err)
		}
	}
	var failure C.CourierFailure
	if err := s.status(C.host_pin(s.host, &failure), &failure); err != nil {
		return err
	}
	defer C.host_unpin(s.host)
	return f()
}

// Share implements session.Session.
func (s *spi) Share(context.Context) (string, error) {
	if s.interrupted {
		return "", errInterrupted
	}
	var name *C.char
	var failure C.CourierFailure
	if err := s.status(C.host_share(s.host, &name, &failure), &failure); err != nil {
		return "", fmt.Errorf("share a consistent read: %w", err)
	}
	return C.GoString(name), nil
}

func (s *spi) status(status C.CourierStatus, failure *C.CourierFailure) error {
	switch status {
	case C.COURIER_OK:
		return nil
	case C.COURIER_INTERRUPTED:
		s.interrupted = true
		return errInterrupted
	}
	return &session.Error{
		SQLState: C.GoString(&failure.sqlstate[0]),
		Message:  C.GoString(failure.message),
		Detail:   C.GoString(failure.detail),
		Hint:     C.GoString(failure.hint),
		Context:  C.GoString(failure.context),
	}
}
