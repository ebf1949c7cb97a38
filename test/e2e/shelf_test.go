package e2e

import (
	"math/rand/v2"
	"sync"
)

// shelfSize bounds the transactions that are prepared at a time; each of them
// keeps others from its rows.
const shelfSize = 12

// shelf holds prepared transactions until many others have ended and the target
// has moved on several times.
type shelf struct {
	mu       sync.Mutex
	random   *rand.Rand
	reserved int // prepared or about to be
	prepared []preparedTransaction

	settled   int   // ended while the others ran
	leastSpan int64 // positions of the target between prepare and end, the fewest of these
}

type preparedTransaction struct {
	name        string
	dueEnded    int64 // transactions to have ended
	duePosition int64 // positions of the target to have been seen
	position    int64 // seen when it was prepared
}

// reserve takes a place; false when there is none.
func (s *shelf) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reserved >= shelfSize {
		return false
	}
	s.reserved++
	return true
}

func (s *shelf) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved--
}

// put shelves a transaction that was prepared in a reserved place.
func (s *shelf) put(name string, ended, position int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = append(s.prepared, preparedTransaction{name: name, position: position,
		dueEnded: ended + 50 + s.random.Int64N(600), duePosition: position + 3 + s.random.Int64N(10)})
}

// due takes a transaction that has waited long enough off the shelf and returns
// the statement that ends it, or "".
func (s *shelf) due(ended, position int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, tx := range s.prepared {
		if ended >= tx.dueEnded && position >= tx.duePosition {
			s.settled++
			if span := position - tx.position; s.settled == 1 || span < s.leastSpan {
				s.leastSpan = span
			}
			return s.take(i)
		}
	}
	return ""
}

// any takes any transaction, as due does.
func (s *shelf) any() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prepared) == 0 {
		return ""
	}
	return s.take(s.random.IntN(len(s.prepared)))
}

// take needs s.mu.
func (s *shelf) take(i int) string {
	tx := s.prepared[i]
	s.prepared = append(s.prepared[:i], s.prepared[i+1:]...)
	s.reserved--
	if s.random.IntN(3) == 0 {
		return "ROLLBACK PREPARED '" + tx.name + "'"
	}
	return "COMMIT PREPARED '" + tx.name + "'"
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.prepared)
}
