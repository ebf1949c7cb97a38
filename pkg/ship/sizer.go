package ship

import "time"

const (
	// firstRows is how many changes the first piece has at most: the target
	// gets to work while the next is read.
	firstRows = 1000
	// fewestRows is what a piece may have however slow the target is.
	fewestRows = 50
	// pieceTime is how long the target should work on a piece. Longer ones gain
	// nothing, and hold up whatever waits behind them: an order to stop, the
	// next transaction.
	pieceTime = 400 * time.Millisecond

	// fewestBytes is what a piece of wide rows has on a fast link. Each piece is
	// copied from buffer to buffer on its way, on the target some eight times: more
	// than a processor's cache holds costs both sides up to a third more.
	fewestBytes = 1 << 20
	// mostBytes is what a piece has on a slow one, where the target would wait for
	// more small pieces than it saves.
	mostBytes = 4 << 20
	// bytesPerWay is how many bytes of queued messages keep a target busy for many
	// times as long as it waits for the next piece.
	bytesPerWay = 1 << 20 // a millisecond
)

// sizer finds out how many changes a piece may have: few for a slow target, as
// many as allowed for a fast one.
type sizer struct {
	rows int
	way  time.Duration // there and back, measured when there was nothing to do
}

// next is the most changes of the next piece, of at most limit.
func (z *sizer) next(limit int) int {
	if z.rows == 0 {
		z.rows = firstRows
	}
	return min(z.rows, limit)
}

// bytes is the most bytes of queued messages of the next piece.
func (z *sizer) bytes() int {
	return int(min(max(int64(z.way)*bytesPerWay/int64(time.Millisecond), fewestBytes), mostBytes))
}

// observe learns from a piece of so many changes that the target took so long
// for. Sizes at most double, and at most halve.
func (z *sizer) observe(rows int, took time.Duration, limit int) {
	work := took - z.way
	switch {
	case work > 2*pieceTime:
		z.rows = max(min(rows, z.rows)/2, fewestRows)
	case rows >= z.rows && work < pieceTime: // a smaller piece says little about large ones
		z.rows = min(2*z.rows, max(limit, fewestRows))
	}
}
