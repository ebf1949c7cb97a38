package change

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawSnapshot(t *rapid.T, label string) Snapshot {
	xmin := rapid.Uint64Range(1, 1<<40).Draw(t, label+" xmin")
	width := rapid.Uint64Range(0, 50).Draw(t, label+" width")
	s := Snapshot{Xmin: xmin, Xmax: xmin + width}
	for xid := s.Xmin; xid < s.Xmax; xid++ {
		if rapid.Bool().Draw(t, label+" in progress") {
			s.InProgress = append(s.InProgress, xid)
		}
	}
	return s
}

func TestPositionRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Position{Start: drawSnapshot(t, "start")}
		if rapid.Bool().Draw(t, "inside an interval") {
			end := drawSnapshot(t, "end")
			p.End = &end
			p.K = LSN(rapid.Uint64().Draw(t, "k"))
			p.XID = rapid.Uint64().Draw(t, "xid")
		}
		got, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, got)
	})
}

func TestSnapshotVisible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawSnapshot(t, "snapshot")
		for xid := s.Xmin - 1; xid <= s.Xmax+1; xid++ {
			want := xid < s.Xmax && !slices.Contains(s.InProgress, xid)
			require.Equal(t, want, s.Visible(xid), "xid %d in %s", xid, s)
		}
	})
}

func TestParseSnapshotForms(t *testing.T) {
	t.Parallel()
	s, err := ParseSnapshot("10:20:10,14,14")
	require.NoError(t, err)
	require.Equal(t, Snapshot{Xmin: 10, Xmax: 20, InProgress: []uint64{10, 14}}, s)
	for _, bad := range []string{
		"", "10", "10:20", "10:20:1", "10:20:20", "10:20:15,12", "20:10:", "0:1:", "a:b:", "10:20:,", "10:20:11,", "10:20::", "-1:3:",
	} {
		_, err := ParseSnapshot(bad)
		require.Error(t, err, "%q", bad)
	}
}

func TestParsePositionRejects(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "1:2:|", "1:2:|1:3:|0/0", "1:2:|1:3:|0|1", "1:2:|1:3:|0/0|x", "1:2:|1|0/0|1", "1:2:|1:3:|0/0|1|2"} {
		_, err := ParsePosition(bad)
		require.Error(t, err, "%q", bad)
	}
}

func TestLSN(t *testing.T) {
	t.Parallel()
	require.Equal(t, "16/B374D848", LSN(0x16B374D848).String())
	rapid.Check(t, func(t *rapid.T) {
		l := LSN(rapid.Uint64().Draw(t, "lsn"))
		got, err := ParseLSN(l.String())
		require.NoError(t, err)
		require.Equal(t, l, got)
	})
	for _, bad := range []string{"", "/", "1", "1/", "/1", "1/2/3", "123456789/0", "g/0", "+1/0"} {
		_, err := ParseLSN(bad)
		require.Error(t, err, "%q", bad)
	}
}

func FuzzParsePosition(f *testing.F) {
	f.Add("10:20:10,14")
	f.Add("10:20:10,14|10:22:|16/B374D848|19")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePosition(s)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
	})
}
