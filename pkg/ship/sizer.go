package ship

import "time"

const (
	// firstRows is how many rows the first piece has at most on a fast link: the
	// target gets to work while the next is read, and shows how fast it is.
	firstRows = 1000
	// firstPerWay is how many it has on a slow one: the way takes longer than they do.
	firstPerWay = 200 // a millisecond
	// fewestRows is what a piece may have however slow the target is.
	fewestRows = 50
	// standardRows is what a piece may have on a fast link.
	standardRows = 10000
	// mostRows is what it may have on a slow one.
	mostRows = 10 * standardRows
	// rowsPerWay is how many rows keep a target busy for many times as long as it
	// waits for the next piece.
	rowsPerWay = 2500 // a millisecond
	// pieceTime is how long the target should work on a piece. Longer ones gain
	// nothing, and hold up whatever waits behind them: an order to stop, the
	// next transaction.
	pieceTime = 400 * time.Millisecond
	// mostGrowth is how many times as many rows as one piece the next may have.
	mostGrowth = 16

	// fewestBytes is what a piece of wide rows has on a fast link. Each piece is
	// copied from buffer to buffer on its way, on the target some eight times: more
	// than a processor's cache holds costs both sides up to a third more.
	fewestBytes = 1 << 20
	// mostBytes is what a piece has on a slow one, where the target would wait for
	// more small pieces than it saves.
	mostBytes = 8 << 20
	// foldedBytes is what is read for a piece, however little its changes come to:
	// the target gains nothing from more.
	foldedBytes = 2 << 20
	// bytesPerWay is the same as rowsPerWay.
	bytesPerWay = 1 << 20 // a millisecond
)

// sizer finds out how much a piece may have: few rows for a slow target, as many as
// allowed for a fast one, more of them where the way is long.
type sizer struct {
	rows int
	way  time.Duration // there and back, measured when there was nothing to do
}

// limit is the most rows of any piece where the options say nothing.
func (z *sizer) limit() int { return z.perWay(rowsPerWay, standardRows, mostRows) }

// bytes is the most bytes of queued messages of a piece where the options say nothing.
func (z *sizer) bytes() int { return z.perWay(bytesPerWay, fewestBytes, mostBytes) }

func (z *sizer) perWay(n, least, most int) int {
	return int(min(max(int64(z.way)*int64(n)/int64(time.Millisecond), int64(least)), int64(most)))
}

// next is the most rows of the next piece, of at most limit.
func (z *sizer) next(limit int) int {
	if z.rows == 0 {
		z.rows = z.perWay(firstPerWay, firstRows, standardRows)
	}
	return min(z.rows, limit)
}

// observe learns from a piece of so many rows that the target took so long for. Sizes
// grow to what the target does in the time it should have, and at most halve.
func (z *sizer) observe(rows int, took time.Duration, limit int) {
	work := max(took-z.way, 1)
	switch {
	case work > 2*pieceTime:
		z.rows = max(min(rows, z.rows)/2, fewestRows)
	case rows >= z.rows && work < pieceTime: // a smaller piece says little about large ones
		growth := min(max(int(pieceTime/work), 2), mostGrowth)
		z.rows = min(growth*z.rows, max(limit, fewestRows))
	}
}

// space is what a piece may have.
type space struct {
	rows, bytes int
	// said is whether the options say so. Then it is of what is read; else of what
	// that comes to, so that many changes of a few rows are one piece.
	saidRows, saidBytes bool
}

// space is that of the next piece. Written row by row it has no more on a slow link:
// what is known of the target's pace is of sets.
func (s *Shipper) space(rowByRow bool) space {
	o, rows := &s.sub.Options, s.sizer.next(s.mostRows())
	if rowByRow {
		rows = min(rows, standardRows)
	}
	return space{
		rows: rows, saidRows: o.BatchRows != "",
		bytes: numberOr(o.BatchBytes, s.sizer.bytes()), saidBytes: o.BatchBytes != "",
	}
}

// mostRows is the most rows of any piece.
func (s *Shipper) mostRows() int { return numberOr(s.sub.Options.BatchRows, s.sizer.limit()) }

// full says that a piece has all it may have.
func (c *cutter) full(p *piece) bool {
	a, rows, bytes := &c.space, p.changes, p.bytes
	if rows < a.rows && bytes < a.bytes {
		return false
	}
	net := c.net(p)
	if !a.saidRows {
		rows = net
	}
	if !a.saidBytes && bytes < foldedBytes {
		bytes = int(int64(bytes) * int64(net) / int64(max(p.changes, 1)))
	}
	return rows >= a.rows || bytes >= a.bytes
}

// net is how many rows the target has to write of a piece that is being cut.
func (c *cutter) net(p *piece) int {
	if p.rows {
		return p.changes
	}
	return c.shipper.fold.Len()
}
