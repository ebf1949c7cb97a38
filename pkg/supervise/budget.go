package supervise

import (
	"context"
	"slices"
	"sync"
)

// budget counts the sessions of one database. Who waits for one gets it in
// turn. A second session, to read ahead, is a luxury: it is only given while each
// subscription could still have its first, since sessions that change hands all
// the time cost more than reading ahead gains.
type budget struct {
	mu      sync.Mutex
	limit   int
	loops   int // subscriptions
	used    int // luxuries included
	extra   int // luxuries
	waiting []chan struct{}
}

// setLimit changes the most sessions at once, and the number of subscriptions;
// sessions in use stay.
func (b *budget) setLimit(limit, loops int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit, b.loops = limit, loops
	b.serve()
}

// tryExtra takes a second session if it is free and nobody's first.
func (b *budget) tryExtra() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used >= b.limit || len(b.waiting) > 0 || b.extra >= b.limit-b.loops {
		return false
	}
	b.used++
	b.extra++
	return true
}

// releaseExtra gives a second session back.
func (b *budget) releaseExtra() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used--
	b.extra--
	b.serve()
}

// try takes a session if one is free that nobody waits for.
func (b *budget) try() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used >= b.limit || len(b.waiting) > 0 {
		return false
	}
	b.used++
	return true
}

// acquire waits for a session; false means that ctx ended first.
func (b *budget) acquire(ctx context.Context) bool {
	b.mu.Lock()
	turn := make(chan struct{})
	b.waiting = append(b.waiting, turn)
	b.serve()
	b.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(b.waiting, turn); i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
	} else { // it was served in the meantime
		b.used--
		b.serve()
	}
	return false
}

// release gives a session back.
func (b *budget) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used--
	b.serve()
}

// pressed says that somebody waits for a session.
func (b *budget) pressed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting) > 0
}

func (b *budget) serve() {
	for len(b.waiting) > 0 && b.used < b.limit {
		close(b.waiting[0])
		b.waiting = b.waiting[1:]
		b.used++
	}
}
