// Command engine is the Go half of the extension, built as a C shared library
// (pg_courier_engine.so) and opened by ext/pg/engine_loader.c in a backend that
// ships. It holds the exported entry points and the SPI form of a session;
// everything it does is in pkg/ship.
//
// Rules of the house, because the process is PostgreSQL's: no goroutine, since
// only the calling thread may call back; no signal handling, environment or work
// at start; every entry point recovers panics.
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../include
#include <stdlib.h>
#include "courier_engine.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"unsafe"

	"github.com/pg-courier/pg_courier/pkg/session"
	"github.com/pg-courier/pg_courier/pkg/ship"
)

// version is set by the linker.
var version = "unknown"

// memoryLimit keeps the collector from letting the heap of a backend grow far
// beyond what two batches need.
const memoryLimit = 128 << 20

func main() {}

// prepareRuntime fits Go's runtime to a backend. There is one thread to run Go
// code, ours; with a second processor at its disposal, the runtime's monitor wakes
// up fifty times after each call to see whether that could be of use.
func prepareRuntime() {
	debug.SetMemoryLimit(memoryLimit)
	if runtime.GOMAXPROCS(0) != 1 {
		runtime.GOMAXPROCS(1) // stops the world, so not again and again
	}
}

// courier_engine_ship ships one subscription, or all enabled ones if the name is
// NULL, in the calling backend.
//
//export courier_engine_ship
func courier_engine_ship(host *C.CourierHost, subscription *C.char) (outcome C.CourierOutcome) {
	defer recoverInto(&outcome)
	prepareRuntime()

	s := &spi{host: host}
	changes, err := shipNow(context.Background(), s, subscription)
	switch {
	case s.interrupted:
		return C.CourierOutcome{status: C.COURIER_INTERRUPTED}
	case err != nil:
		return failed(err)
	}
	return C.CourierOutcome{status: C.COURIER_OK, changes: C.int64_t(changes)}
}

// recoverInto makes a panic an error of the call. It is deferred.
func recoverInto(outcome *C.CourierOutcome) {
	if p := recover(); p != nil {
		*outcome = failed(&session.Error{SQLState: "XX000",
			Message: fmt.Sprintf("pg_courier's engine %s panicked: %v", version, p),
			Detail:  string(debug.Stack()),
			Hint:    "This is a defect of pg_courier; nothing was lost. Please report it with the detail."})
	}
}

func shipNow(ctx context.Context, s *spi, subscription *C.char) (int64, error) {
	if _, err := s.Query(ctx, "SELECT courier.require_administrator()"); err != nil {
		return 0, err
	}
	var names []string
	if subscription != nil {
		names = []string{C.GoString(subscription)}
	} else {
		assigned, err := ship.Assigned(ctx, s, "")
		if err != nil {
			return 0, err
		}
		for _, a := range assigned {
			names = append(names, a.Name)
		}
	}
	total := int64(0)
	for _, name := range names {
		beforeShip(name)
		shipper := ship.New(ship.Config{Session: s, Subscription: name, Shipper: "session", InTransaction: true})
		changes, err := shipper.Drain(ctx)
		total += changes
		if err != nil {
			return total, err
		}
		shipper.Close(ctx)
	}
	return total, nil
}

// failed makes an outcome of an error. Its texts are freed by
// courier_engine_free.
func failed(err error) C.CourierOutcome {
	outcome := C.CourierOutcome{status: C.COURIER_FAILED}
	state := ship.SQLState(err)
	if len(state) != 5 {
		state = "XX000"
	}
	for i := range 5 {
		outcome.failure.sqlstate[i] = C.char(state[i])
	}
	outcome.failure.message = C.CString(err.Error())
	var db *session.Error
	if errors.As(err, &db) {
		outcome.failure.detail = optional(db.Detail)
		outcome.failure.context = optional(db.Context)
	}
	outcome.failure.hint = optional(ship.Hint(err))
	return outcome
}

func optional(text string) *C.char {
	if text == "" {
		return nil
	}
	return C.CString(text)
}

// courier_engine_free frees what an outcome owns.
//
//export courier_engine_free
func courier_engine_free(outcome *C.CourierOutcome) {
	for _, text := range []*C.char{outcome.failure.message, outcome.failure.detail,
		outcome.failure.hint, outcome.failure.context} {
		C.free(unsafe.Pointer(text))
	}
	C.free(unsafe.Pointer(outcome.answer))
	outcome.answer, outcome.failure = nil, C.CourierFailure{}
}
