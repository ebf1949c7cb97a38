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
