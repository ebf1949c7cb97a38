package copydata

import "time"

// A chunk is about as large as this, values out of line included: large enough for
// its commit not to count, and small enough to be done twice. A smaller table is
// cut into some chunks, too, for all lanes to have something to do.
const (
	largestChunk  = 8 << 20
	smallestChunk = 256 << 10
	fewestChunks  = 16
	// mostChunks bounds the plan of a part of a table, which is in memory.
	mostChunks = 1 << 18
)

// Where there is a rate, a chunk is no more than a lane may send in chunkTime: its
// transaction is open on the node that long, and an epoch lasts as long as the
// chunks that are under way at its end. Below slowestLane fewer lanes are at work, and
// below that again a chunk takes longer: smaller ones would be nothing but commits.
const (
	chunkTime        = 2 * time.Second
	slowestLane      = 64 << 10 // bytes a second
	slowestChunk     = 32 << 10
	statementsAChunk = 4
	// statementBytes is about how long a statement with rows is.
	statementBytes   = 1 << 20
	slowestStatement = 8 << 10
)

// sizes are what follows from a number of workers and a rate.
type sizes struct {
	lanes     int
	chunk     int64 // bytes, at most
	statement int
}

func sizesFor(workers int, rate int64) sizes {
	s := sizes{lanes: max(workers, 1), chunk: largestChunk, statement: statementBytes}
	if rate == 0 {
		return s
	}
	s.lanes = int(min(int64(s.lanes), max(rate/slowestLane, 1)))
	share := int64(float64(rate) / float64(s.lanes) * chunkTime.Seconds())
	s.chunk = min(max(share, slowestChunk), largestChunk)
	s.statement = int(min(max(share/statementsAChunk, slowestStatement), statementBytes))
	return s
}

// chunkOf is how large the chunks of a part of a table are.
func (s *sizes) chunkOf(part int64) int64 {
	return max(min(max(part/fewestChunks, smallestChunk), s.chunk), part/mostChunks+1)
}
