package ship

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/pg-courier/pg_courier/pkg/dblink"
)

// Every unit leaves a dead row in courier_target.progress. While somebody on the
// target holds a snapshot open, vacuum can't remove them, and each unit would have
// to look at all those before it. So the table is written anew when it has grown.
const (
	tidyEvery = time.Second // at most
	tidyUnits = 100         // and after so many units
	tidyBytes = 128 << 10   // if it is larger than this
)

// tidying is when courier_target.progress was last looked at.
type tidying struct {
	units int
	at    time.Time
	limit int64 // size up to which it is left alone
}

// tidy has the target's progress table written anew if it is due. Nothing may be
// in flight, nor a transaction open on the target.
func (s *Shipper) tidy(ctx context.Context) error {
	t := &s.tidying
	if s.inTransaction || t.units < tidyUnits || s.now().Sub(t.at) < tidyEvery {
		return nil
	}
	t.at = s.now()
	t.limit = max(t.limit, tidyBytes)
	rows, err := s.link.Query(ctx, "SELECT pg_catalog.pg_relation_size('courier_target.progress'), courier_target.compact("+
		strconv.FormatInt(t.limit, 10)+")", 2)
	if err != nil {
		if dblink.Classify(err) == dblink.Unknown {
			return err
		}
		// Somebody reads the table. What is to be shipped goes on; it is due still.
		s.log.Debug("compact the progress on the node", "subscription", s.name, "error", err.Error())
		return nil
	}
	t.units = 0
	before, err1 := strconv.ParseInt(string(rows[0][0]), 10, 64)
	size, err2 := strconv.ParseInt(string(rows[0][1]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if rewritten := size < before; rewritten {
		t.limit = max(tidyBytes, 3*size) // what is alive may take that much
	}
	return nil
}
