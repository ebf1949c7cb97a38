package main

/*
#include <stdlib.h>
#include "courier_engine.h"
*/
import "C"

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/compare"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// comparisonRequest is what courier.run_comparison() takes.
type comparisonRequest struct {
	Tables  []uint32 `json:"tables"` // OIDs; null: all
	MaxKeys int      `json:"max_keys"`
	Timeout int64    `json:"timeout"` // milliseconds
	Repair  string   `json:"repair"`  // nothing, print or resend
}

// courier_engine_compare compares the tables of a subscription in the calling
// backend.
//
//export courier_engine_compare
func courier_engine_compare(host *C.CourierHost, subscription, request *C.char) (outcome C.CourierOutcome) {
	defer recoverInto(&outcome)
	debug.SetMemoryLimit(memoryLimit)

	s := &spi{host: host}
	tables, err := compareNow(context.Background(), s, C.GoString(subscription), C.GoString(request))
	switch {
	case s.interrupted:
		return C.CourierOutcome{status: C.COURIER_INTERRUPTED}
	case err != nil:
		return failed(err)
	}
	return C.CourierOutcome{status: C.COURIER_OK, answer: C.CString(string(compare.JSON(tables)))}
}

func compareNow(ctx context.Context, s *spi, subscription, text string) ([]compare.Table, error) {
	var request comparisonRequest
	if err := json.Unmarshal([]byte(text), &request); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	repair := map[string]compare.Repair{"nothing": compare.Nothing, "print": compare.Print, "resend": compare.Resend}
	return compare.Run(ctx, compare.Config{Session: s, Subscription: subscription, Tables: request.Tables, MaxKeys: request.MaxKeys,
		Timeout: time.Duration(request.Timeout) * time.Millisecond, Repair: repair[request.Repair], InTransaction: true,
		Progress: announcer(ctx, s)})
}

// announceEvery is between two notices of progress.
const announceEvery = 10 * time.Second

// announcer tells the client, with notices, how a long comparison gets on.
func announcer(ctx context.Context, s session.Session) func(compare.Progress) {
	last := time.Now()
	return func(p compare.Progress) {
		if time.Since(last) < announceEvery {
			return
		}
		last = time.Now()
		// one that does not get through is only a notice less
		_, _ = s.Query(ctx, "SELECT courier.announce_comparison($1, $2, $3::pg_catalog.int4, $4::pg_catalog.int8)",
			p.Table, p.Step, strconv.Itoa(int(100*p.Part)), strconv.FormatInt(p.Found, 10))
	}
}
