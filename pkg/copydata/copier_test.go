package copydata

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pg-courier/pg_courier/pkg/dblink"
	"github.com/pg-courier/pg_courier/pkg/session"
)

// panicking is a session that meets a defect.
type panicking struct{ session.Session }

func (panicking) Query(context.Context, string, ...any) ([]session.Row, error) { panic("at once") }

// A defect met by one of several lanes is an error of the copy: it does not end the
// process, which ships for others, too.
func TestPanicOfALane(t *testing.T) {
	table := &Table{Schema: "s", Name: "t"}
	c := New(Config{Now: time.Now, Stop: func() bool { return false },
		Open: func(context.Context) (session.Session, func(), error) { return panicking{}, func() {}, nil }})
	c.lanes = []*lane{{copier: c, session: panicking{}}, {copier: c, number: 1, session: panicking{}}}
	err := c.Run(t.Context(), Epoch{Until: time.Now().Add(time.Hour)}, []*Job{{table: table}, {table: table}})
	require.ErrorContains(t, err, "at once")
	require.Equal(t, dblink.Transient, dblink.Classify(err), "it is tried again, with pauses")
}
